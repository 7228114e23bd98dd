// SPDX-License-Identifier: Apache-2.0
#pragma once

// Everything that decides the result, in one place. The program is compiled for one device, and each has a network that it
// trains in a few minutes.

#include <cstdint>
#include <lightnet/model/causal_language_model.hpp>
#include <lightnet/train/training_state.hpp>
#include <string>

#include "arguments.hpp"
#include "common/machine.hpp"
#include "common/training_options.hpp"

namespace language_model {

using examples::device, examples::machine;

struct settings {
  std::uint64_t seed = 1;
  std::int64_t epochs = 1;
  std::int64_t batch = 16;
  std::int64_t length = 128;   // bytes of a piece of text
  std::int64_t shard = 2;      // pieces that a thread takes through the network at a time
  double peak_rate = 8e-3;     // of a cosine that ends at zero
  double warmup_share = 0.05;  // of all updates
  double weight_decay = 0.1;
  double clip_norm = 1;
  std::int64_t points = 40;      // of the curve
  std::int64_t tests = 8;        // in the course of training, on a part of what is held out
  std::int64_t tested = 32'768;  // its bytes
};

#if defined(LIGHTNET_HAS_CUDA)
/// The network: bytes, MD-TPE, blocks with one causal scan each.
struct model_options : lightnet::causal_language_model_options {
  static constexpr int width = 384;
  static constexpr int heads = 6;
  static constexpr int layers = 8;
  static constexpr int inner = 1024;
  static constexpr double initial_gain = 1;
};

inline settings standard_settings() {
  settings chosen;
  chosen.epochs = 8;
  chosen.batch = 32;
  chosen.length = 512;
  chosen.shard = chosen.batch;
  chosen.peak_rate = 2e-3;
  chosen.tested = 131'072;
  return chosen;
}
#else
/// The network: bytes, MD-TPE, blocks with one causal scan each.
struct model_options : lightnet::causal_language_model_options {
  static constexpr int width = 96;
  static constexpr int heads = 3;
  static constexpr int layers = 3;
  static constexpr int inner = 256;
  static constexpr double initial_gain = 1;  // a width of 96 needs larger initial weights than 0.02
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
  return chosen;
}

/// The trainer's options, for so many pieces of text.
inline lightnet::trainer_options options_for(const settings& chosen, std::int64_t pieces) {
  auto options = examples::training_options(chosen, pieces);
  options.shard = chosen.shard;
  options.optimiser.weight_decay = chosen.weight_decay;
  return options;
}

/// What a checkpoint must share with this program beside the trainer's options and the shapes of the parameters.
inline std::string description_of(const settings& chosen) {
  return "causal_language_model width=" + std::to_string(model_options::width) +
         " heads=" + std::to_string(model_options::heads) + " layers=" + std::to_string(model_options::layers) +
         " inner=" + std::to_string(model_options::inner) + " modes=" + std::to_string(model_options::modes) +
         " length=" + std::to_string(chosen.length);
}

}  // namespace language_model
