// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/model/causal_language_model.hpp>

LIGHTNET_BEGIN_NAMESPACE

/// The LightNet of flash-linear-attention (https://github.com/fla-org/flash-linear-attention, fla/models/lightnet in version
/// 0.6.0) as options of a causal_language_model: it has no encodings, and a head of its own unless it is Tied. Where its
/// norm_eps is not the default, derive and name norm_epsilon. read_fla_checkpoint of io/fla_checkpoint.hpp reads its weights.
template <int Layers, int Width, int Heads, int Inner, int Vocabulary, int GateRank = 128, bool Tied = false>
struct fla_language_model_options : causal_language_model_options {
  static constexpr int layers = Layers, width = Width, heads = Heads, inner = Inner, vocabulary = Vocabulary;
  static constexpr int gate_rank = GateRank, modes = 0;
  static constexpr bool tied_head = Tied;
  static constexpr double norm_epsilon = 1e-6;
  // The norm of the gate has an epsilon of 1e-6, whatever norm_eps is. And its operand is 1 / sqrt(d) of ours, d the width of
  // a head, for so are the queries: RMSNorm(o / sqrt(d)) with that epsilon is RMSNorm(o) with d times as much.
  static constexpr double gate_norm_epsilon = 1e-6 * (Width / Heads);
  using position = no_position;
};

LIGHTNET_END_NAMESPACE
