// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/config.hpp>

LIGHTNET_BEGIN_NAMESPACE

/// Both directions along each axis, the other axes batched, added: a token sees the lines through it, itself 2 M times.
/// Takes and gives no state; every token has a place, so the grid has no prefix.
struct axial {
  static constexpr const char* name = "axial";
  static constexpr bool ordered = true;
  static constexpr bool stateful = false;
  static constexpr bool along_axes = true;
  static constexpr int scans(int dims) noexcept { return 2 * dims; }
};

LIGHTNET_END_NAMESPACE
