// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/convert.hpp>
#include <lightnet/core/half.hpp>
#include <lightnet/core/parameters.hpp>

#include <utility>

LIGHTNET_BEGIN_NAMESPACE

template <class T, class Device>
class adam;

/// The parameters of a training (arXiv 1710.03740): the master, of accumulator<T>, which the optimiser moves, and the block
/// of T that the model computes with. For float and double they are one block. For a type of two bytes the second is the
/// first with every number rounded, and nothing writes one without the other: most updates are smaller than the last bit of
/// what they change, and would be lost.
template <class T = float, class Device = cpu>
class master_parameters {
 public:
  using number = accumulator<T>;

  /// The initial values of a layer or model; the master's do not depend on T.
  template <class Layer>
  master_parameters(const Layer& layer, std::uint64_t seed) : master_{parameter_block<number, Device>::of(layer)} {
    if constexpr (rounds) rounded_ = parameter_block<T, Device>::of(layer);
    master_.initialise(seed);
    round();
  }

  const parameter_block<number, Device>& master() const noexcept { return master_; }

  const parameter_block<T, Device>& rounded() const noexcept {
    if constexpr (rounds) {
      return rounded_;
    } else {
      return master_;
    }
  }

  /// Puts a block in the place of the master. Throws shape_error for one of another size.
  void set(parameter_block<number, Device> values) {
    if (values.size() != master_.size()) {
      throw shape_error("master_parameters", "values", std::to_string(master_.size()) + " numbers",
                        std::to_string(values.size()));
    }
    master_ = std::move(values);
    round();
  }

 private:
  friend class adam<T, Device>;  // its kernel rounds on its way

  static constexpr bool rounds = !std::is_same_v<T, number>;

  /// By way of the host, for this is done once in a training.
  void round() {
    if constexpr (rounds) {
      const auto count = static_cast<std::size_t>(master_.size());
      std::vector<number> from(count);
      std::vector<T> to(count);
      Device::copy(from.data(), master_.view().data(), count * sizeof(number));
      detail::convert(from.data(), to.data(), master_.size());
      Device::copy(rounded_.view().data(), to.data(), count * sizeof(T));
    }
  }

  parameter_block<number, Device> master_;
  parameter_block<T, Device> rounded_;  // empty where T is number
};

LIGHTNET_END_NAMESPACE
