// SPDX-License-Identifier: Apache-2.0
// Whole models in bfloat16: loss and gradients of those in float, up to roundings, and training that learns.
#include <doctest/doctest.h>

#include <atomic>
#include <cmath>
#include <lightnet/model/image_classifier.hpp>
#include <lightnet/recurrence/vector_decay.hpp>
#include <lightnet/train/trainer.hpp>
#include <numeric>
#include <string>
#include <type_traits>
#include <vector>

#include "train/images.hpp"

namespace {

namespace ln = lightnet;

struct global_options : ln::image_classifier_options {
  static constexpr int width = 24, heads = 2, inner = 20, layers = 2, patch = 2, classes = 7, modes = 3;
  static constexpr double initial_gain = 1;
  static constexpr bool learned_theta = true, theta_per_head = true;
};
struct decaying_options : global_options {
  static constexpr bool learned_theta = false, norm_per_head = true;
  static constexpr ln::gate_form gate = ln::gate_form::gate_then_norm;
  using recurrence = ln::vector_decay;
  using traversal = ln::bidirectional;
  using position = ln::no_position;
};

template <class Options, class T>
using trainer = ln::trainer<ln::image_classifier<Options, 2, T>, T>;

ln::trainer_options options() {
  ln::trainer_options chosen;
  chosen.batch = 19;
  chosen.shard = 4;
  chosen.epochs = 60;
  chosen.schedule.peak = 0.01;
  chosen.schedule.total = 120;
  chosen.optimiser.clip_norm = 1;
  return chosen;
}

const pictures::images<ln::cpu>& all() {
  static const pictures::images<ln::cpu> images{38, 6, 10, 1};
  return images;
}

template <class T>
std::vector<double> numbers_of(const ln::dynamic_view<1, const T>& values) {
  return {values.data(), values.data() + values.size()};
}

/// |a - b| / |b| of vectors.
double distance(const std::vector<double>& a, const std::vector<double>& b) {
  double difference = 0, size = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    size += b[i] * b[i];
  }
  return std::sqrt(difference / size);
}

/// One step from the same parameters, which bfloat16 holds, after a few that have moved all of them from their start.
template <class Options>
void check_gradients() {
  ln::execution<ln::cpu> on{2};
  trainer<Options, float> wide{{}, options()};
  trainer<Options, ln::bfloat16> narrow{{}, options()};
  auto wide_source = all().batches<float>({.mean = 0.5, .deviation = 0.3});
  auto narrow_source = all().batches<ln::bfloat16>({.mean = 0.5, .deviation = 0.3});
  std::vector<std::int64_t> items(19);
  std::iota(items.begin(), items.end(), 0);
  const auto step = [&](auto& trained, auto& source) {
    const auto batch = source.load(items, 0);
    source.fill(on);
    return trained.step(on, batch.inputs, batch.labels);
  };
  for (int i = 0; i < 5; ++i) step(wide, wide_source);
  auto rounded = wide.parameters();
  for (std::int64_t i = 0; i < rounded.size(); ++i) rounded.view()(i) = ln::bfloat16(rounded.view()(i));
  narrow.set_parameters(rounded);
  wide.set_parameters(rounded);
  const double expected = step(wide, wide_source).loss, loss = step(narrow, narrow_source).loss;
  CHECK(loss == doctest::Approx(expected).epsilon(0.01));
  CHECK(static_cast<double>(static_cast<float>(ln::bfloat16(loss))) != loss);  // it is a float
  double worst = 0;
  for (const ln::parameter& part : wide.parameters().index()) {
    CAPTURE(part.name);
    const double error = distance(numbers_of(narrow.gradients()[part.name]), numbers_of(wide.gradients()[part.name]));
    CHECK(error <= 0.15);
    worst = std::max(worst, error);
  }
  MESSAGE("gradients in bfloat16 differ from those in float by at most " << worst);
}

template <class Options>
void check_learning() {
  ln::execution<ln::cpu> on{2};
  const std::atomic<bool> never{false};
  const auto train = [&]<class T>(T) {
    trainer<Options, T> trained{{}, options()};
    auto source = all().batches<T>({.mean = 0.5, .deviation = 0.3});
    const double before = trained.evaluate(on, source).loss;
    CHECK(trained.run(on, source, never, [](const auto&) {}));
    const auto after = trained.evaluate(on, source);
    CHECK(after.loss < 0.01 * before);
    CHECK(after.accuracy() > 0.95);
  };
  train(float{});
  train(ln::bfloat16{});
}

}  // namespace

TEST_CASE("mixed precision: gradients are those of float, up to roundings") {
  check_gradients<global_options>();
  check_gradients<decaying_options>();
}

TEST_CASE("mixed precision: training learns") {
  check_learning<global_options>();
  check_learning<decaying_options>();
}
