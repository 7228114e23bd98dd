// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/error.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

LIGHTNET_BEGIN_NAMESPACE

/// An extent that is known at run time only.
inline constexpr std::int64_t dynamic = -1;

/// The extents of a view or tensor, each fixed at compile time or `dynamic`; sizes and offsets are 64-bit.
template <std::int64_t... Static>
class extents {
 public:
  static constexpr std::size_t rank = sizeof...(Static);
  using values = std::array<std::int64_t, rank>;

  /// Dynamic extents start at zero.
  constexpr extents() noexcept : values_{(Static == dynamic ? 0 : Static)...} {}

  /// Takes all extents, the static ones too. Throws shape_error where a static extent differs or one is negative.
  constexpr extents(const values& given) : values_{given} {  // NOLINT(google-explicit-constructor): as std::extents
    constexpr values fixed = {Static...};
    for (std::size_t axis = 0; axis < rank; ++axis) {
      if (given[axis] < 0) {
        throw shape_error("extents", "extent " + std::to_string(axis), "zero or more", std::to_string(given[axis]));
      }
      if (fixed[axis] != dynamic && fixed[axis] != given[axis]) {
        throw shape_error("extents", "extent " + std::to_string(axis), std::to_string(fixed[axis]),
                          std::to_string(given[axis]));
      }
    }
  }

  /// The compile-time extent of an axis, or `dynamic`.
  static constexpr std::int64_t static_extent(std::size_t axis) noexcept {
    constexpr values fixed = {Static...};
    return fixed[axis];
  }

  constexpr std::int64_t operator[](std::size_t axis) const noexcept { return values_[axis]; }
  constexpr const values& array() const noexcept { return values_; }

  /// The number of elements: the product of the extents, 1 for rank 0.
  constexpr std::int64_t size() const noexcept {
    std::int64_t product = 1;
    for (const std::int64_t extent : values_) product *= extent;
    return product;
  }

  friend constexpr bool operator==(const extents&, const extents&) = default;

 private:
  values values_;
};

namespace detail {
template <class Sequence>
struct dynamic_extents;
template <std::size_t... Axis>
struct dynamic_extents<std::index_sequence<Axis...>> {
  using type = extents<((void)Axis, dynamic)...>;
};

/// "[2, 3, 4]", for error messages.
template <std::size_t Rank>
std::string bracketed(const std::array<std::int64_t, Rank>& values) {
  std::string text = "[";
  for (std::size_t axis = 0; axis < Rank; ++axis) text += (axis ? ", " : "") + std::to_string(values[axis]);
  return text + "]";
}
}  // namespace detail

/// Extents of the given rank, all dynamic.
template <int Rank>
using rank = typename detail::dynamic_extents<std::make_index_sequence<static_cast<std::size_t>(Rank)>>::type;

LIGHTNET_END_NAMESPACE
