// SPDX-License-Identifier: Apache-2.0
#pragma once

// Everything that decides the result, in one place. The program is compiled for one device, and each has a network that it
// trains in a few minutes.

#include <cstdint>
#include <lightnet/core/decimal.hpp>
#include <lightnet/model/paper_language_models.hpp>
#include <string>

#include "arguments.hpp"
#include "common/machine.hpp"
#include "common/text_settings.hpp"

namespace masked_language_model {

using examples::device, examples::machine, examples::number;

inline constexpr const char* program = "masked_language_model";  // as checkpoints call it

struct settings : examples::text_settings {
  double mask_rate = 0.15;         // share of the bytes that are to be guessed
  std::int64_t limit = 4'000'000;  // bytes to learn from
  std::int64_t test = 400'000;     // bytes of the last test
};

#if defined(LIGHTNET_HAS_CUDA)
/// The network: the shape of the paper's smallest language model, with bytes.
struct model_options : lightnet::masked_language_model_15x768 {
  static constexpr int vocabulary = 257;
};

inline settings standard_settings() {
  settings chosen;
  chosen.batch = 32;
  chosen.length = 512;
  chosen.shard = chosen.batch;
  chosen.peak_rate = 5e-4;
  chosen.limit = 16'000'000;
  chosen.tested = 131'072;
  return chosen;
}
#else
/// The network: bytes, MD-TPE, blocks with one global scan each.
struct model_options : lightnet::masked_language_model_options {
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
  chosen.length = given.length.value_or(chosen.length);
  chosen.mask_rate = given.mask_rate.value_or(chosen.mask_rate);
  chosen.limit = given.limit.value_or(chosen.limit);
  chosen.test = given.test.value_or(chosen.test);
  return chosen;
}

/// What a checkpoint must share with this program beside the trainer's options and the shapes of the parameters.
inline std::string description_of(const settings& chosen) {
  return "masked_language_model length=" + std::to_string(chosen.length) +
         " mask_rate=" + lightnet::detail::decimal(chosen.mask_rate) +
         " width=" + std::to_string(model_options::width) + " heads=" + std::to_string(model_options::heads) +
         " layers=" + std::to_string(model_options::layers) + " inner=" + std::to_string(model_options::inner) +
         " modes=" + std::to_string(model_options::modes);
}

}  // namespace masked_language_model
