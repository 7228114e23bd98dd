// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/recurrence/additive.hpp>

LIGHTNET_BEGIN_NAMESPACE

/// The additive recurrence with logits g apart from the keys and a gated input (xopes, the authors' later code):
///   Z_t = sum_{s <= t} e^(g_s),   S_t = (1 / Z_t) sum_{s <= t} e^(g_s) k_s v_s^T,   o_t = S_t^T q_t,
/// g being `logits` [B, n_1..n_M, H, d]. It commutes.
struct additive_gated : additive {
  static constexpr const char* name = "additive_gated";
  static constexpr kappa_of kappa = kappa_of::key;
  static constexpr logits_from logits = logits_from::tokens;
};

/// The same with one logit a head, [B, n_1..n_M, H, 1].
struct additive_gated_per_head : additive_gated {
  static constexpr const char* name = "additive_gated_per_head";
  static constexpr bool per_channel = false;
};

LIGHTNET_END_NAMESPACE
