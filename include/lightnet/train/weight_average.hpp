// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/for_each.hpp>
#include <lightnet/core/decimal.hpp>
#include <lightnet/core/parameters.hpp>

#include <string>
#include <utility>

LIGHTNET_BEGIN_NAMESPACE

/// The exponential moving average of parameters, which often does better than their last values:
///   average += (1 - d) (parameters - average),   d = min(decay, (1 + n) / (10 + n)) after n updates,
/// so that a young average forgets where it began. Updates are calls of an execution that read and write memory of the
/// device alone. saved_average and load_average of io/saved_average.hpp keep it in a checkpoint.
template <class T = float, class Device = cpu>
class weight_average {
 public:
  /// Begins with these parameters. Throws value_error for a decay outside of [0, 1).
  explicit weight_average(const parameter_block<T, Device>& parameters, double decay = 0.9999)
      : decay_{decay}, weights_{parameters} {
    if (!(decay >= 0 && decay < 1)) {
      throw value_error("weight_average", "decay", "0 or more, less than 1", detail::decimal(decay));
    }
    updates_.resize({{1}});
  }

  double decay() const noexcept { return decay_; }
  const parameter_block<T, Device>& weights() const noexcept { return weights_; }
  /// Updates done, read from the memory of the device.
  std::int64_t updates() const {
    std::int64_t count = 0;
    Device::copy(&count, updates_.data(), sizeof count);
    return count;
  }

  /// Takes in the parameters as they are. Throws shape_error for a block of another size.
  void update(execution<Device>& on, const parameter_block<T, Device>& parameters) {
    need_size(parameters.size());
    const std::int64_t size = weights_.size();
    detail::for_each_row(on, "weight_average", (size + row - 1) / row, row,
                         take{weights_.view().data(), parameters.view().data(), updates_.data(), size, decay_});
    detail::for_each_row(on, "weight_average", 1, 1, count_update{updates_.data()});
  }

  /// Goes on from a saved average. Throws shape_error for a block of another size.
  void restore(parameter_block<T, Device> weights, std::int64_t updates) {
    need_size(weights.size());
    weights_ = std::move(weights);
    Device::copy(updates_.data(), &updates, sizeof updates);
  }

  // What the backend calls is public, for nvcc makes no kernel of a private type.
  static constexpr std::int64_t row = 4096;  // numbers that make a piece of work
  struct take {
    T* average;
    const T* parameters;
    const std::int64_t* updates;
    std::int64_t size;
    double decay;

    LIGHTNET_HOST_DEVICE void operator()(std::int64_t part, std::int64_t first, std::int64_t last) const noexcept {
      const auto n = static_cast<double>(*updates);
      const double young = (1 + n) / (10 + n);
      const T share = static_cast<T>(1 - (young < decay ? young : decay));
      for (std::int64_t i = part * row + first; i < part * row + last && i < size; ++i) {
        average[i] += share * (parameters[i] - average[i]);
      }
    }
  };
  struct count_update {
    std::int64_t* updates;
    LIGHTNET_HOST_DEVICE void operator()(std::int64_t, std::int64_t, std::int64_t) const noexcept { ++*updates; }
  };

 private:
  void need_size(std::int64_t size) const {
    if (size != weights_.size()) {
      throw shape_error("weight_average", "parameters", std::to_string(weights_.size()) + " numbers",
                        std::to_string(size));
    }
  }

  double decay_;
  parameter_block<T, Device> weights_;
  tensor<rank<1>, std::int64_t, Device> updates_;  // [1]
};

LIGHTNET_END_NAMESPACE
