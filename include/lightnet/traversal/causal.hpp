// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/config.hpp>

LIGHTNET_BEGIN_NAMESPACE

/// A token sees itself and what came before it, the tokens of a grid flattened in row-major order: one scan.
struct causal {
  static constexpr const char* name = "causal";
  static constexpr bool ordered = true;
  static constexpr bool stateful = true;
  static constexpr bool along_axes = false;
  static constexpr int scans(int) noexcept { return 1; }
};

LIGHTNET_END_NAMESPACE
