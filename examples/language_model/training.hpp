// SPDX-License-Identifier: Apache-2.0
#pragma once

// Training, its test, and what the model writes then.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <lightnet/model/generate.hpp>
#include <lightnet/train/checkpoint.hpp>
#include <lightnet/train/token_batches.hpp>
#include <lightnet/train/trainer.hpp>
#include <numbers>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "common/progress.hpp"
#include "common/recorder.hpp"
#include "common/resume.hpp"
#include "common/stop.hpp"
#include "common/text.hpp"
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
    lightnet::trainer<lightnet::causal_language_model<options_of<Tokenizer>, 1, float, device>, float, device>;

/// Prints the prompt and what the model makes of it.
template <class Tokenizer>
void write_sample(lightnet::execution<device>& on, const trainer_of<Tokenizer>& trained, const Tokenizer& tokenizer,
                  const arguments& given) {
  const std::vector<std::int32_t> prompt = tokenizer.encode(given.prompt);
  lightnet::sampler choose{given.sampling, trained.options().seed};
  std::printf("--- a sample ---\n%s", given.prompt.c_str());
  lightnet::generate(on, trained.model(), trained.parameters().for_layer(trained.model()),
                     std::span<const std::int32_t>(prompt), given.count, choose, [&](std::int32_t token) {
                       const std::string text = tokenizer.decode(token);
                       std::fwrite(text.data(), 1, text.size(), stdout);
                     });
  std::printf("\n---\n");
}

/// Trains, or goes on from a checkpoint, tests and writes. Gives the exit code.
template <class Tokenizer>
int demonstrate(const arguments& given, const std::optional<lightnet::checkpoint>& saved) {
  namespace fs = std::filesystem;
  const auto standard = settings_of(given);
  const auto description = description_of(standard, Tokenizer::vocabulary);
  const auto all = load_corpus(given, standard.length + 1);
  const Tokenizer tokenizer{given.tokenizer, all.learned()};
  const examples::tokens learned{tokenizer.encode(all.learned())}, held_out{tokenizer.encode(all.held_out())};
  const double tokens_per_byte =
      static_cast<double>(held_out.view().extent(0)) / static_cast<double>(all.held_out().size());
  const auto bits_per_byte = [&](double loss) { return loss / std::numbers::ln2 * tokens_per_byte; };
  lightnet::token_options cut{.length = standard.length};
  lightnet::token_batches<device> testing{held_out.view(), cut};
  const auto few = std::min(held_out.view().extent(0), standard.tested + 1);
  lightnet::token_batches<device> testing_some{held_out.view().slice(0, 0, few), cut};
  cut.shift = true;
  const auto pieces = lightnet::token_batches<device>{learned.view(), cut}.size();
  const auto options = saved ? examples::resumed_options(given, *saved, pieces) : options_for(standard, pieces);
  cut.seed = options.seed;
  lightnet::token_batches<device> training{learned.view(), cut};
  const auto updates_of_epoch = lightnet::updates_of_epoch(training.size(), options.batch);
  const auto updates = options.epochs * updates_of_epoch;

  machine used{given.threads};
  auto& on = used.on;
  trainer_of<Tokenizer> trained{{}, options};
  examples::recorder record{updates / standard.points, "additive"};
  if (saved) {
    record.restore(*saved, description);
    saved->load(trained);
  }
  const fs::path folder = given.output;
  std::error_code failed;
  fs::create_directories(folder, failed);
  if (failed) throw lightnet::file_error(folder.string(), "cannot be made a folder: " + failed.message());
  const auto checkpoint_path = folder / "language_model.safetensors";
  const auto parameters = trained.parameters().size();
  std::printf("LightNet: %s parameters, %s bytes to learn from, %s held out, %s\n",
              examples::grouped(parameters).c_str(),
              examples::grouped(static_cast<std::int64_t>(all.learned().size())).c_str(),
              examples::grouped(static_cast<std::int64_t>(all.held_out().size())).c_str(), used.name().c_str());
  std::fflush(stdout);

  examples::stop_on_signals();
  bool finished = false;
  {
    examples::progress_bar bar{stdout,
                               updates,
                               updates_of_epoch,
                               std::min(options.batch, training.size()) * standard.length,
                               trained.state().step,
                               {.loss = "bits/byte", .items = Tokenizer::items, .loss_scale = bits_per_byte(1)}};
    auto last = std::chrono::steady_clock::now();
    finished = trained.run(on, training, examples::stop, [&](const lightnet::training_progress& now) {
      bar.update(now.step, now.loss, now.accuracy);
      const auto time = std::chrono::steady_clock::now();
      record.add(now, std::chrono::duration<double>(time - last).count(),
                 bar.items_per_second() / static_cast<double>(standard.length));
      last = time;
      if (now.step * standard.tests / updates != (now.step - 1) * standard.tests / updates) {
        const auto result = trained.evaluate(on, testing_some);
        record.add_test(result);
        bar.message("update " + std::to_string(now.step) + "  held out: bits/byte " +
                    examples::text("%.4f", bits_per_byte(result.loss)));
        record.save(checkpoint_path, trained, description);
        bar.resume();
        last = std::chrono::steady_clock::now();
      }
    });
  }
  if (!finished) {
    record.save(checkpoint_path, trained, description);
    std::printf("stopped after update %lld of %lld; to go on: --resume %s\n",
                static_cast<long long>(trained.state().step), static_cast<long long>(updates), checkpoint_path.c_str());
    return 130;
  }
  examples::end_on_signals();

  const auto result = trained.evaluate(on, testing);
  record.add_test(result);
  examples::write_curve(folder / "language_model.csv", record.curve());
  write_sample(on, trained, tokenizer, given);
  std::printf("%s\n%s\n", checkpoint_path.c_str(), (folder / "language_model.csv").c_str());
  std::printf("bits_per_byte=%.4f accuracy=%.4f bytes=%lld parameters=%lld seconds=%.1f\n", bits_per_byte(result.loss),
              result.accuracy(), std::llround(static_cast<double>(result.counted) / tokens_per_byte),
              static_cast<long long>(parameters), record.seconds());
  return 0;
}

}  // namespace language_model
