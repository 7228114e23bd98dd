// SPDX-License-Identifier: Apache-2.0
// A few small images in memory of either device, and batches of them on the host.
#pragma once

#include <cstdint>
#include <lightnet/train/image_batches.hpp>
#include <utility>
#include <vector>

namespace pictures {

namespace ln = lightnet;

// Image n has the label n mod 7; its bytes follow no rule.
template <class Device>
struct images {
  ln::tensor<ln::rank<4>, std::uint8_t, Device> pixels;  // [n, rows, columns, channels]
  ln::tensor<ln::rank<1>, std::int32_t, Device> labels;  // [n]

  images(std::int64_t count, std::int64_t rows, std::int64_t columns, std::int64_t channels)
      : pixels{{{count, rows, columns, channels}}}, labels{{{count}}} {
    const ln::random_stream random{3};
    std::vector<std::uint8_t> bytes;
    std::vector<std::int32_t> classes;
    for (std::int64_t i = 0; i < pixels.size(); ++i) {
      bytes.push_back(static_cast<std::uint8_t>(random.below(256, static_cast<std::uint64_t>(i))));
    }
    for (std::int64_t i = 0; i < count; ++i) classes.push_back(static_cast<std::int32_t>(i % 7));
    Device::copy(pixels.data(), bytes.data(), bytes.size());
    Device::copy(labels.data(), classes.data(), classes.size() * sizeof(std::int32_t));
  }

  template <class T = float>
  ln::image_batches<T, Device> batches(const ln::image_options& options) const {
    return {pixels.view(), labels.view(), options};
  }
};

// A batch as the host sees it.
template <class T>
struct loaded {
  std::vector<T> inputs;
  std::vector<std::int32_t> labels;
};

template <class T, class Device>
loaded<T> on_host(ln::execution<Device>& on, const typename ln::image_batches<T, Device>::batch& batch) {
  on.synchronize();
  loaded<T> here{std::vector<T>(static_cast<std::size_t>(batch.inputs.size())),
                 std::vector<std::int32_t>(static_cast<std::size_t>(batch.labels.size()))};
  Device::copy(here.inputs.data(), batch.inputs.data(), here.inputs.size() * sizeof(T));
  Device::copy(here.labels.data(), batch.labels.data(), here.labels.size() * sizeof(std::int32_t));
  return here;
}

template <class T, class Device>
loaded<T> load(ln::execution<Device>& on, ln::image_batches<T, Device>& source, const std::vector<std::int64_t>& items,
               std::int64_t epoch) {
  const auto batch = source.load(items, epoch);
  source.fill(on);
  return on_host<T, Device>(on, batch);
}

}  // namespace pictures
