// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/recurrence/constant_decay.hpp>

LIGHTNET_BEGIN_NAMESPACE

/// One decay a token and head (Mamba-2 arXiv 2405.21060, simple GLA):
///   S_t = a_t S_{t-1} + k_t v_t^T,   o_t = S_t^T q_t,
/// `log_decay` [B, n_1..n_M, H, 1] being log a_t <= 0. -inf resets the state.
struct scalar_decay : constant_decay {
  static constexpr const char* name = "scalar_decay";
  static constexpr logits_from logits = logits_from::tokens;
};

LIGHTNET_END_NAMESPACE
