// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/config.hpp>

#include <cstdint>

LIGHTNET_BEGIN_NAMESPACE

/// No position encoding inside the recurrence.
struct no_position {
  static constexpr const char* name = "none";
  static constexpr bool encodes = false;         ///< queries and weights pass unchanged
  static constexpr bool mixes_channels = false;  ///< a channel of the state belongs to one channel of the key
  LIGHTNET_HOST_DEVICE static constexpr std::int64_t width(std::int64_t keys) noexcept { return keys; }
};

LIGHTNET_END_NAMESPACE
