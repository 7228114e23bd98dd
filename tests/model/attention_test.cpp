// SPDX-License-Identifier: Apache-2.0
// LightNet attention as the paper has it: additive, one global scan over a grid, MD-LRPE inside; all its options.
#include <lightnet/model/attention.hpp>

#include "check.hpp"

namespace {

namespace ln = lightnet;
using numbers::list;

struct paper : ln::attention_options {
  static constexpr int width = 10, heads = 2;
  using position = ln::md_lrpe;
};
struct later_code : paper {
  static constexpr ln::gate_form gate = ln::gate_form::gate_then_norm;
  static constexpr bool norm_per_head = true;
  static constexpr int gate_rank = 3;
  static constexpr bool learned_theta = true;
};
struct learned_per_head : paper {
  static constexpr bool learned_theta = true;
  static constexpr bool theta_per_head = true;
  static constexpr bool norm_per_head = true;
};
struct eight_layers : learned_per_head {
  static constexpr int layers = 8, gate_rank = 3;
};

template <class Recurrence, class Traversal>
struct with : paper {
  static constexpr int gate_rank = 9;
  using recurrence = Recurrence;
  using traversal = Traversal;
};

template <class Options>
void check_attention(const std::string& name, bool masked, const ln::grid<2>& where) {
  check::tokens_question<ln::attention<Options, 2, double>, 2> q(where, 3, masked);
  check::model(q, name, reference::attention<Options>(q.parameters, "", q.x, q.places()));
}

}  // namespace

TEST_CASE("attention with one global scan is its formula, with the gradients of finite differences") {
  check_attention<paper>("attention", false, {{3, 5}, 0, {}});
  check_attention<paper>("attention with mask, prefix and offset", true, {{3, 5}, 2, {4, 1}});
  check_attention<later_code>("attention as in the later code, learned theta", true, {{3, 5}, 1, {}});
  check_attention<learned_per_head>("attention with learned theta per head", false, {{3, 5}, 0, {}});
  MESSAGE(oracle::gradient_report());
}

TEST_CASE_TEMPLATE("attention with logits of its own is its formula, with the gradients of finite differences",
                   Recurrence, ln::additive_gated, ln::additive_gated_per_head) {
  const std::string name = Recurrence::name;
  check_attention<with<Recurrence, ln::global>>(name + " global", false, {{3, 5}, 0, {}});
  check_attention<with<Recurrence, ln::global>>(name + " global with mask and prefix", true, {{3, 5}, 2, {4, 1}});
  check_attention<with<Recurrence, ln::causal>>(name + " causal", false, {{3, 5}, 1, {}});
  check_attention<with<Recurrence, ln::causal>>(name + " causal with mask", true, {{3, 5}, 0, {}});
  check_attention<with<Recurrence, ln::bidirectional>>(name + " bidirectional", false, {{3, 5}, 0, {}});
  check_attention<with<Recurrence, ln::bidirectional>>(name + " bidirectional with mask", true, {{3, 5}, 2, {}});
  check_attention<with<Recurrence, ln::axial>>(name + " axial", false, {{5, 3}, 0, {}});
  check_attention<with<Recurrence, ln::axial>>(name + " axial with mask", true, {{3, 5}, 0, {4, 1}});
  MESSAGE(oracle::gradient_report());
}

TEST_CASE("a masked token of attention comes out as 0, and neither its values nor its gradient matter") {
  using layer = ln::attention<later_code, 2, double>;
  check::masked_tokens(check::tokens_question<layer, 2>({{3, 5}, 0, {}}, 2, true));
}

TEST_CASE("attention names its parameters as flash-linear-attention does") {
  std::vector<ln::parameter> all;
  const auto find = [&](const std::string& name) {
    for (const ln::parameter& part : all) {
      if (part.name == name) return part;
    }
    FAIL("no parameter " << name);
    return ln::parameter{};
  };
  using options = eight_layers;
  ln::attention<options, 2, double>{}.describe("attn.", 7, all);
  std::vector<std::string> names;
  std::int64_t offset = 7;
  for (const ln::parameter& part : all) {
    names.push_back(part.name);
    CHECK(part.offset == offset);
    offset += part.size();
    CHECK(part.decays == (part.shape.size() == 2 && part.name != "attn.theta"));
  }
  CHECK(offset == 7 + ln::attention<options, 2, double>::parameter_count);
  CHECK(names == std::vector<std::string>{"attn.q_proj.weight", "attn.k_proj.weight", "attn.v_proj.weight",
                                          "attn.g_proj.0.weight", "attn.g_proj.1.weight", "attn.g_norm.weight",
                                          "attn.o_proj.weight", "attn.theta"});
  CHECK(find("attn.q_proj.weight").shape == std::vector<std::int64_t>{10, 10});
  CHECK(find("attn.g_proj.0.weight").shape == std::vector<std::int64_t>{3, 10});
  CHECK(find("attn.g_proj.1.weight").shape == std::vector<std::int64_t>{10, 3});
  CHECK(find("attn.theta").shape == std::vector<std::int64_t>{2, 3});
  CHECK(find("attn.k_proj.weight").initial.value == 0.02);
  CHECK(find("attn.o_proj.weight").initial.value == doctest::Approx(0.02 / 4));
  CHECK(ln::attention<paper, 2, double>::parameter_count == 3 * 100 + 2 * 5 * 10 + 10 + 100);
}

TEST_CASE("learned theta starts as the theta of the encoding, so that learning starts from the same function") {
  auto fixed = ln::parameter_block<double>::of(ln::attention<paper, 2, double>{});
  auto free = ln::parameter_block<double>::of(ln::attention<learned_per_head, 2, double>{});
  free.initialise(3);
  const auto theta = oracle::lrpe_theta(oracle::encoding::cosine, 5, 2);
  REQUIRE(free["theta"].size() == 6);
  for (std::int64_t i = 0; i < 6; ++i) {
    CHECK(free["theta"](i) ==
          doctest::Approx(static_cast<double>(theta[static_cast<std::size_t>(i % 3)])).epsilon(1e-14));
  }
}

TEST_CASE("attention names what does not fit and writes nothing") {
  using layer = ln::attention<paper, 2, double>;
  check::tokens_question<layer, 2> q({{3, 5}, 0, {}}, 2, false);
  ln::execution<ln::cpu> on(1);
  layer::context<ln::train> context;
  const auto params = std::as_const(q.parameters).for_layer(layer{});
  const auto x = q.tokens(std::as_const(q.x).data());
  list<double> y = numbers::unwritten(q.outputs()), d = numbers::unwritten(layer::parameter_count);
  const auto to = q.tokens(y.data());
  const ln::parameters_of<layer, double> dparams{d.data(), {}};
  CHECK(numbers::message_of<ln::shape_error>([&] {
          layer{}.forward(on, params, {numbers::view_of<3>(std::as_const(q.x), {3, 15, 6}), q.where}, to, context);
        }) == "lightnet: attention::forward: x: expected [3, 15, 10], got [3, 15, 6]");
  CHECK(numbers::message_of<ln::device_error>([&] { layer{}.forward(on, params, x, {}, context); }) ==
        "lightnet: attention::forward: y: expected a view of memory, got a null pointer");
  CHECK(numbers::message_of<ln::device_error>([&] { layer{}.forward(on, {}, x, to, context); }) ==
        "lightnet: attention::forward: params: expected a view of memory, got a null pointer");
  CHECK(numbers::message_of<ln::shape_error>([&] { layer{}.backward(on, params, x, x, to, dparams, context); }) ==
        "lightnet: attention::backward: context: expected what forward keeps for x, [30, 35], got [0, 0]");
  CHECK(numbers::message_of<ln::device_error>([&] { layer{}.backward(on, params, x, x, to, {}, context); }) ==
        "lightnet: attention::backward: dparams: expected a view of memory, got a null pointer");
  for (const double a : y) CHECK(std::isnan(a));
  for (const double a : d) CHECK(std::isnan(a));
}
