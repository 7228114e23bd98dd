// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/model/language_model.hpp>

LIGHTNET_BEGIN_NAMESPACE

/// What a causal language model may choose; derive from it and name what differs.
struct causal_language_model_options : language_model_options {
  using traversal = causal;
};

/// The autoregressive language model of arXiv 2405.21022: the logits of a token are of the one that comes after it, and only
/// the tokens up to it count.
template <class Options, int Dims, class T = float, class Device = cpu>
struct causal_language_model : language_model<Options, Dims, T, Device> {
  static_assert(
      std::is_same_v<typename Options::traversal, causal> && !Options::both_ways,
      "lightnet: a causal language model must not see later tokens; use the traversal causal, and MD-TPE one way");
};

LIGHTNET_END_NAMESPACE
