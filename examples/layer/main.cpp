// SPDX-License-Identifier: Apache-2.0

// A layer, fixed at compile time: 2-D data, one scan, float, CPU. The paper's baseline differs in two words, and costs
// two scans.

#include <lightnet/backend/cpu/random.hpp>
#include <lightnet/core/parameters.hpp>
#include <lightnet/model/attention.hpp>
#include <lightnet/recurrence/constant_decay.hpp>

#include <cmath>
#include <cstdio>

namespace ln = lightnet;

// What is not named keeps its default.
struct mixer_options : ln::attention_options {
  static constexpr int width = 384, heads = 6;
  using position = ln::md_lrpe;
};
using mixer = ln::attention<mixer_options, 2, float, ln::cpu>;

struct retnet_options : mixer_options {
  using recurrence = ln::constant_decay;
  using traversal = ln::bidirectional;
};
using retnet_mixer = ln::attention<retnet_options, 2, float, ln::cpu>;

template <class Mixer>
bool run(const char* name) {
  const Mixer layer;
  ln::execution<ln::cpu> execution;
  auto parameters = ln::parameter_block<float>::of(layer);
  auto gradients = parameters.like();
  parameters.initialise(1);
  const auto& constant = parameters;

  // x and y are [B, n_1, n_2, width]: two pictures of 8 x 6 tokens.
  ln::tensor<ln::rank<4>, float> x({{2, 8, 6, Mixer::width}}), y({{2, 8, 6, Mixer::width}}),
      dx({{2, 8, 6, Mixer::width}});
  ln::fill_normal(execution, ln::random_stream{2}, 0, x.view().reshape(std::array{x.size()}));

  typename Mixer::template context<ln::train> context;
  layer.forward(execution, constant.for_layer(layer), x.view(), y.view(), context);
  layer.backward(execution, constant.for_layer(layer), x.view(), y.view(), dx.view(), gradients.for_layer(layer),
                 context);

  double norm = 0;
  for (std::int64_t i = 0; i < dx.size(); ++i) norm += static_cast<double>(dx.data()[i]) * dx.data()[i];
  std::printf("%-18s scans=%d parameters=%lld |dx|=%.4f\n", name, Mixer::traversal::scans(2),
              static_cast<long long>(Mixer::parameter_count), std::sqrt(norm));
  return std::isfinite(norm) && norm > 0;
}

int main() { return run<mixer>("additive, global") && run<retnet_mixer>("constant decay") ? 0 : 1; }
