// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/random.hpp>
#include <lightnet/core/tensor.hpp>

#include <string>
#include <string_view>
#include <vector>

LIGHTNET_BEGIN_NAMESPACE

/// How a parameter starts.
struct initial_value {
  enum class kind { constant, truncated_normal, ramp, powers };
  kind how = kind::constant;
  double value =
      0;  ///< the constant; the standard deviation, cut at two of them; the step of the ramp; the logarithm of the base

  static constexpr initial_value constant(double value) noexcept { return {kind::constant, value}; }
  static constexpr initial_value truncated_normal(double sigma) noexcept { return {kind::truncated_normal, sigma}; }
  /// The weights of a product over `in` inputs, `factor` times a deviation of 0.02, or of gain / sqrt(in) where a gain is
  /// given: 0.02 suits widths of a thousand and leaves a narrow model almost silent.
  static initial_value weights(std::int64_t in, double gain, double factor = 1) noexcept {
    return truncated_normal(factor * (gain > 0 ? gain / std::sqrt(static_cast<double>(in)) : 0.02));
  }
  /// step, 2 step, 3 step, ... along the last axis.
  static constexpr initial_value ramp(double step) noexcept { return {kind::ramp, step}; }
  /// 1, e^log_base, e^(2 log_base), ... along the last axis.
  static constexpr initial_value powers(double log_base) noexcept { return {kind::powers, log_base}; }
};

/// The description of one parameter: a dense row-major part of a flat block.
struct parameter {
  std::string name;                 ///< dotted, as in the source models
  std::vector<std::int64_t> shape;  ///< weights are [out, in]
  std::int64_t offset = 0;          ///< of the first element in the block
  initial_value initial{};
  bool decays = false;  ///< whether weight decay applies: to products, not to norms, biases, tables, encodings

  std::int64_t size() const noexcept {
    std::int64_t product = 1;
    for (const std::int64_t extent : shape) product *= extent;
    return product;
  }
};

/// What a layer's calls take as parameters, or as their gradients: its part of a flat block, the size known at compile
/// time. T is const for parameters.
template <class Layer, class T, class Device = cpu>
using parameters_of = view<extents<Layer::parameter_count>, T, Device>;

namespace detail {

/// The part of a layer's parameters that belongs to the layer inside it that starts at `offset`.
template <class Child, class Shape, class T, class Device>
parameters_of<Child, T, Device> part_of(const view<Shape, T, Device>& whole, std::int64_t offset) {
  return {whole.data() + offset, extents<Child::parameter_count>{}};
}

}  // namespace detail

/// The parameters of a layer or model, or their gradients, or the moments of an optimiser: one flat block with named
/// parts. A Layer has `parameter_count` and `describe(prefix, offset, list)`, which appends its parameters to a list.
template <class T, class Device = cpu>
class parameter_block {
 public:
  /// A block of zeros for a layer or model.
  template <class Layer>
  static parameter_block of(const Layer& layer) {
    parameter_block block;
    layer.describe("", 0, block.index_);
    block.values_.resize({{Layer::parameter_count}});
    return block;
  }

  /// A block of zeros with the same parts.
  parameter_block like() const {
    parameter_block block;
    block.index_ = index_;
    block.values_.resize({{size()}});
    return block;
  }

  const std::vector<parameter>& index() const noexcept { return index_; }
  std::int64_t size() const noexcept { return values_.size(); }

  dynamic_view<1, T, Device> view() noexcept { return values_.view(); }
  dynamic_view<1, const T, Device> view() const noexcept { return values_.view(); }

  /// The whole block as the argument of a layer's calls. Throws shape_error for a layer of another size.
  template <class Layer>
  parameters_of<Layer, T, Device> for_layer(const Layer&) {
    return {view()};
  }
  template <class Layer>
  parameters_of<Layer, const T, Device> for_layer(const Layer&) const {
    return {view()};
  }

  /// The values of one parameter. Throws value_error for a name that does not exist.
  dynamic_view<1, T, Device> operator[](std::string_view name) {
    const parameter& found = find(name);
    return view().slice(0, found.offset, found.size());
  }
  dynamic_view<1, const T, Device> operator[](std::string_view name) const {
    const parameter& found = find(name);
    return view().slice(0, found.offset, found.size());
  }

  /// Gives every parameter its initial value; the same seed gives the same bits on every device, for the numbers are made
  /// on the host.
  void initialise(std::uint64_t seed) {
    if constexpr (std::is_same_v<Device, cpu>) {
      initialise(seed, values_.data());
    } else {
      std::vector<T> on_host(static_cast<std::size_t>(size()));
      initialise(seed, on_host.data());
      Device::copy(values_.data(), on_host.data(), on_host.size() * sizeof(T));
    }
  }

 private:
  void initialise(std::uint64_t seed, T* values) const {
    for (std::size_t i = 0; i < index_.size(); ++i) {
      const parameter& part = index_[i];
      const random_stream random{seed, i};
      const std::int64_t row = part.shape.empty() ? 1 : part.shape.back();
      for (std::int64_t j = 0; j < part.size(); ++j) {
        double x = part.initial.value;
        if (part.initial.how == initial_value::kind::truncated_normal) {
          x *= random.truncated_normal(static_cast<std::uint64_t>(j));
        } else if (part.initial.how == initial_value::kind::ramp) {
          x *= static_cast<double>(j % row + 1);
        } else if (part.initial.how == initial_value::kind::powers) {
          x = std::exp(x * static_cast<double>(j % row));
        }
        values[part.offset + j] = static_cast<T>(x);
      }
    }
  }

  const parameter& find(std::string_view name) const {
    for (const parameter& part : index_) {
      if (part.name == name) return part;
    }
    throw value_error("parameter_block", "name", "one of its " + std::to_string(index_.size()) + " parameters", name);
  }

  std::vector<parameter> index_;
  tensor<rank<1>, T, Device> values_;
};

LIGHTNET_END_NAMESPACE
