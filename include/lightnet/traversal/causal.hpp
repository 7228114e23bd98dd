// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/config.hpp>

LIGHTNET_BEGIN_NAMESPACE

/// A token sees itself and what came before it, the tokens of a grid flattened in row-major order: one scan.
struct causal {
  static constexpr const char* name = "causal";
  static constexpr bool ordered = true;   ///< tokens are seen in an order
  static constexpr bool stateful = true;  ///< takes and gives a state
  static constexpr int scans = 1;
};

LIGHTNET_END_NAMESPACE
