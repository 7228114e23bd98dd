// SPDX-License-Identifier: Apache-2.0
#pragma once

// Everything that decides the result, in one place. The program is compiled for one device, and each has a network that it
// trains in some five minutes.

#include <cstdint>
#include <lightnet/core/decimal.hpp>
#include <lightnet/model/image_generator.hpp>
#include <lightnet/train/noisy_batches.hpp>
#include <lightnet/train/training_state.hpp>
#include <string>

#include "arguments.hpp"
#include "common/machine.hpp"
#include "common/training_options.hpp"

namespace generate_images {

using examples::device, examples::number;

inline constexpr const char* program = "generate_images";  // as checkpoints call it

struct settings {
  std::uint64_t seed = 1;
  std::int64_t epochs = 3;
  std::int64_t batch = 64;
  bool shards = true;          // the batch goes through the network in parts, a thread a part, or as a whole
  double peak_rate = 3e-3;     // of a cosine that ends at zero
  double warmup_share = 0.05;  // of all updates
  double weight_decay = 0;
  double clip_norm = 1;
  double average_decay = 0.995;
  double label_dropout = 0.1;       // images whose class is not told, for guidance
  std::int64_t tests = 8;           // in the course of training
  std::int64_t test_images = 2000;  // held-out ones, for the loss
  int curve_points = 10;            // of an epoch
  int columns = 10;                 // images of each class in the picture
  std::int64_t judged = 1000;       // images that are drawn for the Frechet distance
  std::int64_t judge_epochs = 1;    // of the classifier, where none is given
};

#if defined(LIGHTNET_HAS_CUDA)
/// The network: 28 x 28 pixels in 7 x 7 patches, and blocks with one global scan each. Other mixers change recurrence and
/// traversal, and nothing else.
struct model_options : lightnet::image_generator_options {
  static constexpr int width = 256;
  static constexpr int heads = 4;
  static constexpr int layers = 8;
  static constexpr int patch = 4;
  static constexpr double initial_gain = 1;  // a width of 256 needs larger initial weights than 0.02
};

inline settings standard_settings() {
  settings chosen;
  chosen.epochs = 30;
  chosen.batch = 256;
  chosen.shards = false;
  chosen.peak_rate = 1e-3;
  chosen.average_decay = 0.999;
  chosen.judged = 10'000;
  chosen.judge_epochs = 5;
  return chosen;
}
#else
/// The network: 28 x 28 pixels in 7 x 7 patches, and blocks with one global scan each. Other mixers change recurrence and
/// traversal, and nothing else.
struct model_options : lightnet::image_generator_options {
  static constexpr int width = 96;
  static constexpr int heads = 3;
  static constexpr int layers = 4;
  static constexpr int inner = 192;
  static constexpr int patch = 4;
  static constexpr double initial_gain = 1;  // a width of 96 needs larger initial weights than 0.02
};

inline settings standard_settings() { return {}; }
#endif

/// The settings, with what the command line says.
inline settings settings_of(const arguments& given) {
  settings chosen = standard_settings();
  take(chosen, given);
  return chosen;
}

/// The trainer's options, for so many training images.
inline lightnet::trainer_options options_for(const settings& chosen, std::int64_t images) {
  auto options = examples::training_options(chosen, images);
  if (!chosen.shards) options.shard = chosen.batch;
  options.optimiser.weight_decay = chosen.weight_decay;
  return options;
}

/// What a checkpoint must share with this program beside the trainer's options and the shapes of the parameters.
inline std::string description_of(const settings& chosen) {
  return "image_generator width=" + std::to_string(model_options::width) +
         " heads=" + std::to_string(model_options::heads) + " layers=" + std::to_string(model_options::layers) +
         " patch=" + std::to_string(model_options::patch) +
         " average_decay=" + lightnet::detail::decimal(chosen.average_decay) +
         " label_dropout=" + lightnet::detail::decimal(chosen.label_dropout);
}

}  // namespace generate_images
