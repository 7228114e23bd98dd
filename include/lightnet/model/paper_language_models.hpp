// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/model/causal_language_model.hpp>
#include <lightnet/model/masked_language_model.hpp>

LIGHTNET_BEGIN_NAMESPACE

// The causal language models of the paper (arXiv 2405.21022, appendix) by their sizes, as options. Heads are 128 wide, and the
// embedding of 50,265 tokens is tied. paper_language_model() of train/presets.hpp says how they are trained.

/// Layers, width and inner width of the GLU.
template <int Layers, int Width, int Inner, class Options = causal_language_model_options>
struct paper_language_model_options : Options {
  static constexpr int layers = Layers, width = Width, inner = Inner;
  static constexpr int heads = Width / 128;
  static constexpr int gate_rank = 128;
  static constexpr int vocabulary = 50'265;
};

using language_model_150m = paper_language_model_options<15, 768, 2048>;
using language_model_385m = paper_language_model_options<26, 1024, 2688>;
using language_model_1b = paper_language_model_options<18, 2048, 5504>;
using language_model_3b = paper_language_model_options<36, 2560, 6784>;

/// The shape of language_model_150m, 15 layers of width 768, as a masked language model. The paper does not say how large its
/// bidirectional models are.
using masked_language_model_15x768 = paper_language_model_options<15, 768, 2048, masked_language_model_options>;

namespace detail {
/// Whether a model has the number of parameters that the paper says, in millions, within 3 %.
template <class Options>
constexpr bool sized(double millions) noexcept {
  const double ratio = static_cast<double>(causal_language_model<Options, 1>::parameter_count) / (millions * 1e6);
  return ratio >= 0.97 && ratio <= 1.03;
}
static_assert(sized<language_model_150m>(150));
static_assert(sized<language_model_385m>(385));
static_assert(sized<language_model_1b>(1000));
static_assert(sized<language_model_3b>(2900));
static_assert(masked_language_model<masked_language_model_15x768, 1>::parameter_count ==
              causal_language_model<language_model_150m, 1>::parameter_count);
}  // namespace detail

LIGHTNET_END_NAMESPACE
