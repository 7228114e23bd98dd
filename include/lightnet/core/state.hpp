// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/concepts.hpp>
#include <lightnet/core/half.hpp>
#include <lightnet/core/math.hpp>
#include <lightnet/core/tensor.hpp>

#include <vector>

LIGHTNET_BEGIN_NAMESPACE

/// The state (m, Z, U) of a recurrence with a summed normaliser, as views. What it means is z = m ln 2 + log Z and
/// S = U / Z; passing (m, Z, U) on loses no digit, which passing (z, S) would. d' is d, or 2 d under the cosine encoding.
template <class T, class Device = cpu>
struct framed_state {
  using exponent_type = std::conditional_t<std::is_const_v<T>, const std::int32_t, std::int32_t>;
  dynamic_view<3, exponent_type, Device> exponent{};  // [B, H, d]      m; empty_exponent where no key was seen
  dynamic_view<3, T, Device> normaliser{};            // [B, H, d]      Z; d is 1 where a head has one logit
  dynamic_view<4, T, Device> sum{};                   // [B, H, d', e]  U
  dynamic_view<4, T, Device> input{};                 // [B, H, d', e]  X, additive_plain only; see merge_states

  LIGHTNET_HOST_DEVICE explicit operator bool() const noexcept { return static_cast<bool>(sum); }
  template <class U>
    requires(std::is_same_v<U, const T> && !std::is_const_v<T>)
  operator framed_state<U, Device>() const {  // NOLINT(google-explicit-constructor): as a view
    return {exponent, normaliser, sum, input};
  }
};

/// The state S of a decay, as a view.
template <class T, class Device = cpu>
struct matrix_state {
  dynamic_view<4, T, Device> sum{};    // [B, H, d', e]  S
  dynamic_view<3, T, Device> decay{};  // [B, H, d or 1] the product of all decays so far; see merge_states

  LIGHTNET_HOST_DEVICE explicit operator bool() const noexcept { return static_cast<bool>(sum); }
  template <class U>
    requires(std::is_same_v<U, const T> && !std::is_const_v<T>)
  operator matrix_state<U, Device>() const {  // NOLINT(google-explicit-constructor): as a view
    return {sum, decay};
  }
};

/// The gradient with respect to a state, in the coordinates (z, S). A decay has no z.
template <class T, class Device = cpu>
struct state_gradient {
  dynamic_view<3, T, Device> z{};    // [B, H, d]
  dynamic_view<4, T, Device> sum{};  // [B, H, d', e]  with respect to S

  LIGHTNET_HOST_DEVICE explicit operator bool() const noexcept { return static_cast<bool>(sum); }
  template <class U>
    requires(std::is_same_v<U, const T> && !std::is_const_v<T>)
  operator state_gradient<U, Device>() const {  // NOLINT(google-explicit-constructor): as a view
    return {z, sum};
  }
};

/// Memory for the state of a recurrence, empty at first. T is the type of the sequences; states are in its accumulator.
template <class Recurrence, class T, class Device = cpu>
class state_tensors {
 public:
  using sum_type = accumulator<T>;

  /// For B sequences, H heads, d keys, d' stored keys (lightnet::state_keys<Position>(d)) and e values.
  state_tensors(std::int64_t batch, std::int64_t heads, std::int64_t keys, std::int64_t stored_keys,
                std::int64_t values)
      : weights_{{{batch, heads, Recurrence::per_channel ? keys : 1}}}, sum_{{{batch, heads, stored_keys, values}}} {
    const bool full = !Recurrence::framed || Recurrence::sink;  // a decay has decayed by 1, a sink weighs 1
    if (full) fill(weights_, sum_type(1));
    if constexpr (Recurrence::framed) {
      exponent_.resize(weights_.view().extents());
      if (!full) fill(exponent_, empty_exponent);
    }
    if constexpr (Recurrence::weight == weight_of::running_sum) input_.resize(sum_.view().extents());
  }

  typename Recurrence::template state<sum_type, Device> view() noexcept {
    if constexpr (Recurrence::framed) {
      typename Recurrence::template state<sum_type, Device> views{exponent_.view(), weights_.view(), sum_.view(), {}};
      if (Recurrence::weight == weight_of::running_sum) views.input = input_.view();
      return views;
    } else {
      return {sum_.view(), weights_.view()};
    }
  }
  typename Recurrence::template state<const sum_type, Device> view() const noexcept {
    return const_cast<state_tensors*>(this)->view();
  }

 private:
  template <class Number>
  static void fill(tensor<rank<3>, Number, Device>& to, Number value) {
    const std::vector<Number> values(static_cast<std::size_t>(to.size()), value);
    Device::copy(to.data(), values.data(), values.size() * sizeof(Number));
  }

  tensor<rank<3>, sum_type, Device> weights_;  // Z, or the product of the decays
  tensor<rank<3>, std::int32_t, Device> exponent_;
  tensor<rank<4>, sum_type, Device> sum_, input_;
};

LIGHTNET_END_NAMESPACE
