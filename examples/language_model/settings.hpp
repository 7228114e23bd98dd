// SPDX-License-Identifier: Apache-2.0
#pragma once

// Everything that decides the result, in one place. The program is compiled for one device, and each has a network that it
// trains in a few minutes.

#include <cstdint>
#include <lightnet/model/causal_language_model.hpp>
#include <string>

#include "arguments.hpp"
#include "common/machine.hpp"
#include "common/text_settings.hpp"

namespace language_model {

using examples::device, examples::machine, examples::number;

inline constexpr const char* program = "language_model";  // as checkpoints call it

struct settings : examples::text_settings {
  settings() { peak_rate = 8e-3; }
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
  chosen.epochs = 6;  // more, and it knows the text by heart
  chosen.batch = 32;
  chosen.length = 512;
  chosen.shard = chosen.batch;
  chosen.peak_rate = 2e-3;
  chosen.weight_decay = 6;
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
  take(chosen, given);
  return chosen;
}

/// What a checkpoint must share with this program beside the trainer's options and the shapes of the parameters.
inline std::string description_of(const settings& chosen, int vocabulary) {
  return "causal_language_model width=" + std::to_string(model_options::width) +
         " heads=" + std::to_string(model_options::heads) + " layers=" + std::to_string(model_options::layers) +
         " inner=" + std::to_string(model_options::inner) + " modes=" + std::to_string(model_options::modes) +
         (vocabulary == 256 ? "" : " vocabulary=" + std::to_string(vocabulary)) +
         " length=" + std::to_string(chosen.length);
}

}  // namespace language_model
