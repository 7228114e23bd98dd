// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/recurrence/scalar_decay.hpp>

LIGHTNET_BEGIN_NAMESPACE

/// One decay a token and channel of the key (GLA arXiv 2312.06635):
///   S_t = diag(a_t) S_{t-1} + k_t v_t^T,   o_t = S_t^T q_t,
/// `log_decay` [B, n_1..n_M, H, d] being log a_t <= 0. -inf resets the channel.
struct vector_decay : scalar_decay {
  static constexpr const char* name = "vector_decay";
  static constexpr bool per_channel = true;
};

/// The vector decay of HGRN2 (arXiv 2404.07904): k_t = 1 - a_t, so that there is no key to give.
struct hgrn2 : vector_decay {
  static constexpr const char* name = "hgrn2";
  static constexpr kappa_of kappa = kappa_of::complement;
};

LIGHTNET_END_NAMESPACE
