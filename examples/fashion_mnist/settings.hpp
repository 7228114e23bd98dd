// SPDX-License-Identifier: Apache-2.0
#pragma once

// Everything that decides the result, in one place. The program is compiled for one device, and each has a network that it
// trains in a minute or so.

#include <cmath>
#include <cstdint>
#include <lightnet/model/image_classifier.hpp>
#include <lightnet/train/training_state.hpp>
#include <string>

#include "arguments.hpp"
#include "common/machine.hpp"

namespace fashion_mnist {

using examples::device, examples::machine;

struct settings {
  std::uint64_t seed = 1;
  std::int64_t epochs = 4;
  std::int64_t batch = 64;
  bool shards = true;          // the batch goes through the network in parts, a thread a part, or as a whole
  double peak_rate = 3e-3;     // of a cosine that ends at zero
  double warmup_share = 0.05;  // of all updates
  double weight_decay = 0.05;
  double clip_norm = 1;
  double smoothing = 0;
  double mean = 0.2860;  // of the pixels of the training images, which lie in [0, 1]
  double deviation = 0.3530;
  bool flip = false;      // training images are mirrored at random,
  int shift = 0;          // and moved by up to so many pixels each way
  int curve_points = 10;  // of an epoch
};

#if defined(LIGHTNET_HAS_CUDA)
/// The network: 28 x 28 pixels in 7 x 7 patches, MD-TPE, blocks with one global scan each. Other mixers change recurrence
/// and traversal, and nothing else.
struct model_options : lightnet::image_classifier_options {
  static constexpr int width = 192;
  static constexpr int heads = 6;
  static constexpr int layers = 6;
  static constexpr int inner = 512;
  static constexpr double initial_gain = 1;  // a width of 192 needs larger initial weights than 0.02
  static constexpr int patch = 4;
  static constexpr int modes = 16;
};

inline settings standard_settings() {
  settings chosen;
  chosen.epochs = 40;
  chosen.batch = 256;
  chosen.shards = false;
  chosen.peak_rate = 2e-3;
  chosen.weight_decay = 0.05;
  chosen.smoothing = 0.1;
  chosen.flip = true;
  chosen.shift = 2;
  return chosen;
}
#else
/// The network: 28 x 28 pixels in 7 x 7 patches, MD-TPE, blocks with one global scan each. Other mixers change recurrence
/// and traversal, and nothing else.
struct model_options : lightnet::image_classifier_options {
  static constexpr int width = 64;
  static constexpr int heads = 2;
  static constexpr int layers = 2;
  static constexpr int inner = 128;
  static constexpr double initial_gain = 1;  // a width of 64 needs larger initial weights than 0.02
  static constexpr int patch = 4;
  static constexpr int modes = 16;
};

inline settings standard_settings() { return {}; }
#endif

/// The settings, with what the command line says.
inline settings settings_of(const arguments& given) {
  settings chosen = standard_settings();
  chosen.epochs = given.epochs.value_or(chosen.epochs);
  chosen.seed = given.seed.value_or(chosen.seed);
  chosen.batch = given.batch.value_or(chosen.batch);
  chosen.peak_rate = given.rate.value_or(chosen.peak_rate);
  chosen.weight_decay = given.decay.value_or(chosen.weight_decay);
  chosen.smoothing = given.smoothing.value_or(chosen.smoothing);
  return chosen;
}

/// The trainer's options, for so many training images.
inline lightnet::trainer_options options_for(const settings& chosen, std::int64_t images) {
  const auto updates = chosen.epochs * lightnet::updates_of_epoch(images, chosen.batch);
  lightnet::trainer_options options;
  options.batch = chosen.batch;
  if (!chosen.shards) options.shard = chosen.batch;
  options.epochs = chosen.epochs;
  options.seed = chosen.seed;
  options.smoothing = chosen.smoothing;
  options.optimiser.beta2 = 0.98;
  options.optimiser.weight_decay = chosen.weight_decay;
  options.optimiser.clip_norm = chosen.clip_norm;
  options.schedule.peak = chosen.peak_rate;
  options.schedule.warmup = std::llround(chosen.warmup_share * static_cast<double>(updates));
  options.schedule.total = updates;
  return options;
}

/// What a checkpoint must share with this program beside the trainer's options and the shapes of the parameters.
inline std::string description_of(const settings& chosen) {
  return "image_classifier width=" + std::to_string(model_options::width) +
         " heads=" + std::to_string(model_options::heads) + " layers=" + std::to_string(model_options::layers) +
         " inner=" + std::to_string(model_options::inner) + " patch=" + std::to_string(model_options::patch) +
         " modes=" + std::to_string(model_options::modes) + " mean=" + std::to_string(chosen.mean) +
         " deviation=" + std::to_string(chosen.deviation) + " flip=" + std::to_string(static_cast<int>(chosen.flip)) +
         " shift=" + std::to_string(chosen.shift);
}

}  // namespace fashion_mnist
