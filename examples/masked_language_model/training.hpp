// SPDX-License-Identifier: Apache-2.0
#pragma once

// Training, its test, and what the model guesses then.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <lightnet/train/checkpoint.hpp>
#include <lightnet/train/masked_batches.hpp>
#include <numbers>
#include <optional>
#include <string>
#include <system_error>

#include "common/progress.hpp"
#include "common/recorder.hpp"
#include "common/resume.hpp"
#include "common/stop.hpp"
#include "common/text.hpp"
#include "corpus.hpp"
#include "guesses.hpp"
#include "settings.hpp"

namespace masked_language_model {

/// Trains, or goes on from a checkpoint, tests and guesses. Gives the exit code.
inline int demonstrate(const arguments& given, const std::optional<lightnet::checkpoint>& saved) {
  namespace fs = std::filesystem;
  const auto standard = settings_of(given);
  const auto description = description_of(standard);
  const auto text = load_corpus(given.data, standard.limit, standard.test, 2 * standard.length);
  const examples::bytes learned{text.learned}, held_out{text.held_out};
  const auto seed = saved ? saved->options().seed : standard.seed;
  const lightnet::masking lesson{.mask_token = model::mask_token, .rate = standard.mask_rate};
  // In a test every byte that is asked for is hidden.
  const lightnet::masking question{
      .mask_token = model::mask_token, .rate = standard.mask_rate, .hidden = 1, .replaced = 0};
  const auto few = std::min(held_out.view().extent(0), std::max(standard.tested, standard.length));
  lightnet::masked_batches<device> training{
      learned.view(), {.length = standard.length, .shift = true, .seed = seed}, lesson};
  lightnet::masked_batches<device> testing{held_out.view(), {.length = standard.length}, question};
  lightnet::masked_batches<device> testing_some{
      held_out.view().slice(0, 0, few), {.length = standard.length}, question};
  const auto options =
      saved ? examples::resumed_options(given, *saved, training.size()) : options_for(standard, training.size());
  const auto updates_of_epoch = lightnet::updates_of_epoch(training.size(), options.batch);
  const auto updates = options.epochs * updates_of_epoch;

  machine used{given.threads};
  auto& on = used.on;
  trainer trained{{}, options};
  examples::recorder record{updates / standard.points, "additive"};
  if (saved) {
    record.restore(*saved, description);
    saved->load(trained);
  }
  const fs::path folder = given.output;
  std::error_code failed;
  fs::create_directories(folder, failed);
  if (failed) throw lightnet::file_error(folder.string(), "cannot be made a folder: " + failed.message());
  const auto checkpoint_path = folder / "masked_language_model.safetensors";
  const auto parameters = trained.parameters().size();
  std::printf("LightNet: %s parameters, %s bytes to learn from, %s of the last tenth to test on, %s\n",
              examples::grouped(parameters).c_str(), examples::grouped(learned.view().extent(0)).c_str(),
              examples::grouped(held_out.view().extent(0)).c_str(), used.name().c_str());
  std::printf("always guessing the most frequent byte is right for %.2f %%\n", 100 * text.unigram());
  std::fflush(stdout);

  examples::stop_on_signals();
  bool finished = false;
  {
    examples::progress_bar bar{stdout,
                               updates,
                               updates_of_epoch,
                               std::min(options.batch, training.size()) * standard.length,
                               trained.state().step,
                               {.loss = "bits/guess", .items = "bytes", .loss_scale = 1 / std::numbers::ln2}};
    auto last = std::chrono::steady_clock::now();
    finished = trained.run(on, training, examples::stop, [&](const lightnet::training_progress& now) {
      bar.update(now.step, now.loss, now.accuracy);
      const auto time = std::chrono::steady_clock::now();
      record.add(now, std::chrono::duration<double>(time - last).count(),
                 bar.items_per_second() / static_cast<double>(standard.length));
      last = time;
      if (now.step * standard.tests / updates == (now.step - 1) * standard.tests / updates) return;
      const auto result = trained.evaluate(on, testing_some);
      record.add_test(result);
      bar.message("update " + std::to_string(now.step) + "  held out: accuracy " +
                  examples::text("%.2f %%", 100 * result.accuracy()));
      record.save(checkpoint_path, trained, description);
      bar.resume();
      last = std::chrono::steady_clock::now();
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
  examples::write_curve(folder / "masked_language_model.csv", record.curve());
  std::printf("\nheld-out text, | for the end of a line:\n");
  constexpr std::size_t shown = 4, columns = 96;
  for (std::size_t i = 0; i < shown; ++i) {
    const auto piece = text.held_out.substr((text.held_out.size() / shown) * i, columns);
    show_guesses(on, trained, piece, standard.mask_rate, static_cast<std::uint32_t>(i));
  }
  for (const auto& asked : given.fill) fill_in(on, trained, asked);
  std::printf("%s\n%s\n", checkpoint_path.c_str(), (folder / "masked_language_model.csv").c_str());
  std::printf("masked_accuracy=%.4f unigram=%.4f places=%lld parameters=%lld seconds=%.1f\n", result.accuracy(),
              text.unigram(), static_cast<long long>(result.counted), static_cast<long long>(parameters),
              record.seconds());
  return 0;
}

}  // namespace masked_language_model
