// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/config.hpp>

LIGHTNET_BEGIN_NAMESPACE

/// A scan over the flattened tokens and one back, added: every token sees all others, itself in both. Takes and gives no
/// state.
struct bidirectional {
  static constexpr const char* name = "bidirectional";
  static constexpr bool ordered = true;
  static constexpr bool stateful = false;
  static constexpr bool along_axes = false;
  static constexpr int scans(int) noexcept { return 2; }
};

LIGHTNET_END_NAMESPACE
