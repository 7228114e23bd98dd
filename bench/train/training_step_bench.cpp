// SPDX-License-Identifier: Apache-2.0

// What a second thread is worth to a training step of the demonstration's classifier: pairs of one step with one thread
// and one with two, interleaved, so that both see the same machine. Counter `speedup`: the median over nine pairs.

#include <lightnet/backend/cpu/random.hpp>
#include <lightnet/model/image_classifier.hpp>
#include <lightnet/train/trainer.hpp>

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <utility>
#include <vector>

namespace ln = lightnet;

namespace {

constexpr std::int64_t batch = 64;
struct model_options : ln::image_classifier_options {
  static constexpr int inner = 128;
};
using model = ln::image_classifier<model_options, 2, float>;

class training {
 public:
  training() {
    ln::execution<ln::cpu> on;
    ln::fill_normal(on, ln::random_stream{1}, 0, images_.view().reshape(std::array{images_.size()}));
    for (std::int64_t i = 0; i < batch; ++i) labels_.data()[i] = static_cast<std::int32_t>(i % model::classes);
  }

  double seconds_of_step(ln::execution<ln::cpu>& on) {
    const auto begin = std::chrono::steady_clock::now();
    benchmark::DoNotOptimize(trainer_.step(on, std::as_const(images_).view(), std::as_const(labels_).view()).loss);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }

 private:
  ln::tensor<ln::rank<4>, float> images_{{{batch, 28, 28, 1}}};
  ln::tensor<ln::rank<1>, std::int32_t> labels_{{{batch}}};
  ln::trainer<model> trainer_{model{}, {.schedule = {.shape = ln::learning_rate_schedule::shapes::constant}}};
};

void two_threads(benchmark::State& state) {
  training task;
  ln::execution<ln::cpu> one{1}, two{2};
  task.seconds_of_step(one);
  task.seconds_of_step(two);
  for (auto _ : state) {
    std::vector<double> ratios;
    for (int pair = 0; pair < 9; ++pair) ratios.push_back(task.seconds_of_step(one) / task.seconds_of_step(two));
    std::nth_element(ratios.begin(), ratios.begin() + 4, ratios.end());
    state.counters["speedup"] = ratios[4];
  }
}
BENCHMARK(two_threads)->Name("image_classifier/training_step/threads2_over_threads1")->Iterations(1)->Repetitions(5);

}  // namespace
