// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/decimal.hpp>
#include <lightnet/train/text_batches.hpp>

#include <string>

LIGHTNET_BEGIN_NAMESPACE

/// The task of a masked language model (arXiv 1810.04805): tokens are chosen at random, each by itself, and are the labels of
/// their places; the other places do not count. Of the chosen tokens most read as the mask token, some as a token drawn
/// evenly from those below the mask token, and the rest as themselves, so that a token that is there cannot be trusted.
struct masking {
  static constexpr std::int64_t beyond = 0;
  static constexpr std::int32_t no_label = -1;  ///< what cross_entropy ignores

  std::int32_t mask_token = 256;
  double rate = 0.15;     ///< share of the tokens that are chosen
  double hidden = 0.8;    ///< share of the chosen that read as the mask token
  double replaced = 0.1;  ///< share of the chosen that read as a random token

  /// Throws value_error for numbers that mask nothing.
  void check() const {
    const auto need = [](bool good, const char* argument, const char* expected, const std::string& came) {
      if (!good) throw value_error("masking", argument, expected, came);
    };
    need(mask_token >= 1, "mask_token", "one or more, above the tokens of the text", std::to_string(mask_token));
    need(rate > 0 && rate <= 1, "rate", "more than zero, at most one", detail::decimal(rate));
    need(hidden >= 0 && replaced >= 0 && hidden + replaced <= 1, "hidden, replaced", "shares, together at most one",
         detail::decimal(hidden) + ", " + detail::decimal(replaced));
  }

  LIGHTNET_HOST_DEVICE void operator()(const std::int32_t* text, const random_stream& random, std::uint64_t place,
                                       std::int32_t& input, std::int32_t& label) const noexcept {
    const std::uint64_t draw = 4 * place;
    input = *text;
    label = no_label;
    if (random.uniform(draw) >= rate) return;
    label = *text;
    const double fate = random.uniform(draw + 1);
    if (fate < hidden) {
      input = mask_token;
    } else if (fate < hidden + replaced) {
      input = static_cast<std::int32_t>(random.below(static_cast<std::uint32_t>(mask_token), draw + 2));
    }
  }
};

/// Batches for a masked language model.
template <class Device = cpu>
using masked_batches = text_batches<masking, Device>;

LIGHTNET_END_NAMESPACE
