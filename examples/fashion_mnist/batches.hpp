// SPDX-License-Identifier: Apache-2.0
#pragma once

// The images where the device reaches them, as the network takes them: normalised, in batches, and where the settings ask
// for it mirrored and moved at random.

#include <cstdint>
#include <lightnet/backend/execution.hpp>
#include <lightnet/core/tensor.hpp>
#include <lightnet/train/image_batches.hpp>

#include "idx.hpp"
#include "settings.hpp"

namespace fashion_mnist {

/// A source of items for lightnet::trainer, with images of its own.
class batches {
 public:
  /// The first `count` images, as they are.
  batches(const image_set& images, std::int64_t count)
      : batches(images, count, {.mean = pixel_mean, .deviation = pixel_deviation}) {}
  /// The same for training: what happens to an image in an epoch is a function of the seed, the epoch and the image.
  batches(const image_set& images, const settings& chosen, std::int64_t count, std::uint64_t seed)
      : batches(images, count,
                {.mean = pixel_mean,
                 .deviation = pixel_deviation,
                 .flip = chosen.flip,
                 .shift = chosen.shift,
                 .seed = seed}) {}

  [[nodiscard]] std::int64_t size() const noexcept { return source_.size(); }
  auto load(std::span<const std::int64_t> items, std::int64_t epoch) { return source_.load(items, epoch); }
  void fill(lightnet::execution<device>& on) { source_.fill(on); }

 private:
  batches(const image_set& images, std::int64_t count, const lightnet::image_options& options)
      : pixels_{{{count, images.rows, images.columns, 1}}}, labels_{{{count}}}, source_{uploaded(images, options)} {}

  lightnet::image_batches<float, device> uploaded(const image_set& images, const lightnet::image_options& options) {
    device::copy(pixels_.data(), images.pixels.data(), static_cast<std::size_t>(pixels_.size()));
    device::copy(labels_.data(), images.labels.data(), static_cast<std::size_t>(labels_.size()) * sizeof(std::int32_t));
    return {std::as_const(pixels_).view(), std::as_const(labels_).view(), options};
  }

  lightnet::tensor<lightnet::rank<4>, std::uint8_t, device> pixels_;  // [images, rows, columns, 1]
  lightnet::tensor<lightnet::rank<1>, std::int32_t, device> labels_;  // [images]
  lightnet::image_batches<float, device> source_;
};

}  // namespace fashion_mnist
