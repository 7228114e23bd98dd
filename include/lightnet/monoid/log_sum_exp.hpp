// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/math.hpp>

LIGHTNET_BEGIN_NAMESPACE

/// A payload of nothing: the bare monoid.
struct no_payload {
  template <class T>
  friend LIGHTNET_HOST_DEVICE constexpr no_payload operator*(T, no_payload) noexcept {
    return {};
  }
  friend LIGHTNET_HOST_DEVICE constexpr no_payload operator+(no_payload, no_payload) noexcept { return {}; }
  friend constexpr bool operator==(no_payload, no_payload) = default;
};

/// Sums of exponentials with what they weigh, in a frame that is a power of two (arXiv 2405.21022, appendix A.1, in the
/// form that cannot overflow):
///   (m, Z, U) . (m', Z', U') = (M, 2^(m-M) Z + 2^(m'-M) Z', 2^(m-M) U + 2^(m'-M) U'),  M = max(m, m').
/// The rescaling is exact. Commutative: the total of a set of tokens does not depend on their order.
template <class T, class Payload = no_payload>
struct log_sum_exp {
  static constexpr bool commutative = true;

  struct element {
    std::int32_t exponent = empty_exponent;  // m
    T sum = T(0);                            // Z
    Payload payload{};                       // U
    friend constexpr bool operator==(const element&, const element&) = default;
  };

  /// What each side of a product is multiplied by in the common frame.
  struct factors {
    std::int32_t exponent;
    T left, right;
  };

  LIGHTNET_HOST_DEVICE static constexpr element identity() noexcept { return {}; }

  LIGHTNET_HOST_DEVICE static constexpr factors rescale(std::int32_t left, std::int32_t right) noexcept {
    const std::int32_t frame = left < right ? right : left;
    return {frame, scale_by_power_of_two(T(1), left - frame), scale_by_power_of_two(T(1), right - frame)};
  }

  LIGHTNET_HOST_DEVICE static constexpr element combine(const element& left, const element& right) noexcept {
    const factors by = rescale(left.exponent, right.exponent);
    return {by.exponent, by.left * left.sum + by.right * right.sum, by.left * left.payload + by.right * right.payload};
  }
};

LIGHTNET_END_NAMESPACE
