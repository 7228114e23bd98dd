// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/math.hpp>
#include <lightnet/core/tensor.hpp>

LIGHTNET_BEGIN_NAMESPACE

/// The state (m, Z, U) of a recurrence with a summed normaliser, as views. What it means is z = m ln 2 + log Z and
/// S = U / Z; passing (m, Z, U) on loses no digit, which passing (z, S) would. d' is d, or 2 d under the cosine encoding.
template <class T, class Device = cpu>
struct framed_state {
  using exponent_type = std::conditional_t<std::is_const_v<T>, const std::int32_t, std::int32_t>;
  dynamic_view<3, exponent_type, Device> exponent{};  // [B, H, d]      m; empty_exponent where no key was seen
  dynamic_view<3, T, Device> normaliser{};            // [B, H, d]      Z
  dynamic_view<4, T, Device> sum{};                   // [B, H, d', e]  U

  explicit operator bool() const noexcept { return static_cast<bool>(sum); }
  operator framed_state<const T, Device>() const  // NOLINT(google-explicit-constructor): as a view
      requires(!std::is_const_v<T>) {
    return {exponent, normaliser, sum};
  }
};

/// The state S of a decay, as a view.
template <class T, class Device = cpu>
struct matrix_state {
  dynamic_view<4, T, Device> sum{};  // [B, H, d', e]  S

  explicit operator bool() const noexcept { return static_cast<bool>(sum); }
  operator matrix_state<const T, Device>() const  // NOLINT(google-explicit-constructor): as a view
      requires(!std::is_const_v<T>) {
    return {sum};
  }
};

/// The gradient with respect to a state, in the coordinates (z, S). A decay has no z.
template <class T, class Device = cpu>
struct state_gradient {
  dynamic_view<3, T, Device> z{};    // [B, H, d]
  dynamic_view<4, T, Device> sum{};  // [B, H, d', e]  with respect to S

  explicit operator bool() const noexcept { return static_cast<bool>(sum); }
  operator state_gradient<const T, Device>() const  // NOLINT(google-explicit-constructor): as a view
      requires(!std::is_const_v<T>) {
    return {z, sum};
  }
};

/// Memory for the state of a recurrence, empty at first.
template <class Recurrence, class T, class Device = cpu>
class state_tensors {
 public:
  /// For B sequences, H heads, d keys, d' stored keys (lightnet::state_keys<Position>(d)) and e values.
  state_tensors(std::int64_t batch, std::int64_t heads, std::int64_t keys, std::int64_t stored_keys,
                std::int64_t values)
      : sum_{{{batch, heads, stored_keys, values}}} {
    if constexpr (Recurrence::framed) {
      normaliser_.resize({{batch, heads, keys}});
      exponent_.resize({{batch, heads, keys}});
      const bool sink = Recurrence::sink;
      for (std::int64_t i = 0; i < exponent_.size(); ++i) {
        exponent_.data()[i] = sink ? 0 : empty_exponent;
        normaliser_.data()[i] = sink ? T(1) : T(0);
      }
    }
  }

  typename Recurrence::template state<T, Device> view() noexcept {
    if constexpr (Recurrence::framed) {
      return {exponent_.view(), normaliser_.view(), sum_.view()};
    } else {
      return {sum_.view()};
    }
  }
  typename Recurrence::template state<const T, Device> view() const noexcept {
    return const_cast<state_tensors*>(this)->view();
  }

 private:
  tensor<rank<3>, std::int32_t, Device> exponent_;
  tensor<rank<3>, T, Device> normaliser_;
  tensor<rank<4>, T, Device> sum_;
};

LIGHTNET_END_NAMESPACE
