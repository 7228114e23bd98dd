// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/concepts.hpp>
#include <lightnet/core/view.hpp>
#include <lightnet/monoid/affine.hpp>

#include <type_traits>

LIGHTNET_BEGIN_NAMESPACE

/// The state h of an element-wise recurrence, as a view.
template <class T, class Device = cpu>
struct vector_state {
  dynamic_view<3, T, Device> h{};      // [B, H, d]
  dynamic_view<3, T, Device> decay{};  // [B, H, d]  the product of all decays so far, optional; see merge_states

  explicit operator bool() const noexcept { return static_cast<bool>(h); }
  template <class U>
    requires(!std::is_const_v<T> && std::is_same_v<U, const T>)
  operator vector_state<U, Device>() const {  // NOLINT(google-explicit-constructor): as a view
    return {h, decay};
  }
};

/// A decay a token and channel, without queries and keys (HGRN arXiv 2311.04823, moving averages):
///   h_t = a_t h_{t-1} + x_t,   o_t = h_t,
/// `log_decay` [B, n_1..n_M, H, d] being log a_t <= 0. -inf resets the channel. HGRN has one head, [B, N, 1, D].
struct elementwise_decay {
  template <class T, class Payload = T>
  using monoid = affine<T, Payload>;
  template <class T, class Device>
  using state = vector_state<T, Device>;

  static constexpr const char* name = "elementwise";
  static constexpr bool commutative = monoid<double>::commutative;
  static constexpr bool elementwise = true;  ///< the state is a vector, and the output is the state
  static constexpr bool framed = false;
  static constexpr bool sink = false;
  static constexpr bool per_channel = true;
  static constexpr bool with_sign = false;
  static constexpr logits_from logits = logits_from::tokens;
};
/// The policy's name in a program; a class cannot have a member of its own name.
using elementwise = elementwise_decay;

LIGHTNET_END_NAMESPACE
