// SPDX-License-Identifier: Apache-2.0
// GLU, block and trunk, with causal attention.
#include <lightnet/model/trunk.hpp>

#include "check.hpp"

namespace {

namespace ln = lightnet;
using numbers::list;

struct options : ln::block_options {
  static constexpr int width = 6, heads = 2, inner = 11, layers = 3;
  using traversal = ln::causal;
};

// GLU takes rows; here they come as tokens.
struct glu_of_tokens : ln::glu<6, 11, 3, double> {
  static constexpr int width = 6;
  template <class Mode>
  void forward(ln::execution<ln::cpu>& on, const ln::parameters_of<glu_of_tokens, const double>& params,
               const ln::sequence<1, const double>& x, const ln::sequence<1, double>& y, context<Mode>& kept) const {
    glu::template forward<Mode>(on, params, x.rows(), y.rows(), kept);
  }
  template <ln::write Write>
  void backward(ln::execution<ln::cpu>& on, const ln::parameters_of<glu_of_tokens, const double>& params,
                const ln::sequence<1, const double>& x, const ln::sequence<1, const double>& dy,
                const ln::sequence<1, double>& dx, const ln::parameters_of<glu_of_tokens, double>& dparams,
                const context<ln::train>& kept) const {
    glu::template backward<Write>(on, params, x.rows(), dy.rows(), dx.rows(), dparams, kept);
  }
};

}  // namespace

TEST_CASE("glu is its formula, with the gradients of finite differences") {
  check::tokens_question<glu_of_tokens, 1> q({{13}, 0, {}}, 3, false);
  check::model(q, "glu", reference::glu(q.parameters, "", q.x, 6));
  CHECK(ln::default_inner_width(384) == 1024);
  CHECK(ln::default_inner_width(48) == 128);
  CHECK(ln::default_inner_width(49) == 256);
  CHECK(ln::default_inner_width(768) == 2048);
  CHECK(ln::default_inner_width(1024) == 2816);
}

TEST_CASE("block and trunk are their formulas, with the gradients of finite differences") {
  check::tokens_question<ln::block<options, 1, double>, 1> one({{13}, 0, {}}, 2, true);
  check::model(one, "block", reference::block<options>(one.parameters, "", one.x, one.places()));
  check::tokens_question<ln::trunk<options, 1, double>, 1> all({{11}, 0, {}}, 3, false);
  check::model(all, "trunk", reference::trunk<options>(all.parameters, "", all.x, all.places()), 6);
  MESSAGE(oracle::gradient_report());
}

TEST_CASE("the gradient of a block may overwrite what comes in, and its output its input") {
  using layer = ln::block<options, 1, double>;
  check::tokens_question<layer, 1> q({{13}, 0, {}}, 2, false);
  ln::execution<ln::cpu> on(1);
  const list<double> y = check::forward<ln::train>(q), dy = numbers::normal(q.outputs(), 4);
  const check::gradients d = check::backward(q, dy, dy);
  layer::context<ln::train> context;
  list<double> to = numbers::unwritten(q.outputs()), both = dy,
               dparameters = numbers::unwritten(layer::parameter_count);
  q.forward(on, to, context);
  layer{}.backward(on, std::as_const(q.parameters).for_layer(layer{}), q.tokens(std::as_const(q.x).data()),
                   q.tokens(std::as_const(both).data()), q.tokens(both.data()), {dparameters.data(), {}}, context);
  CHECK(numbers::same_bits(both, d.x));
  CHECK(numbers::same_bits(dparameters, d.parameters));
  list<double> x = q.x;
  layer::context<ln::infer> nothing;
  layer{}.forward(on, std::as_const(q.parameters).for_layer(layer{}), q.tokens(std::as_const(x).data()),
                  q.tokens(x.data()), nothing);
  CHECK(numbers::same_bits(x, y));
}

TEST_CASE("a trunk names its parameters as flash-linear-attention does, and starts them as it should") {
  using layer = ln::trunk<options, 1, double>;
  auto all = ln::parameter_block<double>::of(layer{});
  std::vector<std::string> names;
  for (const ln::parameter& part : all.index()) names.push_back(part.name);
  std::vector<std::string> expected;
  for (const char* number : {"0", "1", "2"}) {
    for (const char* name :
         {"attn_norm", "attn.q_proj", "attn.k_proj", "attn.v_proj", "attn.g_proj.0", "attn.g_proj.1", "attn.g_norm",
          "attn.o_proj", "mlp_norm", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"}) {
      expected.push_back("layers." + std::string(number) + "." + name + ".weight");
    }
  }
  expected.push_back("norm.weight");
  CHECK(names == expected);
  const std::int64_t of_block = 2 * 6 + (4 * 6 * 6 + 2 * 3 * 6 + 6) + 3 * 6 * 11;
  CHECK(ln::block<options, 1, double>::parameter_count == of_block);
  CHECK(all.size() == 3 * of_block + 6);

  all.initialise(1);
  const auto deviation = [&](const std::string& name, double bound) {
    double squares = 0, worst = 0;
    const auto part = std::as_const(all)[name];
    for (std::int64_t i = 0; i < part.size(); ++i) {
      squares += part(i) * part(i);
      worst = std::max(worst, std::abs(part(i)));
    }
    CHECK(worst <= 2 * bound);
    return std::sqrt(squares / static_cast<double>(part.size()));
  };
  // Cut at two deviations, a normal number keeps 0.88 of its own; the samples are small.
  const double scaled = 0.02 / std::sqrt(6.0);
  for (const char* name : {"attn.q_proj", "attn.k_proj", "attn.v_proj", "mlp.gate_proj", "mlp.up_proj"}) {
    const double sigma = deviation("layers.1." + std::string(name) + ".weight", 0.02);
    CHECK(sigma > 0.7 * 0.88 * 0.02);
    CHECK(sigma < 1.3 * 0.88 * 0.02);
  }
  for (const char* name : {"attn.o_proj", "mlp.down_proj"}) {
    const double sigma = deviation("layers.1." + std::string(name) + ".weight", scaled);
    CHECK(sigma > 0.7 * 0.88 * scaled);
    CHECK(sigma < 1.3 * 0.88 * scaled);
  }
  for (const char* name : {"layers.0.attn_norm.weight", "layers.2.attn.g_norm.weight", "norm.weight"}) {
    for (std::int64_t i = 0; i < 6; ++i) CHECK(all[name](i) == 1);
  }
}

TEST_CASE("blocks and trunks name what does not fit and write nothing") {
  using layer = ln::trunk<options, 1, double>;
  using part = ln::block<options, 1, double>;
  check::tokens_question<layer, 1> q({{13}, 0, {}}, 2, false);
  ln::execution<ln::cpu> on(1);
  layer::context<ln::train> context;
  part::context<ln::train> context_of_part;
  glu_of_tokens::context<ln::train> context_of_glu;
  const auto params = std::as_const(q.parameters).for_layer(layer{});
  const ln::parameters_of<part, const double> params_of_part{params.data(), {}};
  const ln::parameters_of<glu_of_tokens, const double> params_of_glu{params.data(), {}};
  const auto x = q.tokens(std::as_const(q.x).data());
  const ln::sequence<1, const double> wide{numbers::view_of<3>(std::as_const(q.x), {1, 13, 12}), {{13}, 0, {}}};
  list<double> y = numbers::unwritten(q.outputs()), d = numbers::unwritten(layer::parameter_count);
  const auto to = q.tokens(y.data());
  const ln::parameters_of<layer, double> dparams{d.data(), {}};
  CHECK(numbers::message_of<ln::shape_error>([&] { layer{}.forward(on, params, wide, to, context); }) ==
        "lightnet: trunk::forward: x: expected [1, 13, 6], got [1, 13, 12]");
  CHECK(numbers::message_of<ln::shape_error>([&] { part{}.forward(on, params_of_part, wide, to, context_of_part); }) ==
        "lightnet: block::forward: x: expected [1, 13, 6], got [1, 13, 12]");
  CHECK(numbers::message_of<ln::shape_error>([&] {
          glu_of_tokens{}.forward(on, params_of_glu, wide, to, context_of_glu);
        }) == "lightnet: glu::forward: x: expected [13, 6] with dense rows, got [13, 12]");
  CHECK(numbers::message_of<ln::device_error>([&] { layer{}.forward(on, params, x, {}, context); }) ==
        "lightnet: trunk::forward: y: expected a view of memory, got a null pointer");
  CHECK(numbers::message_of<ln::shape_error>([&] { layer{}.backward(on, params, x, x, to, dparams, context); }) ==
        "lightnet: trunk::backward: context: expected what forward keeps for x, [26, 6], got [0, 0]");
  CHECK(numbers::message_of<ln::device_error>([&] { layer{}.backward(on, params, x, {}, to, dparams, context); }) ==
        "lightnet: trunk::backward: dy: expected a view of memory, got a null pointer");
  CHECK(numbers::message_of<ln::shape_error>([&] {
          part{}.backward(on, params_of_part, x, x, to, {d.data(), {}}, context_of_part);
        }) == "lightnet: block::backward: context: expected what forward keeps for x, [26, 6], got [0, 0]");
  for (const double a : y) CHECK(std::isnan(a));
  for (const double a : d) CHECK(std::isnan(a));
}

// For the whole program, see ../layer/gemm.hpp.
template void lightnet::detail::gemm<double>(lightnet::execution<lightnet::cpu>&,
                                             const lightnet::dynamic_view<2, const double, lightnet::cpu>&,
                                             const lightnet::dynamic_view<2, const double, lightnet::cpu>&,
                                             const lightnet::dynamic_view<2, double, lightnet::cpu>&, bool);
