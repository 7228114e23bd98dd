// SPDX-License-Identifier: Apache-2.0
// A training that a checkpoint carries from one process into another, on either device.
#pragma once

#include "../temporary_folder.hpp"

#include <atomic>
#include <cstdlib>
#include <lightnet/io/saved_average.hpp>
#include <lightnet/model/image_generator.hpp>
#include <lightnet/train/noisy_batches.hpp>
#include <string>
#include <utility>
#include <vector>

#include "train/images.hpp"

namespace later {

namespace ln = lightnet;

struct options : ln::image_generator_options {
  static constexpr int width = 24, heads = 2, inner = 20, layers = 2, patch = 2, classes = 7, modes = 3;
  static constexpr int time_features = 10;
  static constexpr double initial_gain = 1;
};

/// All that a training may hold: random noise and changes of images, a schedule, weight decay, clipping, accumulation, an
/// average of the weights. An epoch is four updates.
template <class T, class Device>
class training {
 public:
  explicit training(ln::execution<Device>& on, std::uint64_t seed = 5) : on_{on}, trainer_{{}, chosen(seed)} {}

  void load(const std::filesystem::path& path) {
    const ln::checkpoint saved{path};
    saved.load(trainer_, {"average"});
    ln::load_average(saved, average_);
  }

  void train(std::int64_t updates) {
    const std::int64_t end = trainer_.state().step + updates;
    const pictures::images<Device> all{37, 4, 6, 1};
    using batches = ln::image_batches<T, Device>;
    ln::noisy_batches<batches, 2, T, Device> source{
        all.template batches<T>({.mean = 0.5, .deviation = 0.3, .flip = true, .shift = 1, .seed = 2}),
        {.label_dropout = 0.2, .classes = options::classes, .seed = 3}};
    std::atomic<bool> stop{false};
    trainer_.run(on_, source, stop, [&](const ln::training_progress& now) {
      average_.update(on_, trainer_.parameters());
      stop = now.step == end;
    });
    on_.synchronize();
  }

  void save(const std::filesystem::path& path) const {
    const ln::saved_average kept{average_};
    ln::checkpoint_extras extras;
    kept.add_to(extras.tensors);
    ln::save_checkpoint(path, trainer_, extras);
  }

 private:
  static ln::trainer_options chosen(std::uint64_t seed) {
    ln::trainer_options chosen;
    chosen.batch = 11;
    chosen.shard = 4;
    chosen.epochs = 6;
    chosen.seed = seed;
    chosen.optimiser = {.weight_decay = 0.1, .clip_norm = 1};
    chosen.schedule = {.peak = 0.01, .warmup = 3, .total = 24};
    return chosen;
  }

  ln::execution<Device>& on_;
  ln::trainer<ln::image_generator<options, 2, T, Device>, T, Device> trainer_;
  ln::weight_average<ln::accumulator<T>, Device> average_{trainer_.parameters(), 0.9};
};

/// Ten updates, a checkpoint, and ten more in a new process, against twenty. The process is this program with the test case
/// of this name, which finds in the environment where the checkpoint is.
template <class T, class Device>
void check(ln::execution<Device>& on, const std::string& test_case) {
  constexpr const char* variable = "LIGHTNET_TEST_CHECKPOINT";
  if (const char* const path = std::getenv(variable)) {
    training<T, Device> later{on};
    later.load(path);
    later.train(10);
    later.save(path);
    return;
  }
  const folder here;
  const auto path = here / "parts.safetensors", expected = here / "whole.safetensors";
  training<T, Device> whole{on}, first{on};
  whole.train(20);
  whole.save(expected);
  first.train(10);
  first.save(path);
  CHECK(contents(path) != contents(expected));
  const auto program = std::filesystem::read_symlink("/proc/self/exe").string();
  ::setenv(variable, path.c_str(), 1);
  const int status = std::system(("'" + program + "' --test-case='" + test_case + "' >/dev/null").c_str());
  ::unsetenv(variable);
  CHECK(status == 0);
  CHECK(contents(path) == contents(expected));  // parameters, moments, average, counters: every byte
}

}  // namespace later
