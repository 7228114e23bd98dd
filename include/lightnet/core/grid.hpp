// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/view.hpp>

LIGHTNET_BEGIN_NAMESPACE

/// Where the tokens of a sequence lie: `prefix` tokens without a place (class, condition), then an M-dimensional grid
/// in row-major order, whose first cell has the coordinates `offset`.
template <int Dims>
struct grid {
  static_assert(Dims >= 1, "a grid has one dimension or more");
  using indices = detail::small_array<static_cast<std::size_t>(Dims)>;

  indices extents{};
  std::int64_t prefix = 0;
  indices offset{};

  /// The number of tokens.
  LIGHTNET_HOST_DEVICE constexpr std::int64_t size() const noexcept {
    std::int64_t product = 1;
    for (const std::int64_t extent : extents) product *= extent;
    return prefix + product;
  }

  /// The coordinates of token t; requires t >= prefix.
  LIGHTNET_HOST_DEVICE constexpr indices coordinates(std::int64_t t) const noexcept {
    indices at{};
    t -= prefix;
    for (std::size_t axis = Dims; axis-- > 0;) {
      at[axis] = offset[axis] + t % extents[axis];
      t /= extents[axis];
    }
    return at;
  }

  friend constexpr bool operator==(const grid&, const grid&) = default;
};

LIGHTNET_END_NAMESPACE
