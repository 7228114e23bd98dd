// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/concepts.hpp>
#include <lightnet/core/state.hpp>
#include <lightnet/monoid/affine.hpp>

#include <cmath>

LIGHTNET_BEGIN_NAMESPACE

/// One decay a head (RetNet arXiv 2307.08621, TNL and Lightning Attention-2 arXiv 2401.04658):
///   S_t = lambda_h S_{t-1} + k_t v_t^T,   o_t = S_t^T q_t.
/// `log_decay` [H] gives log lambda_h <= 0; where it is not given, the slopes of TNL are taken. Tokens have an order
/// here, so a view of all tokens costs two scans.
struct constant_decay {
  template <class T, class Payload = T>
  using monoid = affine<T, Payload>;
  template <class T, class Device>
  using state = matrix_state<T, Device>;

  static constexpr const char* name = "constant_decay";
  static constexpr bool commutative = monoid<double>::commutative;
  static constexpr bool framed = false;
  static constexpr bool sink = false;
  static constexpr bool per_channel = false;
  static constexpr bool with_sign = false;
  static constexpr kappa_of kappa = kappa_of::key;
  static constexpr logits_from logits = logits_from::head;
  static constexpr weight_of weight = weight_of::inverse_decay;
  static constexpr normaliser_of normaliser = normaliser_of::weight;

  /// What is taken where `log_decay` is not given.
  LIGHTNET_HOST_DEVICE static double default_log_decay(std::int64_t h, std::int64_t heads) noexcept {
    return tnl(h, heads);
  }
  /// log lambda_h = -2^(-8 (h + 1) / H), the ALiBi slopes of TNL and Lightning Attention-2; h counts from 0.
  LIGHTNET_HOST_DEVICE static double tnl(std::int64_t h, std::int64_t heads) noexcept {
    return -std::exp2(-8.0 * static_cast<double>(h + 1) / static_cast<double>(heads));
  }
  /// log lambda_h = log(1 - 2^(-5 - h)), the rates of RetNet; h counts from 0.
  LIGHTNET_HOST_DEVICE static double retnet(std::int64_t h, std::int64_t) noexcept {
    return std::log1p(-std::exp2(-5.0 - static_cast<double>(h)));
  }
  /// log lambda_h = -(8 (h + 1) / H) (1 - layer / layers), the rates that flash-linear-attention gives the layers of
  /// Lightning Attention; h and layer count from 0.
  LIGHTNET_HOST_DEVICE static double lightning(std::int64_t h, std::int64_t heads, std::int64_t layer,
                                               std::int64_t layers) noexcept {
    return -8.0 * static_cast<double>(h + 1) / static_cast<double>(heads) *
           (1 - static_cast<double>(layer) / static_cast<double>(layers));
  }
};

LIGHTNET_END_NAMESPACE
