// SPDX-License-Identifier: Apache-2.0
#pragma once

// A half as the network takes it: in blocks, normalised, and moved.

#include <cstdint>
#include <lightnet/core/tensor.hpp>
#include <lightnet/train/data_order.hpp>
#include <span>
#include <utility>
#include <vector>

#include "coarse.hpp"
#include "settings.hpp"

namespace segment_volume {

/// A source of items for lightnet::trainer, all of them made of one half: for training changed at random, for a test
/// moved to each place that makes other blocks.
class batches {
 public:
  struct batch {
    lightnet::dynamic_view<5, const number, device> inputs;        // [B, z, y, x, 1]
    lightnet::dynamic_view<2, const std::int32_t, device> labels;  // [B, z y x]
  };

  /// For a test, at all places.
  batches(const half& whole, const settings& chosen)
      : batches(whole, chosen, chosen.factor * chosen.factor * chosen.factor) {}
  /// For a test at the first so many places.
  batches(const half& whole, const settings& chosen, std::int64_t count)
      : whole_{&whole}, chosen_{chosen}, blocks_{whole, chosen.factor, model_options::patch}, count_{count} {}
  /// For training: what happens to an item in an epoch is a function of the seed, the epoch and the item.
  batches(const half& whole, const settings& chosen, std::int64_t count, std::uint64_t seed)
      : batches(whole, chosen, count) {
    chosen_.seed = seed;
    training_ = true;
  }

  [[nodiscard]] std::int64_t size() const noexcept { return count_; }
  [[nodiscard]] const coarse& blocks() const noexcept { return blocks_; }

  [[nodiscard]] change change_of(std::int64_t item, std::int64_t epoch) const {
    const auto factor = chosen_.factor;
    if (!training_) return {{item / (factor * factor), item / factor % factor, item % factor}};
    const auto random =
        lightnet::stream_for(lightnet::stream_purpose::augmentation, chosen_.seed, static_cast<std::uint32_t>(epoch));
    const auto place = 4 * static_cast<std::uint64_t>(item);
    change how;
    for (std::size_t axis = 0; axis < 3; ++axis) {
      const auto ways = 2 * static_cast<std::uint32_t>(chosen_.shift) + 1;
      how.shift[axis] = std::int64_t{random.below(ways, place + axis)} - chosen_.shift;
    }
    how.gain = 1 + chosen_.contrast * (2 * random.uniform(place + 3) - 1);
    return how;
  }

  batch load(std::span<const std::int64_t> items, std::int64_t epoch) {
    const auto count = static_cast<std::int64_t>(items.size()), size = blocks_.size();
    if (inputs_.extent(0) != count) {
      const auto& extents = blocks_.extents();
      inputs_.resize({{count, extents[0], extents[1], extents[2], 1}});
      labels_.resize({{count, size}});
      grey_.resize(static_cast<std::size_t>(count * size));
      normalised_.resize(grey_.size());
      classes_.resize(grey_.size());
    }
    for (std::int64_t i = 0; i < count; ++i) {
      blocks_.fill(*whole_, change_of(items[static_cast<std::size_t>(i)], epoch), grey_.data() + i * size,
                   classes_.data() + i * size);
    }
    for (std::size_t i = 0; i < grey_.size(); ++i) {
      normalised_[i] = static_cast<number>(static_cast<float>((grey_[i] - chosen_.mean) / chosen_.deviation));
    }
    device::copy(inputs_.data(), normalised_.data(), normalised_.size() * sizeof normalised_[0]);
    device::copy(labels_.data(), classes_.data(), classes_.size() * sizeof classes_[0]);
    return {std::as_const(inputs_).view(), std::as_const(labels_).view()};
  }

 private:
  const half* whole_;
  settings chosen_;
  coarse blocks_;
  std::int64_t count_;
  bool training_ = false;
  std::vector<float> grey_;
  std::vector<number> normalised_;
  std::vector<std::int32_t> classes_;
  lightnet::tensor<lightnet::rank<5>, number, device> inputs_;
  lightnet::tensor<lightnet::rank<2>, std::int32_t, device> labels_;
};

}  // namespace segment_volume
