// SPDX-License-Identifier: Apache-2.0

// A LightNet learns Fashion-MNIST: trains the image classifier, shows how it goes, and leaves a checkpoint, a picture
// and the learning curve.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <lightnet/train/checkpoint.hpp>
#include <lightnet/train/trainer.hpp>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <vector>

#include "arguments.hpp"
#include "batches.hpp"
#include "idx.hpp"
#include "picture.hpp"
#include "progress.hpp"
#include "recorder.hpp"
#include "settings.hpp"

namespace fs = std::filesystem;
namespace ln = lightnet;
using namespace fashion_mnist;

namespace {

std::atomic<bool> stop{false};
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler may only touch what needs no lock");

/// Ctrl-C asks for an end after the update; a second one ends at once.
void stop_on_signals() {
  struct sigaction action {};
  action.sa_handler = [](int) { stop.store(true); };
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
}
void end_on_signals() {
  std::signal(SIGINT, SIG_DFL);
  std::signal(SIGTERM, SIG_DFL);
}

/// What a checkpoint says and an argument contradicts is a mistake.
template <class Number>
void agree(const char* name, const std::optional<Number>& given, Number saved, const std::string& file) {
  if (!given || *given == saved) return;
  throw ln::value_error("--resume", name, std::to_string(saved) + " as in " + file + ", or nothing",
                        std::to_string(*given));
}

ln::trainer_options options_of(const arguments& given, const std::optional<ln::checkpoint>& saved,
                               const settings& standard, std::int64_t& images) {
  if (!saved) {
    if (given.limit) images = std::min(images, *given.limit);
    auto chosen = standard;
    chosen.epochs = given.epochs.value_or(chosen.epochs);
    chosen.seed = given.seed.value_or(chosen.seed);
    return options_for(chosen, images);
  }
  const auto file = saved->path().string();
  agree("--epochs", given.epochs, saved->options().epochs, file);
  agree("--seed", given.seed, saved->options().seed, file);
  const auto& state = saved->state();
  agree("--limit", given.limit, state.items, file);
  if (state.items < 1 || state.items > images) {
    throw ln::file_error(file, "trains on " + std::to_string(state.items) + " images, of " + std::to_string(images));
  }
  const auto updates = ln::updates_of_epoch(state.items, saved->options().batch);
  if (state.step != state.epoch * updates + state.position / saved->options().batch) {
    throw ln::file_error(file, "its step and its epoch contradict each other");
  }
  images = state.items;
  return saved->options();
}

figure figure_of(const image_set& test, std::span<const std::int32_t> predicted) {
  figure shown;
  shown.title = "LightNet on Fashion-MNIST";
  shown.classes.assign(class_names.begin(), class_names.end());
  shown.confusion.resize(class_names.size() * class_names.size());
  for (std::size_t i = 0; i < predicted.size(); ++i) {
    if (predicted[i] < 0) throw ln::value_error("fashion_mnist", "logits", "numbers", "NaN");
    const auto row = static_cast<std::size_t>(test.labels[i]), column = static_cast<std::size_t>(predicted[i]);
    ++shown.confusion[row * class_names.size() + column];
  }
  shown.rows = test.rows;
  shown.columns = test.columns;
  shown.pixels = test.pixels;
  shown.predicted = predicted;
  shown.truth = test.labels;
  return shown;
}

std::string text(const char* format, double value) {
  char digits[64];
  std::snprintf(digits, sizeof digits, format, value);
  return digits;
}

int run(const arguments& given) {
  const settings standard;
  const auto description = description_of(standard);
  const auto data = load_fashion_mnist(given.data);
  std::int64_t images = data.train.count;
  std::optional<ln::checkpoint> saved;
  if (given.resume) saved.emplace(*given.resume);
  const auto options = options_of(given, saved, standard, images);
  const auto updates = ln::updates_of_epoch(images, options.batch);

  ln::execution<ln::cpu> on{given.threads};
  ln::trainer<model> trainer{model{}, options};
  recorder record{updates / standard.curve_points};
  if (saved) {
    record.restore(*saved, description);
    saved->load(trainer);
  }
  const fs::path folder = given.output;
  std::error_code failed;
  fs::create_directories(folder, failed);
  if (failed) throw ln::file_error(folder.string(), "cannot be made a folder: " + failed.message());
  const auto checkpoint_path = folder / "fashion_mnist.safetensors";
  const auto parameters = detail::grouped(trainer.parameters().size());
  std::printf("LightNet: %s parameters, %s training images, %d threads\n", parameters.c_str(),
              detail::grouped(images).c_str(), on.threads());
  std::fflush(stdout);

  batches training{data.train, standard, images, options.seed};
  stop_on_signals();
  bool finished = false;
  {
    progress_bar bar{stdout, options.epochs * updates, updates, std::min(options.batch, images), trainer.state().step};
    auto last = std::chrono::steady_clock::now();
    finished = trainer.run(on, training, stop, [&](const ln::training_progress& now) {
      bar.update(now.step, now.loss, now.accuracy);
      const auto time = std::chrono::steady_clock::now();
      record.add(now, std::chrono::duration<double>(time - last).count(), bar.images_per_second());
      last = time;
      if (!now.epoch_finished) return;
      record.save(checkpoint_path, trainer, description);
      bar.finish_epoch(now.epoch + 1, now.loss, now.accuracy);
    });
  }
  if (!finished) {
    record.save(checkpoint_path, trainer, description);
    std::printf("stopped after update %s of %s; to go on: --resume %s\n", std::to_string(trainer.state().step).c_str(),
                std::to_string(options.epochs * updates).c_str(), checkpoint_path.c_str());
    return 130;
  }
  end_on_signals();

  std::vector<std::int32_t> predicted(static_cast<std::size_t>(data.test.count));
  batches testing{data.test, standard, data.test.count};
  const auto result = trainer.evaluate(on, testing, predicted);
  record.finish(result.accuracy());
  write_curve(folder / "fashion_mnist.csv", record.curve());
  const double rate = static_cast<double>(options.epochs * images) / record.seconds();
  auto shown = figure_of(data.test, predicted);
  shown.subtitle = parameters + " parameters, one scan a layer, " + std::to_string(options.epochs) + " epochs of " +
                   detail::grouped(images) + " images";
  shown.facts = {{text("%.2f %%", 100 * result.accuracy()), "test accuracy"},
                 {text("%.1f s", record.seconds()), "training"},
                 {text("%.0f", rate), "images a second"}};
  write_picture(folder / "fashion_mnist.png", shown);
  std::printf("%s\n%s\n%s\n", checkpoint_path.c_str(), (folder / "fashion_mnist.png").c_str(),
              (folder / "fashion_mnist.csv").c_str());
  std::printf("accuracy=%.4f images=%lld parameters=%lld train_seconds=%.1f images_per_second=%.0f\n",
              result.accuracy(), static_cast<long long>(result.counted),
              static_cast<long long>(trainer.parameters().size()), record.seconds(), rate);
  return 0;
}

}  // namespace

int main(int count, char** values) {
  try {
    std::optional<int> exit_code;
    const auto given = parse(count, values, exit_code);
    return exit_code ? *exit_code : run(given);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  }
}
