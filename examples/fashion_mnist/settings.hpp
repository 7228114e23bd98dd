// SPDX-License-Identifier: Apache-2.0
#pragma once

// Everything that decides the result beside the network, in one place. The program is compiled for one device, and each has
// a network that it trains in a minute or so.

#include <cstdint>
#include <lightnet/train/training_state.hpp>
#include <string>

#include "arguments.hpp"
#include "common/machine.hpp"
#include "common/training_options.hpp"
#include "network.hpp"

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
  bool flip = false;           // training images are mirrored at random,
  int shift = 0;               // and moved by up to so many pixels each way
  int curve_points = 10;       // of an epoch
  std::int64_t tests = 8;      // in the course of training, on a part of the test images
  std::int64_t tested = 2000;  // of them
};

#if defined(LIGHTNET_HAS_CUDA)
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
inline settings standard_settings() { return {}; }
#endif

/// The settings, with what the command line says.
inline settings settings_of(const arguments& given) {
  settings chosen = standard_settings();
  take(chosen, given);
  chosen.smoothing = given.smoothing.value_or(chosen.smoothing);
  return chosen;
}

/// The trainer's options, for so many training images.
inline lightnet::trainer_options options_for(const settings& chosen, std::int64_t images) {
  auto options = examples::training_options(chosen, images);
  if (!chosen.shards) options.shard = chosen.batch;
  options.smoothing = chosen.smoothing;
  options.optimiser.weight_decay = chosen.weight_decay;
  return options;
}

/// What a checkpoint must share with this program beside the trainer's options and the shapes of the parameters.
inline std::string description_of(const settings& chosen) {
  return network_description<model_options>() + " flip=" + std::to_string(static_cast<int>(chosen.flip)) +
         " shift=" + std::to_string(chosen.shift);
}

}  // namespace fashion_mnist
