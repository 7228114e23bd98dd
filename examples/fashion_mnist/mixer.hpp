// SPDX-License-Identifier: Apache-2.0
#pragma once

// What main() knows of the mixers. Each has a model of its own, and each model a translation unit in mixers/.

#include <array>
#include <cstdint>
#include <lightnet/train/checkpoint.hpp>
#include <optional>

#include "arguments.hpp"
#include "comparison.hpp"
#include "idx.hpp"
#include "settings.hpp"

namespace fashion_mnist {

/// A way to mix tokens, with the programs that its model is compiled into.
struct mixer {
  const char* name;         // on the command line and in checkpoints
  const char* title;        // in text and picture
  const char* description;  // in the table of the comparison
  int scans;                // of a layer
  /// The demonstration; goes on from the checkpoint where there is one. Gives the exit code.
  int (*demonstrate)(const mixer&, const arguments&, const std::optional<lightnet::checkpoint>&);
  /// One training, for the comparison.
  trial (*train)(const mixer&, const settings&, const data_set&, std::int64_t images, int threads);
};

extern const mixer additive, retnet, hgrn2, hgrn2_axial;
inline constexpr std::array<const mixer*, 4> mixers{&additive, &retnet, &hgrn2, &hgrn2_axial};

}  // namespace fashion_mnist
