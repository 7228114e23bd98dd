// SPDX-License-Identifier: Apache-2.0
#pragma once

// How far images are from real ones, as a classifier sees them.

#include <cstdint>
#include <lightnet/core/parameters.hpp>
#include <lightnet/core/tensor.hpp>
#include <string>

#include "common/machine.hpp"
#include "fashion_mnist/idx.hpp"

namespace generate_images {

using examples::device;

/// The classifier of the demonstration, of which the mean features of an image count, before its head.
class judge {
 public:
  using feature_matrix = lightnet::tensor<lightnet::rank<2>, float>;  // [images, width]

  /// What the demonstration has learnt. Throws lightnet::file_error for a checkpoint of another network.
  static judge loaded(const std::string& path);
  /// What it learns of the first images of a set in so many epochs. Prints how many of the test images it knows then.
  static judge trained(lightnet::execution<device>& on, const fashion_mnist::data_set& data, std::int64_t images,
                       std::int64_t epochs);

  /// The features of the first images of a set.
  [[nodiscard]] feature_matrix features(lightnet::execution<device>& on, const fashion_mnist::image_set& images,
                                        std::int64_t count) const;

 private:
  explicit judge(lightnet::parameter_block<float, device> parameters) : parameters_{std::move(parameters)} {}

  lightnet::parameter_block<float, device> parameters_;
};

}  // namespace generate_images
