// SPDX-License-Identifier: Apache-2.0
#pragma once

// Everything that decides the result, in one place. The program is compiled for one device, and each has a network that it
// trains in a few minutes.

#include <cstdint>
#include <lightnet/core/decimal.hpp>
#include <lightnet/model/segmenter.hpp>
#include <lightnet/train/training_state.hpp>
#include <string>

#include "arguments.hpp"
#include "common/machine.hpp"
#include "common/training_options.hpp"

namespace segment_volume {

using examples::device, examples::machine, examples::number;

inline constexpr const char* program = "segment_volume";  // as checkpoints call it

struct settings {
  std::uint64_t seed = 1;
  std::int64_t epochs = 8;
  std::int64_t items = 100;   // of an epoch: the half, each time moved differently
  std::int64_t batch = 2;     // and a thread an item
  std::int64_t factor = 3;    // voxels of a block, each way
  double peak_rate = 5e-3;    // of a cosine that ends at zero
  double warmup_share = 0.1;  // of all updates
  double weight_decay = 0.05;
  double clip_norm = 1;
  int shift = 6;          // voxels that an item is moved by at most, each way
  double contrast = 0.1;  // share by which it is lighter or darker at most
  double mean = 0.175;    // of the grey values of the left half, which lie in [0, 1]
  double deviation = 0.186;
  int curve_points = 10;    // of an epoch
  std::int64_t tests = 8;   // in the course of training, on the right half
  std::int64_t tested = 3;  // places that it is moved to then
};

#if defined(LIGHTNET_HAS_CUDA)
/// The network: blocks in patches of 3 x 3 x 3, MD-TPE, layers with one global scan each.
struct model_options : lightnet::segmenter_options {
  static constexpr int width = 128;
  static constexpr int heads = 4;
  static constexpr int layers = 4;
  static constexpr int inner = 384;
  static constexpr double initial_gain = 1;  // a width of 128 needs larger initial weights than 0.02
  static constexpr int patch = 3;
  static constexpr int classes = 21;
};

inline settings standard_settings() {
  settings chosen;
  chosen.epochs = 20;
  chosen.factor = 2;
  chosen.peak_rate = 3e-3;
  return chosen;
}
#else
/// The network: blocks in patches of 3 x 3 x 3, MD-TPE, layers with one global scan each.
struct model_options : lightnet::segmenter_options {
  static constexpr int width = 64;
  static constexpr int heads = 2;
  static constexpr int layers = 2;
  static constexpr int inner = 128;
  static constexpr double initial_gain = 1;  // a width of 64 needs larger initial weights than 0.02
  static constexpr int patch = 3;
  static constexpr int classes = 21;
};

inline settings standard_settings() { return {}; }
#endif

/// The settings, with what the command line says.
inline settings settings_of(const arguments& given) {
  settings chosen = standard_settings();
  take(chosen, given);
  chosen.items = given.items.value_or(chosen.items);
  return chosen;
}

/// The trainer's options.
inline lightnet::trainer_options options_for(const settings& chosen) {
  auto options = examples::training_options(chosen, chosen.items);
  options.shard = 1;
  options.optimiser.weight_decay = chosen.weight_decay;
  return options;
}

/// What a checkpoint must share with this program beside the trainer's options and the shapes of the parameters.
inline std::string description_of(const settings& chosen) {
  return "segmenter width=" + std::to_string(model_options::width) + " heads=" + std::to_string(model_options::heads) +
         " layers=" + std::to_string(model_options::layers) + " inner=" + std::to_string(model_options::inner) +
         " patch=" + std::to_string(model_options::patch) + " modes=" + std::to_string(model_options::modes) +
         " factor=" + std::to_string(chosen.factor) + " mean=" + lightnet::detail::decimal(chosen.mean) +
         " deviation=" + lightnet::detail::decimal(chosen.deviation) + " shift=" + std::to_string(chosen.shift) +
         " contrast=" + lightnet::detail::decimal(chosen.contrast);
}

}  // namespace segment_volume
