// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/config.hpp>

LIGHTNET_BEGIN_NAMESPACE

/// Every token sees all tokens through one reduction, for recurrences that commute: "you only scan once". An initial
/// state is one more element of the total.
struct global {
  static constexpr const char* name = "global";
  static constexpr bool ordered = false;
  static constexpr bool stateful = true;
  static constexpr bool along_axes = false;
  static constexpr int scans(int) noexcept { return 1; }
};

LIGHTNET_END_NAMESPACE
