// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/monoid/log_sum_exp.hpp>

LIGHTNET_BEGIN_NAMESPACE

/// Sums of inputs weighed by the running sum of weights, U = sum_s (w_1 + ... + w_s) x_s, in a frame that is a power of
/// two, with what it takes to put one span after another: the sum of weights Z and the plain sum of inputs X:
///   (m, Z, X, U) . (m', Z', X', U') = (M, 2^(m-M) Z + 2^(m'-M) Z', X + X', 2^(m-M) U + 2^(m'-M) U' + 2^(m-M) Z X'),
/// M = max(m, m'). Not commutative: what comes first weighs on what comes after. It is the monoid of the additive
/// recurrence with plain input, S = U / Z.
template <class T, class Payload = T>
struct prefix_weighted_sum {
  static constexpr bool commutative = false;
  using frames = log_sum_exp<T>;

  struct element {
    std::int32_t exponent = empty_exponent;  // m
    T sum = T(0);                            // Z
    Payload input{};                         // X
    Payload payload{};                       // U
    friend constexpr bool operator==(const element&, const element&) = default;
  };

  LIGHTNET_HOST_DEVICE static constexpr element identity() noexcept { return {}; }

  LIGHTNET_HOST_DEVICE static constexpr element combine(const element& left, const element& right) noexcept {
    const typename frames::factors by = frames::rescale(left.exponent, right.exponent);
    const T before = by.left * left.sum;
    return {by.exponent, before + by.right * right.sum, left.input + right.input,
            by.left * left.payload + by.right * right.payload + before * right.input};
  }
};

LIGHTNET_END_NAMESPACE
