// SPDX-License-Identifier: Apache-2.0

// The attention layer of width 2048, in turns with the products of its projections alone.

#include "cuda/row.cuh"

#include <lightnet/model/attention.hpp>

#include <memory>

namespace bench {
namespace {

using T = ln::bfloat16;
using matrix = ln::tensor<ln::rank<2>, T, ln::cuda>;
constexpr std::int64_t batch = 32, tokens = 2048, rows = batch * tokens;

struct options : ln::attention_options {
  static constexpr int width = 2048, heads = 16;
  using traversal = ln::causal;
};
using layer = ln::attention<options, 1, T, ln::cuda>;

/// Multiply-adds of the projections' weights with a token.
constexpr double weights = static_cast<double>(layer::parameter_count - layer::output_gate::parameter_count);

/// A layer and what it is given.
class whole_layer {
 public:
  void forward(ln::execution<ln::cuda>& on) {
    layer{}.forward(on, std::as_const(parameters_).for_layer(layer{}), at(x_), to(y_), context_);
  }
  void backward(ln::execution<ln::cuda>& on) {
    if (dx_.size() == 0) dx_.resize(x_.view().extents());
    layer{}.backward(on, std::as_const(parameters_).for_layer(layer{}), at(x_), at(dy_), to(dx_),
                     gradients_.for_layer(layer{}), context_);
  }

 private:
  using numbers = ln::tensor<ln::rank<3>, T, ln::cuda>;
  static ln::sequence<1, const T, ln::cuda> at(const numbers& x) { return x.view(); }
  static ln::sequence<1, T, ln::cuda> to(numbers& x) { return x.view(); }

  ln::parameter_block<T, ln::cuda> parameters_ = drawn_parameters<T>(layer{}), gradients_ = parameters_.like();
  numbers x_ = normal<T>(1, batch, tokens, layer::width), dy_ = normal<T>(2, batch, tokens, layer::width),
          y_{x_.view().extents()}, dx_;
  layer::context<ln::train> context_;
};

/// A product with weights, and those that pull gradients back through it.
class projection {
 public:
  projection(std::int64_t in, std::int64_t out)
      : weights_{normal<T>(1, out, in)}, dweights_{weights_.view().extents()} {}

  void forward(ln::execution<ln::cuda>& on, const ln::dynamic_view<2, const T, ln::cuda>& x,
               const ln::dynamic_view<2, T, ln::cuda>& y) const {
    ln::detail::gemm<T>(on, x, ln::detail::transposed(weights()), y, false);
  }
  void backward(ln::execution<ln::cuda>& on, const ln::dynamic_view<2, const T, ln::cuda>& x,
                const ln::dynamic_view<2, const T, ln::cuda>& dy, const ln::dynamic_view<2, T, ln::cuda>& dx) {
    ln::detail::gemm<T>(on, dy, weights(), dx, false);
    ln::detail::gemm<T>(on, ln::detail::transposed(dy), x, dweights_.view(), false);
  }

 private:
  ln::dynamic_view<2, const T, ln::cuda> weights() const { return weights_.view(); }

  matrix weights_, dweights_;  // [out, in]
};

/// The products of the layer.
class projections {
 public:
  void forward(ln::execution<ln::cuda>& on) {
    in_.forward(on, x_.view(), projected_.view());
    gate_.forward(on, first_gate(), y_.view());
    out_.forward(on, x_.view(), y_.view());
  }
  void backward(ln::execution<ln::cuda>& on) {
    in_.backward(on, x_.view(), projected_.view(), y_.view());
    gate_.backward(on, first_gate(), x_.view(), projected_.view().slice(1, layer::gate_column, layer::rank_of_gate));
    out_.backward(on, x_.view(), x_.view(), y_.view());
  }

 private:
  ln::dynamic_view<2, const T, ln::cuda> first_gate() const {
    return ln::dynamic_view<2, const T, ln::cuda>{projected_.view()}.slice(1, layer::gate_column, layer::rank_of_gate);
  }

  projection in_{layer::width, layer::projected}, gate_{layer::rank_of_gate, layer::width},
      out_{layer::width, layer::width};
  matrix x_ = normal<T>(2, rows, std::int64_t{layer::width}),
         projected_ = normal<T>(3, rows, std::int64_t{layer::projected}), y_{x_.view().extents()};
};

/// A row of `Call`, which both classes have a function for.
template <bool Backward>
void add_layer(const std::string& name) {
  const auto prepare = []<class Own>(std::shared_ptr<Own> own) -> gpu_call {
    return [own](ln::execution<ln::cuda>& on) {
      own->forward(on);
      if (Backward) own->backward(on);
    };
  };
  constexpr double passes = Backward ? 3 : 1, sequences = Backward ? 4 : 2;  // x, y; x, dy, dx, y
  constexpr double work = passes * 2 * weights * rows;
  add({"attention_layer/causal/" + name + "/bfloat16/b32/t2048/width2048",
       sequences * rows * layer::width * sizeof(T),
       work,
       [=] { return prepare(std::make_shared<whole_layer>()); },
       {work, [=] { return prepare(std::make_shared<projections>()); }}});
}

}  // namespace

void add_layer_rows() {
  add_layer<false>("forward");
  add_layer<true>("forward_and_backward");
}

}  // namespace bench
