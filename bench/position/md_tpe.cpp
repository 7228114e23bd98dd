// SPDX-License-Identifier: Apache-2.0
#include "baseline/md_tpe.hpp"
#include "harness/operands.hpp"
#include "rows.hpp"

#include <lightnet/position/md_tpe.hpp>

#include <utility>

namespace bench {

namespace {

constexpr int modes = plain::tpe_picture::modes;

/// One head of a line of 512 tokens, or of a picture of 8 x 64.
struct plain_encoding {
  static constexpr std::int64_t tokens = 512;

  problem p;
  ln::tensor<ln::rank<4>, float> x = normal_tensor<float>(p, 1), dy = normal_tensor<float>(p, 2), y = x, dx = x;
  std::vector<float> decay = std::vector<float>(modes, 0.9F), ddecay = decay;
  std::vector<float> gain = std::vector<float>(static_cast<std::size_t>(p.width * modes), 0.1F), dgain = gain;

  explicit plain_encoding(std::int64_t width) : p{.width = width, .tokens = tokens, .heads = 1} {}
  plain::tpe_picture picture(int dims) {
    const std::int64_t rows = dims == 1 ? 1 : 8;
    return {rows,        tokens / rows, p.width,   x.data(),      dy.data(),   decay.data(),
            gain.data(), y.data(),      dx.data(), ddecay.data(), dgain.data()};
  }
};

/// The encoding of the channels of all heads, along a line or in a square picture.
template <int Width, int Dims>
struct encoding {
  using layer = ln::md_tpe<Width, modes, false, Dims, float>;

  ln::grid<Dims> grid{};
  ln::tensor<ln::rank<4>, float> x, y, dy, dx;  // [B, N, H, d]
  ln::parameter_block<float> parameters = ln::parameter_block<float>::of(layer{}), gradients = parameters.like();
  ln::execution<ln::cpu> on{1};

  explicit encoding(const problem& p) : x{normal_tensor<float>(p, 1)}, y{x}, dy{normal_tensor<float>(p, 2)}, dx{x} {
    if constexpr (Dims == 1) {
      grid.extents = {p.tokens};
    } else {
      grid.extents = {64, p.tokens / 64};
    }
    parameters.initialise(1);
    for (float& gain : gains()) gain = 0.1F;
  }
  void forward() {
    layer{}.forward(on, std::as_const(parameters).for_layer(layer{}), whole(std::as_const(x)), whole(y));
  }
  void backward() {
    layer{}.backward(on, std::as_const(parameters).for_layer(layer{}), whole(std::as_const(x)),
                     whole(std::as_const(dy)), whole(dx), gradients.for_layer(layer{}));
  }

 private:
  struct span {
    float *first, *last;
    float* begin() const { return first; }
    float* end() const { return last; }
  };
  span gains() {
    const auto b = parameters["b"];
    return {b.data(), b.data() + b.size()};
  }
  template <class Tensor>
  auto whole(Tensor& tensor) const {
    const auto view = tensor.view().reshape(std::array<std::int64_t, 3>{1, tensor.extent(1), Width});
    return ln::sequence<Dims, typename decltype(view)::element_type>{view, grid};
  }
};

template <int Width, int Dims>
void add_rows(const std::string& name) {
  for (const bool forward : {true, false}) {
    const problem p{.width = Width / 8};
    const double channels = static_cast<double>(p.width);
    // h = lambda h + x and y = y + b h forward; back, h and w, dx from w, and the gradients of lambda and b.
    const double flops = (forward ? 4 : 10) * modes * Dims * channels, numbers = (forward ? 2 : 3) * channels;
    const row r{.name = p.name(name + (forward ? "/forward" : "/backward")),
                .tokens = p.token_heads(),
                .least = {p.token_heads() * flops, p.token_heads() * numbers * sizeof(float)},
                .wanted = {.of_limit = 0.35},
                .prepare = [p, forward] {
                  const auto own = std::make_shared<encoding<Width, Dims>>(p);
                  task made{.call = [own, forward] { forward ? own->forward() : own->backward(); }};
                  const auto one = std::make_shared<plain_encoding>(p.width);
                  made.plain = [one, forward] {
                    (forward ? plain::md_tpe_forward : plain::md_tpe_backward)(one->picture(Dims));
                  };
                  made.plain_tokens = static_cast<double>(plain_encoding::tokens);
                  return made;
                }};
    add(r);
  }
}

}  // namespace

void add_md_tpe_rows() {
  add_rows<512, 1>("md_tpe/1d");
  add_rows<512, 2>("md_tpe/2d");
}

}  // namespace bench
