// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/parallel.hpp>
#include <lightnet/core/grid.hpp>

#include <cmath>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// The cosines and sines of every token's angles, Theta = coordinate * theta, in double until they are stored (in float
/// an angle is off by 1e-3 at position 65535). Tokens of the prefix have Theta = 0.
/// cosine, sine [1 or H, N, angles]; coordinate [N, angles] where its data is not null; theta [1 or H, share] or empty.
template <class Position, int Dims, class T>
void encode_angles(execution<cpu>& on, const grid<Dims>& tokens, std::int64_t keys,
                   const dynamic_view<2, const T, cpu>& theta, const dynamic_view<3, T, cpu>& cosine,
                   const dynamic_view<3, T, cpu>& sine, const dynamic_view<2, T, cpu>& coordinate) {
  const std::int64_t heads = cosine.extent(0), count = cosine.extent(1), angles = cosine.extent(2);
  const std::int64_t share = Position::share(keys, Dims);
  execution<cpu>::scope scratch{on};
  double* const rates = scratch.take<double>(heads * angles);
  for (std::int64_t h = 0; h < heads; ++h) {
    for (std::int64_t j = 0; j < angles; ++j) {
      rates[h * angles + j] = theta ? static_cast<double>(theta(h, j % share)) : Position::theta(j, keys, Dims);
    }
  }
  constexpr std::int64_t block = 16;
  parallel_for(on, block_range::blocks(block, count), [&](std::int64_t index, int) {
    const block_range part{index, block, count};
    for (std::int64_t t = part.first; t < part.last; ++t) {
      const bool placed = t >= tokens.prefix;
      const auto at = placed ? tokens.coordinates(t) : typename grid<Dims>::indices{};
      for (std::int64_t j = 0; j < angles; ++j) {
        const double position = static_cast<double>(at[static_cast<std::size_t>(j / share)]);
        if (coordinate) coordinate(t, j) = static_cast<T>(position);
        for (std::int64_t h = 0; h < heads; ++h) {
          const double angle = position * rates[h * angles + j];
          cosine(h, t, j) = static_cast<T>(std::cos(angle));
          sine(h, t, j) = static_cast<T>(std::sin(angle));
        }
      }
    }
  });
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
