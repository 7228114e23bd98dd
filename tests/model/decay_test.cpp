// SPDX-License-Identifier: Apache-2.0
// Attention with each recurrence that decays, or whose order matters: the mixers that the paper compares LightNet with.
#include <lightnet/model/attention.hpp>

#include "check.hpp"

namespace {

namespace ln = lightnet;
using numbers::list;

template <class Recurrence, class Traversal>
struct options : ln::attention_options {
  static constexpr int width = 10, heads = 2, gate_rank = 9, decay_rank = 7;
  using recurrence = Recurrence;
  using traversal = Traversal;
  using position = ln::md_lrpe;
};

struct wide : options<ln::scalar_decay, ln::causal> {
  static constexpr int width = 28, heads = 4;
  static constexpr double initial_gain = 1;
};

struct retnet : ln::constant_decay {
  static double default_log_decay(std::int64_t h, std::int64_t heads) noexcept {
    return ln::constant_decay::retnet(h, heads);
  }
};

template <class Options>
void check_attention(const std::string& name, bool masked, const ln::grid<2>& where) {
  check::tokens_question<ln::attention<Options, 2, double>, 2> q(where, 3, masked);
  check::model(q, name, reference::attention<Options>(q.parameters, "", q.x, q.places()), 6);
}

template <class Options>
std::vector<ln::parameter> parameters_of() {
  std::vector<ln::parameter> all;
  ln::attention<Options, 2, double>{}.describe("", 0, all);
  return all;
}

template <class Recurrence>
std::vector<std::string> names_of() {
  std::vector<std::string> names;
  for (const ln::parameter& part : parameters_of<options<Recurrence, ln::bidirectional>>()) names.push_back(part.name);
  return names;
}

}  // namespace

namespace reference {
template <>
struct formula<retnet> : formula<ln::constant_decay> {
  static double rate(double h, double) { return std::log(1 - std::exp2(-4 - h)); }
};
}  // namespace reference

TEST_CASE_TEMPLATE("attention with a decay is its formula, with the gradients of finite differences", Decay, retnet,
                   ln::scalar_decay, ln::vector_decay, ln::hgrn2, ln::additive_plain,
                   ln::signed_decay<ln::scalar_decay>, ln::signed_decay<ln::vector_decay>) {
  const std::string name = Decay::name;
  check_attention<options<Decay, ln::causal>>(name + " causal", false, {{3, 5}, 0, {2, 1}});
  check_attention<options<Decay, ln::causal>>(name + " causal with mask and prefix", true, {{3, 5}, 2, {}});
  check_attention<options<Decay, ln::bidirectional>>(name + " bidirectional", false, {{3, 5}, 0, {}});
  check_attention<options<Decay, ln::bidirectional>>(name + " bidirectional with mask and prefix", true,
                                                     {{3, 5}, 1, {}});
  check_attention<options<Decay, ln::axial>>(name + " axial", false, {{5, 3}, 0, {}});
  check_attention<options<Decay, ln::axial>>(name + " axial with mask", true, {{3, 5}, 0, {4, 1}});
  MESSAGE(oracle::gradient_report());
}

TEST_CASE_TEMPLATE("a masked token matters to no decay", Decay, ln::scalar_decay, ln::vector_decay, ln::hgrn2,
                   ln::signed_decay<ln::vector_decay>) {
  using layer = ln::attention<options<Decay, ln::axial>, 2, double>;
  check::masked_tokens(check::tokens_question<layer, 2>({{3, 5}, 0, {}}, 4, true));
}

TEST_CASE("what decays are made of has the names of flash-linear-attention") {
  const list<std::string> constant{"q_proj.weight",   "k_proj.weight", "v_proj.weight", "g_proj.0.weight",
                                   "g_proj.1.weight", "g_norm.weight", "o_proj.weight"};
  CHECK(names_of<ln::constant_decay>() == constant);
  CHECK(names_of<ln::signed_decay<ln::constant_decay>>() == constant);
  list<std::string> vector = constant;
  vector.insert(vector.begin() + 4, "gk_proj.0.weight");
  vector.push_back("gk_proj.1.weight");
  CHECK(names_of<ln::vector_decay>() == vector);
  CHECK(names_of<ln::signed_decay<ln::vector_decay>>() == vector);
  list<std::string> hgrn2 = constant;
  hgrn2.insert(hgrn2.begin() + 4, "f_proj.weight");
  hgrn2.erase(hgrn2.begin() + 1);
  CHECK(names_of<ln::hgrn2>() == hgrn2);
  list<std::string> scalar = constant;
  scalar.insert(scalar.begin() + 4, "a_proj.weight");
  CHECK(names_of<ln::signed_decay<ln::scalar_decay>>() == scalar);
  scalar.insert(scalar.end(), {"A_log", "dt_bias"});
  CHECK(names_of<ln::scalar_decay>() == scalar);
  list<std::string> plain = constant;
  plain.insert(plain.begin() + 4, "logits_proj.weight");
  CHECK(names_of<ln::additive_plain>() == plain);
  CHECK(names_of<ln::additive_plain_per_head>() == plain);
}

TEST_CASE("what decays are made of has its sizes, and starts as it should") {
  const auto size_with = [](auto decay) {
    return ln::attention<options<decltype(decay), ln::bidirectional>, 2, double>::parameter_count;
  };
  const std::int64_t without = 4 * 100 + 2 * 9 * 10 + 10;
  CHECK(size_with(ln::constant_decay{}) == without);
  CHECK(size_with(ln::vector_decay{}) == without + 2 * 7 * 10);
  CHECK(size_with(ln::hgrn2{}) == without);
  CHECK(size_with(ln::scalar_decay{}) == without + 2 * 10 + 2 * 2);
  CHECK(size_with(ln::signed_decay<ln::scalar_decay>{}) == without + 2 * 10);
  CHECK(size_with(ln::additive_plain{}) == without + 100);
  CHECK(size_with(ln::additive_plain_per_head{}) == without + 2 * 10);

  std::int64_t offset = 0;
  for (const ln::parameter& part : parameters_of<wide>()) {
    CAPTURE(part.name);
    CHECK(part.offset == offset);
    offset += part.size();
    CHECK(part.decays == (part.shape.size() == 2));
    if (part.name == "a_proj.weight") CHECK(part.shape == std::vector<std::int64_t>{4, 28});
  }
  auto all = ln::parameter_block<double>::of(ln::attention<wide, 2, double>{});
  CHECK(all.size() == offset);
  all.initialise(1);
  for (std::int64_t h = 0; h < 4; ++h) {
    CHECK(std::exp(all["A_log"](h)) == doctest::Approx(std::pow(2.0, static_cast<double>(h + 1))));
    CHECK(std::log1p(std::exp(all["dt_bias"](h))) == doctest::Approx(0.01));
  }
}

TEST_CASE("axial attention refuses tokens that have no place, and writes nothing") {
  using layer = ln::attention<options<ln::hgrn2, ln::axial>, 2, double>;
  check::tokens_question<layer, 2> q({{3, 5}, 1, {}}, 3, false);
  ln::execution<ln::cpu> on(1);
  layer::context<ln::train> context;
  list<double> y = numbers::unwritten(q.outputs());
  CHECK(numbers::message_of<ln::value_error>([&] { q.forward(on, y, context); }) ==
        "lightnet: attention::forward: x.grid.prefix: expected zero, for lines along axes go through places, got 1");
  for (const double a : y) CHECK(std::isnan(a));

  check::tokens_question<layer, 2> placed({{2, 8}, 0, {}}, 3, false);  // as many tokens
  placed.forward(on, y, context);
  list<double> d = numbers::unwritten(q.outputs()), dparameters = numbers::unwritten(layer::parameter_count);
  CHECK(
      numbers::message_of<ln::value_error>([&] { q.backward<ln::write::overwrite>(on, y, d, dparameters, context); }) ==
      "lightnet: attention::backward: x.grid.prefix: expected zero, for lines along axes go through places, got 1");
  for (const double a : d) CHECK(std::isnan(a));
  for (const double a : dparameters) CHECK(std::isnan(a));
}
