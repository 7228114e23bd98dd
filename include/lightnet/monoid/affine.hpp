// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/config.hpp>

LIGHTNET_BEGIN_NAMESPACE

/// The maps h -> a h + b under "first the left one, then the right one":
///   (a, b) . (a', b') = (a a', a' b + b').
/// A prefix of tokens is the map from the initial state to the state. Not commutative: decays know an order.
template <class T, class Payload = T>
struct affine {
  static constexpr bool commutative = false;

  struct element {
    T decay = T(1);     // a
    Payload payload{};  // b
    friend constexpr bool operator==(const element&, const element&) = default;
  };

  LIGHTNET_HOST_DEVICE static constexpr element identity() noexcept { return {}; }

  LIGHTNET_HOST_DEVICE static constexpr element combine(const element& left, const element& right) noexcept {
    return {left.decay * right.decay, right.decay * left.payload + right.payload};
  }
};

LIGHTNET_END_NAMESPACE
