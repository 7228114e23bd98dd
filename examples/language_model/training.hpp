// SPDX-License-Identifier: Apache-2.0
#pragma once

// Training, its test, and what the model writes then.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <lightnet/model/generate.hpp>
#include <lightnet/train/checkpoint.hpp>
#include <lightnet/train/token_batches.hpp>
#include <lightnet/train/trainer.hpp>
#include <numbers>
#include <optional>
#include <string>
#include <vector>

#include "common/text_training.hpp"
#include "corpus.hpp"
#include "settings.hpp"
#include "tokenizer.hpp"

namespace language_model {

/// The network for tokens of some kind.
template <class Tokenizer>
struct options_of : model_options {
  static constexpr int vocabulary = Tokenizer::vocabulary;
};
template <class Tokenizer>
using trainer_of =
    lightnet::trainer<lightnet::causal_language_model<options_of<Tokenizer>, 1, number, device>, number, device>;

/// Prints the prompt and what the model makes of it.
template <class Tokenizer>
void write_sample(lightnet::execution<device>& on, const trainer_of<Tokenizer>& trained, const Tokenizer& tokenizer,
                  const arguments& given) {
  const std::vector<std::int32_t> prompt = tokenizer.encode(given.prompt);
  lightnet::sampler choose{given.sampling, trained.options().seed};
  std::printf("--- a sample ---\n%s", given.prompt.c_str());
  lightnet::generate(on, trained.model(), trained.rounded_parameters().for_layer(trained.model()),
                     std::span<const std::int32_t>(prompt), given.count, choose, [&](std::int32_t token) {
                       const std::string text = tokenizer.decode(token);
                       std::fwrite(text.data(), 1, text.size(), stdout);
                     });
  std::printf("\n---\n");
}

/// Trains, or goes on from a checkpoint, tests and writes. Gives the exit code.
template <class Tokenizer>
int demonstrate(const arguments& given) {
  examples::check_output(given.output, program, {".safetensors", ".csv", "_curve.png"});
  const auto saved = examples::saved_training(given, program);
  const auto chosen = settings_of(given);
  const auto all = load_corpus(given, chosen.length + 1);
  const Tokenizer tokenizer{given, all.learned()};
  const examples::tokens learned{tokenizer.encode(all.learned())}, held_out{tokenizer.encode(all.held_out())};
  const auto bytes = static_cast<std::int64_t>(all.learned().size()),
             bytes_held_out = static_cast<std::int64_t>(all.held_out().size());
  const double tokens_per_byte = static_cast<double>(held_out.view().extent(0)) / static_cast<double>(bytes_held_out);
  const auto bits_per_byte = [&](double loss) { return loss / std::numbers::ln2 * tokens_per_byte; };
  lightnet::token_options cut{.length = chosen.length};
  lightnet::token_batches<device> testing{held_out.view(), cut};
  const auto few = std::min(held_out.view().extent(0), chosen.tested + 1);
  lightnet::token_batches<device> testing_some{held_out.view().slice(0, 0, few), cut};
  cut.shift = true;
  const auto pieces = lightnet::token_batches<device>{learned.view(), cut}.size();
  examples::text_training<trainer_of<Tokenizer>> course{
      program, description_of(chosen, Tokenizer::vocabulary), chosen, given, saved, learned, pieces};
  cut.seed = course.trainer().options().seed;
  lightnet::token_batches<device> training{learned.view(), cut};

  course.introduce(bytes, bytes_held_out);
  const examples::progress_words words{.loss = "bits/byte", .items = Tokenizer::items, .loss_scale = bits_per_byte(1)};
  if (!course.run(training, testing_some, words)) return 130;

  const auto result = course.test(testing);
  write_sample(course.on(), course.trainer(), tokenizer, given);
  course.tell_paths();
  std::printf("bits_per_byte=%.4f accuracy=%.4f bytes=%lld parameters=%lld seconds=%.1f\n", bits_per_byte(result.loss),
              result.accuracy(), std::llround(static_cast<double>(result.counted) / tokens_per_byte),
              static_cast<long long>(course.trainer().parameters().size()), course.record().seconds());
  return 0;
}

}  // namespace language_model
