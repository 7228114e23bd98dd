// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/config.hpp>

LIGHTNET_BEGIN_NAMESPACE

/// Sums of what does not decay. Commutative.
template <class T, class Payload = T>
struct addition {
  static constexpr bool commutative = true;
  using element = Payload;

  LIGHTNET_HOST_DEVICE static constexpr element identity() noexcept { return {}; }
  LIGHTNET_HOST_DEVICE static constexpr element combine(const element& left, const element& right) noexcept {
    return left + right;
  }
};

LIGHTNET_END_NAMESPACE
