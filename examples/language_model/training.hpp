// SPDX-License-Identifier: Apache-2.0
#pragma once

// Training, its test, and what the model writes then.

#include <algorithm>
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

namespace language_model {

using model = lightnet::causal_language_model<model_options, 1, float, device>;
using trainer = lightnet::trainer<model, float, device>;

/// Of a loss in nats a byte.
inline double bits_per_byte(double loss) { return loss / std::numbers::ln2; }

/// Prints the prompt and what the model makes of it.
inline void write_sample(lightnet::execution<device>& on, const trainer& trained, const arguments& given) {
  const std::vector<std::int32_t> prompt = [&] {
    std::vector<std::int32_t> tokens;
    for (const char byte : given.prompt) tokens.push_back(static_cast<unsigned char>(byte));
    return tokens;
  }();
  lightnet::sampler choose{given.sampling, trained.options().seed};
  std::printf("--- a sample ---\n%s", given.prompt.c_str());
  lightnet::generate(on, trained.model(), trained.parameters().for_layer(trained.model()),
                     std::span<const std::int32_t>(prompt), given.count, choose,
                     [](std::int32_t byte) { std::fputc(byte, stdout); });
  std::printf("\n---\n");
}

/// Trains, or goes on from a checkpoint, tests and writes. Gives the exit code.
inline int demonstrate(const arguments& given) {
  std::optional<lightnet::checkpoint> saved;
  if (given.resume) saved.emplace(*given.resume);
  const auto chosen = settings_of(given);
  const auto all = load_corpus(given, chosen.length + 1);
  const examples::bytes learned{all.learned()}, held_out{all.held_out()};
  lightnet::token_options cut{.length = chosen.length};
  lightnet::token_batches<device> testing{held_out.view(), cut};
  const auto few = std::min(held_out.view().extent(0), chosen.tested + 1);
  lightnet::token_batches<device> testing_some{held_out.view().slice(0, 0, few), cut};
  cut.shift = true;
  const auto pieces = lightnet::token_batches<device>{learned.view(), cut}.size();
  examples::text_training<trainer> course{"language_model", description_of(chosen), chosen, given, saved, pieces};
  cut.seed = course.trainer().options().seed;
  lightnet::token_batches<device> training{learned.view(), cut};

  course.introduce(learned.view().extent(0), held_out.view().extent(0));
  const examples::progress_words words{.loss = "bits/byte", .items = "bytes", .loss_scale = bits_per_byte(1)};
  const bool finished = course.run(training, testing_some, words, [](const lightnet::evaluation& result) {
    return "bits/byte " + examples::text("%.4f", bits_per_byte(result.loss));
  });
  if (!finished) return 130;

  const auto result = course.test(testing);
  write_sample(course.on(), course.trainer(), given);
  course.tell_paths();
  std::printf("bits_per_byte=%.4f accuracy=%.4f bytes=%lld parameters=%lld seconds=%.1f\n", bits_per_byte(result.loss),
              result.accuracy(), static_cast<long long>(result.counted),
              static_cast<long long>(course.trainer().parameters().size()), course.record().seconds());
  return 0;
}

}  // namespace language_model
