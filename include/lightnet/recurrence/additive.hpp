// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/concepts.hpp>
#include <lightnet/core/state.hpp>
#include <lightnet/monoid/log_sum_exp.hpp>

LIGHTNET_BEGIN_NAMESPACE

/// The recurrence of LightNet (arXiv 2405.21022, appendix A.1), tied: for every channel of the key
///   Z_t = sum_{s <= t} e^(k_s),   S_t = (1 / Z_t) sum_{s <= t} e^(k_s) v_s^T,   o_t = S_t^T q_t.
/// It commutes, so data of any number of dimensions needs one scan.
struct additive {
  template <class T, class Payload = no_payload>
  using monoid = log_sum_exp<T, Payload>;
  template <class T, class Device>
  using state = framed_state<T, Device>;

  static constexpr const char* name = "additive";
  static constexpr bool commutative = monoid<double>::commutative;
  static constexpr bool framed = true;       ///< the state is (m, Z, U)
  static constexpr bool sink = false;        ///< Z_0 = 0 where no state is given
  static constexpr bool per_channel = true;  ///< the channels of a key have weights of their own
  static constexpr bool with_sign = false;
  static constexpr kappa_of kappa = kappa_of::one;
  static constexpr logits_from logits = logits_from::keys;
  static constexpr weight_of weight = weight_of::exponential;
  static constexpr normaliser_of normaliser = normaliser_of::sum;
};

/// The additive recurrence with a sink: Z_0 = 1 (z_0 = 0) where no state is given, so that a token may attend to
/// nothing. Z_t = 1 + sum_{s <= t} e^(k_s).
struct additive_with_sink : additive {
  static constexpr const char* name = "additive_with_sink";
  static constexpr bool sink = true;
};

LIGHTNET_END_NAMESPACE
