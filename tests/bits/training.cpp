// SPDX-License-Identifier: Apache-2.0
// A few updates of a small classifier in float, and in bfloat16; prints the bits of the parameters of each, folded into one
// number. Usage: training THREADS

#include <lightnet/lightnet.hpp>

#include <bit>
#include <cstdio>
#include <cstdlib>
#include <utility>

namespace ln = lightnet;

struct options : ln::image_classifier_options {
  static constexpr int width = 24, heads = 2, inner = 40, classes = 7, patch = 2, modes = 5;
  static constexpr double initial_gain = 1;
};

// Returns the folded bits of the parameters, after training in T.
template <class T>
std::uint64_t trained(int threads) {
  using model = ln::image_classifier<options, 2, T>;
  constexpr std::int64_t batch = 21;
  ln::execution<ln::cpu> on{threads};
  ln::tensor<ln::rank<4>, T> images({{batch, 6, 10, 1}});
  ln::tensor<ln::rank<1>, std::int32_t> labels({{batch}});
  ln::fill_normal(on, ln::random_stream{1}, 0, images.view().reshape(std::array{images.size()}));
  for (std::int64_t i = 0; i < batch; ++i) labels.data()[i] = static_cast<std::int32_t>(i % model::classes);
  ln::trainer_options chosen;
  chosen.schedule.shape = ln::learning_rate_schedule::shapes::constant;
  chosen.shard = 4;
  ln::trainer<model, T> trainer{model{}, chosen};
  for (int update = 0; update < 4; ++update) {
    trainer.step(on, std::as_const(images).view(), std::as_const(labels).view());
  }
  std::uint64_t folded = 0;
  const auto values = trainer.parameters().view();
  for (std::int64_t i = 0; i < values.size(); ++i) {
    folded = folded * 0x9E3779B97F4A7C15U + std::bit_cast<std::uint32_t>(values(i));
  }
  return folded;
}

int main(int, char** argument) {
  const int threads = std::atoi(argument[1]);
  std::printf("%016llx %016llx\n", static_cast<unsigned long long>(trained<float>(threads)),
              static_cast<unsigned long long>(trained<ln::bfloat16>(threads)));
}
