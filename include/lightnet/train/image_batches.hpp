// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/for_each.hpp>
#include <lightnet/backend/letter.hpp>
#include <lightnet/core/decimal.hpp>
#include <lightnet/core/reach.hpp>
#include <lightnet/train/data_order.hpp>

#include <algorithm>
#include <cmath>
#include <span>

LIGHTNET_BEGIN_NAMESPACE

/// What happens to an image on its way into a batch.
struct image_options {
  double mean = 0, deviation = 1;  ///< of the pixels, which lie in [0, 1]: normalised by them
  bool flip = false;               ///< whether half of the images, at random, are mirrored
  int shift = 0;           ///< pixels that an image moves by at most, each way, at random; 0 comes in at the edge
  std::uint64_t seed = 1;  ///< of what is random

  /// Throws value_error for numbers that make no images.
  void check() const {
    if (!std::isfinite(mean) || !std::isfinite(deviation) || deviation == 0) {
      throw value_error("image_batches", "mean, deviation", "finite numbers, the deviation not zero",
                        detail::decimal(mean) + ", " + detail::decimal(deviation));
    }
    if (shift < 0 || shift > 0x3FFFFFFF) {
      throw value_error("image_batches", "shift", "zero to 2^30 - 1", std::to_string(shift));
    }
  }
};

/// Labelled images of bytes in memory of the device as a source of batches for a trainer: chosen, moved, mirrored and
/// normalised there. What is random in an image is a function of the seed, the epoch and the image. Images and labels
/// are somebody else's, and must outlive it.
template <class T = float, class Device = cpu>
class image_batches {
 public:
  using image_view = dynamic_view<4, const std::uint8_t, Device>;
  using label_view = dynamic_view<1, const std::int32_t, Device>;
  struct batch {
    dynamic_view<4, const T, Device> inputs;  // [B, rows, columns, channels]
    label_view labels;                        // [B]
  };

  /// images [n, rows, columns, channels] and labels [n], both dense. Throws device_error, shape_error or value_error.
  image_batches(const image_view& images, const label_view& labels, const image_options& options)
      : images_{images}, labels_{labels}, options_{options} {
    options.check();
    if (!images.contiguous() || !labels.contiguous() || labels.extent(0) != images.extent(0)) {
      throw shape_error("image_batches", "images, labels", "dense arrays, and a label for each image",
                        images.describe() + ", " + labels.describe());
    }
    detail::check_reach("image_batches", "images", images);
    detail::check_reach("image_batches", "labels", labels);
    T values[greys];
    for (int i = 0; i < greys; ++i) values[i] = static_cast<T>((i / 255.0 - options.mean) / options.deviation);
    values_.resize({{greys}});
    Device::copy(values_.data(), values, sizeof values);
  }

  std::int64_t size() const noexcept { return images_.extent(0); }

  /// Chooses the images of the next batch, which `fill` puts where these views are; the same ones for the same number of
  /// images. Calls of `fill` before it have been done. Throws value_error for an image that there is not.
  batch load(std::span<const std::int64_t> items, std::int64_t epoch) {
    for (const std::int64_t item : items) {
      if (item < 0 || item >= size()) {
        throw value_error("image_batches", "items", "those of " + std::to_string(size()) + " images",
                          std::to_string(item));
      }
    }
    const auto count = static_cast<std::int64_t>(items.size());
    if (pixels_here_.extent(0) != count) {
      pixels_here_.resize({{count, images_.extent(1), images_.extent(2), images_.extent(3)}});
      labels_here_.resize({{count}});
    }
    request_.resize(count + 1);
    request_.data()[0] = epoch;
    std::copy(items.begin(), items.end(), request_.data() + 1);
    return {std::as_const(pixels_here_).view(), std::as_const(labels_here_).view()};
  }

  /// Makes the batch that was chosen last. A graph that captured this call makes the one chosen before its launch, of as many
  /// images.
  void fill(execution<Device>& on) {
    const std::int64_t count = pixels_here_.extent(0), size_of_image = count > 0 ? pixels_here_.size() / count : 0;
    gather body{};
    body.request = request_.send(on, count + 1);
    body.images = images_.data();
    body.labels = labels_.data();
    body.values = values_.data();
    body.pixels_here = pixels_here_.data();
    body.labels_here = labels_here_.data();
    body.rows = images_.extent(1);
    body.columns = images_.extent(2);
    body.channels = images_.extent(3);
    body.seed = options_.seed;
    body.shift = options_.shift;
    body.flip = options_.flip;
    detail::for_each_row(on, "image_batches::fill", count, size_of_image, body);
  }

  // Elements [first, last) of image i of the batch, and its label: here(y, x) = values[image(y - down, x' - right)], where
  // x' is x or, mirrored, columns - 1 - x. What the backend calls is public, for nvcc makes no kernel of a private type.
  struct gather {
    const std::int64_t* request;  // epoch, then items
    const std::uint8_t* images;
    const std::int32_t* labels;
    const T* values;  // of each grey
    T* pixels_here;
    std::int32_t* labels_here;
    std::int64_t rows, columns, channels;
    std::uint64_t seed;
    int shift;
    bool flip;

    LIGHTNET_HOST_DEVICE std::int64_t moved(const random_stream& random, std::uint64_t index) const noexcept {
      return shift > 0 ? std::int64_t{random.below(2 * static_cast<std::uint32_t>(shift) + 1, index)} - shift : 0;
    }

    LIGHTNET_HOST_DEVICE void operator()(std::int64_t i, std::int64_t first, std::int64_t last) const noexcept {
      const std::int64_t item = request[1 + i];
      const random_stream random =
          stream_for(stream_purpose::augmentation, seed, static_cast<std::uint32_t>(request[0]));
      const std::uint64_t place = 4 * static_cast<std::uint64_t>(item);
      const bool mirrored = flip && random.below(2, place) == 1;
      const std::int64_t down = moved(random, place + 1), right = moved(random, place + 2);
      const std::uint8_t* const image = images + item * rows * columns * channels;
      T* to = pixels_here + i * rows * columns * channels + first;
      std::int64_t row = first / (columns * channels), column = first / channels % columns, channel = first % channels;
      for (std::int64_t left = last - first; left > 0; --left) {
        const std::int64_t y = row - down, x = (mirrored ? columns - 1 - column : column) - right;
        const bool inside = y >= 0 && y < rows && x >= 0 && x < columns;
        *to++ = values[inside ? image[(y * columns + x) * channels + channel] : 0];
        if (++channel < channels) continue;
        channel = 0;
        if (++column < columns) continue;
        column = 0;
        ++row;
      }
      if (first == 0) labels_here[i] = labels[item];
    }
  };

 private:
  static constexpr int greys = 256;

  image_view images_;
  label_view labels_;
  image_options options_;
  tensor<rank<1>, T, Device> values_;  // [256]
  detail::letter<std::int64_t, Device> request_;
  tensor<rank<4>, T, Device> pixels_here_;             // [B, rows, columns, channels]
  tensor<rank<1>, std::int32_t, Device> labels_here_;  // [B]
};

LIGHTNET_END_NAMESPACE
