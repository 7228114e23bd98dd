// SPDX-License-Identifier: Apache-2.0
// A classifier of vectors, small enough to read: y = tanh(x A^T) W^T + b; sums are in float where T is narrower.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <lightnet/train/trainer.hpp>
#include <span>
#include <string>
#include <vector>

namespace tiny {

namespace ln = lightnet;

template <int Hidden = 5, class T = double>
struct model {
  using number = ln::accumulator<T>;
  static constexpr int features = 3, classes = 4;
  static constexpr std::int64_t output_at = std::int64_t{Hidden} * features,
                                bias_at = output_at + std::int64_t{classes} * Hidden;
  static constexpr std::int64_t parameter_count = bias_at + classes;
  template <class Mode>
  struct context {
    std::vector<number> hidden;  // [B, Hidden]
  };

  void describe(const std::string& prefix, std::int64_t offset, std::vector<ln::parameter>& list) const {
    const auto normal = ln::initial_value::truncated_normal(0.5);
    list.push_back({prefix + "inner.weight", {Hidden, features}, offset, normal, true});
    list.push_back({prefix + "outer.weight", {classes, Hidden}, offset + output_at, normal, true});
    list.push_back({prefix + "outer.bias", {classes}, offset + bias_at, {}, false});
  }

  template <class Mode>
  void forward(ln::execution<ln::cpu>&, const ln::parameters_of<model, const T>& p,
               const ln::dynamic_view<2, const T>& x, const ln::dynamic_view<2, T>& y, context<Mode>& kept) const {
    const std::int64_t rows = x.extent(0);
    kept.hidden.assign(static_cast<std::size_t>(rows * Hidden), number(0));
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t h = 0; h < Hidden; ++h) {
        number sum = 0;
        for (std::int64_t f = 0; f < features; ++f) sum += p(h * features + f) * x(r, f);
        kept.hidden[static_cast<std::size_t>(r * Hidden + h)] = std::tanh(sum);
      }
      for (std::int64_t k = 0; k < classes; ++k) {
        number sum = p(bias_at + k);
        for (std::int64_t h = 0; h < Hidden; ++h) {
          sum += p(output_at + k * Hidden + h) * kept.hidden[static_cast<std::size_t>(r * Hidden + h)];
        }
        y(r, k) = static_cast<T>(sum);
      }
    }
  }

  template <ln::write>
  void backward(ln::execution<ln::cpu>&, const ln::parameters_of<model, const T>& p,
                const ln::dynamic_view<2, const T>& x, const ln::dynamic_view<2, const T>& dy,
                const ln::dynamic_view<2, T>&, const ln::parameters_of<model, T>& dp,
                const context<ln::train>& kept) const {
    std::array<number, parameter_count> sums{};
    const auto at = [&sums](std::int64_t i) -> number& { return sums[static_cast<std::size_t>(i)]; };
    for (std::int64_t r = 0; r < x.extent(0); ++r) {
      for (std::int64_t k = 0; k < classes; ++k) at(bias_at + k) += dy(r, k);
      for (std::int64_t h = 0; h < Hidden; ++h) {
        const number hidden = kept.hidden[static_cast<std::size_t>(r * Hidden + h)];
        number pull = 0;
        for (std::int64_t k = 0; k < classes; ++k) {
          at(output_at + k * Hidden + h) += dy(r, k) * hidden;
          pull += dy(r, k) * p(output_at + k * Hidden + h);
        }
        for (std::int64_t f = 0; f < features; ++f) at(h * features + f) += pull * (1 - hidden * hidden) * x(r, f);
      }
    }
    for (std::int64_t i = 0; i < parameter_count; ++i) dp(i) = static_cast<T>(at(i));
  }
};

/// Points of space, labelled by the quadrant of their first two coordinates.
template <class T = double>
struct points {
  struct batch {
    ln::dynamic_view<2, const T> inputs;
    ln::dynamic_view<1, const std::int32_t> labels;
  };
  std::int64_t count = 0;
  T poison{};                           // added to everything
  std::int32_t wrong_label = 0;         // added to the label of item 17
  std::vector<std::int64_t> visited{};  // items, in their order
  std::vector<T> values{};
  std::vector<std::int32_t> labels{};

  std::int64_t size() const { return count; }

  batch load(std::span<const std::int64_t> items, std::int64_t epoch) {
    const auto noise = ln::stream_for(ln::stream_purpose::augmentation, 1, static_cast<std::uint32_t>(epoch));
    values.clear();
    labels.clear();
    for (const std::int64_t item : items) {
      const ln::random_stream random{77};
      T x[3];
      for (std::uint64_t f = 0; f < 3; ++f) {
        x[f] = static_cast<T>(random.normal(3 * static_cast<std::uint64_t>(item) + f));
      }
      labels.push_back((x[0] > 0 ? 1 : 0) + (x[1] > 0 ? 2 : 0) + (item == 17 ? wrong_label : 0));
      x[2] = static_cast<T>(x[2] + static_cast<T>(noise.uniform(static_cast<std::uint64_t>(item))));
      for (const T each : x) values.push_back(static_cast<T>(each + poison));
      visited.push_back(item);
    }
    const auto rows = static_cast<std::int64_t>(items.size());
    return {{values.data(), {{rows, 3}}}, {labels.data(), {{rows}}}};
  }
};

inline ln::trainer_options options() {
  ln::trainer_options chosen;
  chosen.batch = 16;
  chosen.epochs = 3;
  chosen.seed = 5;
  chosen.smoothing = 0.05;
  chosen.optimiser.clip_norm = 1;
  chosen.schedule.peak = 0.05;
  chosen.schedule.warmup = 4;
  chosen.schedule.total = 39;  // 13 an epoch of 200
  return chosen;
}

template <class T>
std::vector<T> values(const ln::parameter_block<T>& block) {
  return {block.view().data(), block.view().data() + block.size()};
}

/// Everything of a trainer that decides how it goes on, bit by bit.
template <class Trainer>
std::string snapshot(const Trainer& trainer) {
  std::string bytes;
  const auto append = [&bytes](const void* data, std::size_t size) {
    bytes.append(static_cast<const char*>(data), size);
  };
  const auto block = [&append](const auto& numbers) {
    append(numbers.view().data(), static_cast<std::size_t>(numbers.size()) * sizeof(*numbers.view().data()));
  };
  block(trainer.parameters());
  block(trainer.rounded_parameters());
  block(trainer.optimiser().first_moment());
  block(trainer.optimiser().second_moment());
  const ln::training_state state = trainer.state();
  const ln::adam_state optimiser = trainer.optimiser().state();
  for (const std::int64_t number : {state.step, state.epoch, state.position, state.items, state.correct, state.counted,
                                    optimiser.updates, optimiser.skipped, optimiser.skipped_in_row}) {
    append(&number, sizeof number);
  }
  append(&state.loss, sizeof state.loss);
  return bytes;
}

}  // namespace tiny
