// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/monoid/prefix_weighted_sum.hpp>
#include <lightnet/recurrence/additive.hpp>

LIGHTNET_BEGIN_NAMESPACE

/// The additive recurrence with logits g apart from the keys and a plain input (xopes, the authors' later code):
///   Z_t = sum_{s <= t} e^(g_s),   S_t = (Z_{t-1} / Z_t) S_{t-1} + k_t v_t^T,   o_t = S_t^T q_t,
/// g being `logits` [B, n_1..n_M, H, d]. A decay that slows down as the sum grows; it does not commute.
struct additive_plain : additive {
  template <class T, class Payload = T>
  using monoid = prefix_weighted_sum<T, Payload>;

  static constexpr const char* name = "additive_plain";
  static constexpr bool commutative = monoid<double>::commutative;
  static constexpr kappa_of kappa = kappa_of::key;
  static constexpr logits_from logits = logits_from::tokens;
  static constexpr weight_of weight = weight_of::running_sum;
};

/// The same with one logit a head, [B, n_1..n_M, H, 1].
struct additive_plain_per_head : additive_plain {
  static constexpr const char* name = "additive_plain_per_head";
  static constexpr bool per_channel = false;
};

LIGHTNET_END_NAMESPACE
