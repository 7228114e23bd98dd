// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/head_sequence.hpp>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// The grid of a sequence's tokens: from its own axes, or as given where it is flattened. Throws shape_error or
/// value_error, with the operation and the argument, where the two do not agree.
template <int Dims, class T, class Device>
grid<Dims> located(const char* operation, const char* argument, const head_sequence<Dims, T, Device>& sequence,
                   const grid<Dims>& given) {
  grid<Dims> tokens = given;
  const bool extents_given = given.extents != typename grid<Dims>::indices{};
  if (tokens.prefix < 0) throw value_error(operation, "grid.prefix", "zero or more", std::to_string(tokens.prefix));
  if (sequence.gridded() && (Dims > 1 || !extents_given)) {
    if (Dims > 1 && tokens.prefix > 0) {
      throw shape_error(operation, argument, "flattened tokens [B, N, H, d], where the grid has a prefix",
                        sequence.describe());
    }
    if (extents_given && given.extents != sequence.extents()) {
      throw shape_error(operation, "grid.extents", std::string{"those of "} + argument + " " + sequence.describe(),
                        bracketed(given.extents));
    }
    tokens.extents = sequence.extents();
    tokens.extents[0] -= tokens.prefix;
  }
  for (const std::int64_t extent : tokens.extents) {
    if (extent < 0) throw shape_error(operation, "grid", "no negative extent", bracketed(tokens.extents));
  }
  if (tokens.size() != sequence.tokens()) {
    throw shape_error(operation, "grid",
                      std::string{"as many tokens as "} + argument + " " + sequence.describe() + " has",
                      "prefix " + std::to_string(tokens.prefix) + " and extents " + bracketed(tokens.extents));
  }
  return tokens;
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
