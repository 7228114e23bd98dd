// SPDX-License-Identifier: Apache-2.0
#pragma once

// Images as the network takes them: normalised, in batches, and where the settings ask for it mirrored and moved at random.

#include <array>
#include <cstddef>
#include <cstdint>
#include <lightnet/backend/cpu/execution.hpp>
#include <lightnet/core/tensor.hpp>
#include <lightnet/train/data_order.hpp>
#include <span>

#include "idx.hpp"
#include "settings.hpp"

namespace fashion_mnist {

/// A source of items for lightnet::trainer. The images are somebody else's and must outlive it.
class batches {
 public:
  struct batch {
    lightnet::dynamic_view<4, const float> inputs;         // [B, rows, columns, 1]
    lightnet::dynamic_view<1, const std::int32_t> labels;  // [B]
  };

  /// The first `count` images, as they are.
  batches(const image_set& images, const settings& chosen, std::int64_t count) : images_(&images), count_(count) {
    for (std::size_t i = 0; i < values_.size(); ++i) {
      values_[i] = static_cast<float>((static_cast<double>(i) / 255 - chosen.mean) / chosen.deviation);
    }
  }
  /// The same for training: what happens to an image in an epoch is a function of the seed, the epoch and the image.
  batches(const image_set& images, const settings& chosen, std::int64_t count, std::uint64_t seed)
      : batches(images, chosen, count) {
    flip_ = chosen.flip;
    shift_ = chosen.shift;
    seed_ = seed;
  }

  [[nodiscard]] std::int64_t size() const noexcept { return count_; }

  batch load(std::span<const std::int64_t> items, std::int64_t epoch) {
    const auto count = static_cast<std::int64_t>(items.size());
    if (pixels_.extent(0) != count) {
      pixels_.resize({{count, images_->rows, images_->columns, 1}});
      labels_.resize({{count}});
    }
    using lightnet::stream_purpose;
    const auto random = lightnet::stream_for(stream_purpose::augmentation, seed_, static_cast<std::uint32_t>(epoch));
    float* to = pixels_.data();
    for (std::int64_t i = 0; i < count; ++i, to += images_->rows * images_->columns) {
      const auto item = items[static_cast<std::size_t>(i)];
      labels_.data()[i] = images_->labels[static_cast<std::size_t>(item)];
      copy(images_->image(item), random, 4 * static_cast<std::uint64_t>(item), to);
    }
    return {std::as_const(pixels_).view(), std::as_const(labels_).view()};
  }

 private:
  /// One image; pixels from beyond its edges are black. `place` is the first of four random numbers.
  void copy(std::span<const std::uint8_t> image, const lightnet::random_stream& random, std::uint64_t place,
            float* to) const {
    const bool mirrored = flip_ && random.below(2, place) == 1;
    const auto moved = [&](std::uint64_t index) {
      return shift_ > 0 ? std::int64_t{random.below(2 * static_cast<std::uint32_t>(shift_) + 1, index)} - shift_ : 0;
    };
    const std::int64_t down = moved(place + 1), right = moved(place + 2);
    for (std::int64_t row = 0; row < images_->rows; ++row) {
      for (std::int64_t column = 0; column < images_->columns; ++column) {
        const auto y = row - down, x = (mirrored ? images_->columns - 1 - column : column) - right;
        const bool inside = y >= 0 && y < images_->rows && x >= 0 && x < images_->columns;
        *to++ = values_[inside ? image[static_cast<std::size_t>(y * images_->columns + x)] : 0];
      }
    }
  }

  const image_set* images_;
  std::int64_t count_;
  bool flip_ = false;
  int shift_ = 0;
  std::uint64_t seed_ = 0;
  std::array<float, 256> values_{};                           // of each grey
  lightnet::tensor<lightnet::rank<4>, float> pixels_;         // [B, rows, columns, 1]
  lightnet::tensor<lightnet::rank<1>, std::int32_t> labels_;  // [B]
};

}  // namespace fashion_mnist
