// SPDX-License-Identifier: Apache-2.0
#pragma once

// What main() knows of the mixers. Each has a model of its own, and each model a translation unit in mixers/.

#include <array>
#include <lightnet/train/checkpoint.hpp>
#include <optional>

#include "arguments.hpp"

namespace generate_images {

/// A way to mix tokens, with the program that its model is compiled into.
struct mixer {
  const char* name;   // on the command line and in checkpoints
  const char* title;  // in text and picture
  int scans;          // of a layer
  /// Trains and draws; goes on from the checkpoint where there is one. Gives the exit code.
  int (*demonstrate)(const mixer&, const arguments&, const std::optional<lightnet::checkpoint>&);
};

extern const mixer additive, retnet, hgrn2;
inline constexpr std::array<const mixer*, 3> mixers{&additive, &retnet, &hgrn2};

}  // namespace generate_images
