// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/model/language_model.hpp>

LIGHTNET_BEGIN_NAMESPACE

/// What a masked language model may choose; derive from it and name what differs.
struct masked_language_model_options : language_model_options {
  static constexpr int vocabulary = 257;  ///< bytes, and the mask token after them
  static constexpr bool both_ways = true;
  using traversal = global;
  using position = md_lrpe_rotate;  ///< tells what comes before from what comes after, as nothing else here does
};

/// The bidirectional language model of arXiv 2405.21022, with one scan a layer: every token sees all others, and the logits of
/// a token are of what stands in its place. The last token of the vocabulary is the mask token, which hides one that is to be
/// guessed (arXiv 1810.04805; masked_batches makes such batches).
///
/// The cosine form of MD-LRPE and an MD-TPE that reads both ways know how far apart two tokens are, not which comes first: of
/// them alone a text read backwards would have the same logits, backwards. Both together are refused.
template <class Options, int Dims, class T = float, class Device = cpu>
struct masked_language_model : language_model<Options, Dims, T, Device> {
  static constexpr std::int32_t mask_token = Options::vocabulary - 1;
  static_assert(!std::is_same_v<typename Options::traversal, causal>,
                "lightnet: a masked language model sees later tokens; use the traversal global or bidirectional");
  static_assert(
      !Options::both_ways || Options::position::mixes_channels,
      "lightnet: these encodings cannot tell a text from the same text backwards; use md_lrpe_rotate, or MD-TPE "
      "one way");
};

LIGHTNET_END_NAMESPACE
