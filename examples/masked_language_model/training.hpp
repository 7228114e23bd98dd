// SPDX-License-Identifier: Apache-2.0
#pragma once

// Training, its test, and what the model guesses then.

#include <algorithm>
#include <cstdio>
#include <lightnet/train/checkpoint.hpp>
#include <lightnet/train/masked_batches.hpp>
#include <numbers>
#include <optional>
#include <string>

#include "common/text_training.hpp"
#include "corpus.hpp"
#include "guesses.hpp"
#include "settings.hpp"

namespace masked_language_model {

/// Trains, or goes on from a checkpoint, tests and guesses. Gives the exit code.
inline int demonstrate(const arguments& given) {
  examples::check_output(given.output, program, {".safetensors", ".csv", "_curve.png"});
  const auto saved = examples::saved_training(given, program);
  const auto chosen = settings_of(given);
  const auto text = load_corpus(given.data, chosen.limit, chosen.test, 2 * chosen.length);
  const examples::bytes learned{text.learned}, held_out{text.held_out};
  const lightnet::masking lesson{.mask_token = model::mask_token, .rate = chosen.mask_rate};
  // In a test every byte that is asked for is hidden.
  const lightnet::masking question{
      .mask_token = model::mask_token, .rate = chosen.mask_rate, .hidden = 1, .replaced = 0};
  lightnet::token_options cut{.length = chosen.length};
  lightnet::masked_batches<device> testing{held_out.view(), cut, question};
  const auto few = std::min(held_out.view().extent(0), std::max(chosen.tested, chosen.length));
  lightnet::masked_batches<device> testing_some{held_out.view().slice(0, 0, few), cut, question};
  cut.shift = true;
  const auto pieces = lightnet::masked_batches<device>{learned.view(), cut, lesson}.size();
  examples::text_training<trainer> course{program, description_of(chosen), chosen, given, saved, learned, pieces};
  cut.seed = course.trainer().options().seed;
  lightnet::masked_batches<device> training{learned.view(), cut, lesson};

  course.introduce(learned.view().extent(0), held_out.view().extent(0));
  std::printf("always guessing the most frequent byte is right for %.2f %%\n", 100 * text.unigram());
  const examples::progress_words words{.loss = "bits/guess", .items = "bytes", .loss_scale = 1 / std::numbers::ln2};
  if (!course.run(training, testing_some, words)) return 130;

  const auto result = course.test(testing);
  std::printf("\nheld-out text, | for the end of a line:\n");
  constexpr std::size_t shown = 4, columns = 96;
  for (std::size_t i = 0; i < shown; ++i) {
    const auto piece = text.held_out.substr((text.held_out.size() / shown) * i, columns);
    show_guesses(course.on(), course.trainer(), piece, chosen.mask_rate, static_cast<std::uint32_t>(i));
  }
  for (const auto& asked : given.fill) fill_in(course.on(), course.trainer(), asked);
  course.tell_paths();
  std::printf("masked_accuracy=%.4f unigram=%.4f places=%lld parameters=%lld seconds=%.1f\n", result.accuracy(),
              text.unigram(), static_cast<long long>(result.counted),
              static_cast<long long>(course.trainer().parameters().size()), course.record().seconds());
  return 0;
}

}  // namespace masked_language_model
