// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/error.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// A number for each axis, as std::array, of which device code may read as well.
template <std::size_t Count>
class small_array {
 public:
  using array = std::array<std::int64_t, Count>;

  constexpr small_array() noexcept = default;
  constexpr small_array(const array& from) noexcept {  // NOLINT(google-explicit-constructor): the same numbers
    for (std::size_t i = 0; i < Count; ++i) elements_[i] = from[i];
  }
  template <class... Number>
    requires(sizeof...(Number) > 0 && sizeof...(Number) <= Count &&
             (std::is_convertible_v<Number, std::int64_t> && ...))
  LIGHTNET_HOST_DEVICE constexpr small_array(Number... number) noexcept  // NOLINT(google-explicit-constructor): so too
      : elements_{static_cast<std::int64_t>(number)...} {}

  constexpr operator array() const noexcept {  // NOLINT(google-explicit-constructor): the same numbers
    array to{};
    for (std::size_t i = 0; i < Count; ++i) to[i] = elements_[i];
    return to;
  }

  LIGHTNET_HOST_DEVICE constexpr std::int64_t& operator[](std::size_t i) noexcept { return elements_[i]; }
  LIGHTNET_HOST_DEVICE constexpr const std::int64_t& operator[](std::size_t i) const noexcept { return elements_[i]; }
  LIGHTNET_HOST_DEVICE static constexpr std::size_t size() noexcept { return Count; }
  LIGHTNET_HOST_DEVICE constexpr std::int64_t* begin() noexcept { return elements_; }
  LIGHTNET_HOST_DEVICE constexpr std::int64_t* end() noexcept { return elements_ + Count; }
  LIGHTNET_HOST_DEVICE constexpr const std::int64_t* begin() const noexcept { return elements_; }
  LIGHTNET_HOST_DEVICE constexpr const std::int64_t* end() const noexcept { return elements_ + Count; }

  LIGHTNET_HOST_DEVICE friend constexpr bool operator==(const small_array& a, const small_array& b) noexcept {
    for (std::size_t i = 0; i < Count; ++i) {
      if (a.elements_[i] != b.elements_[i]) return false;
    }
    return true;
  }

 private:
  std::int64_t elements_[Count > 0 ? Count : 1]{};
};

}  // namespace detail

/// An extent that is known at run time only.
inline constexpr std::int64_t dynamic = -1;

/// The extents of a view or tensor, each fixed at compile time or `dynamic`; sizes and offsets are 64-bit.
template <std::int64_t... Static>
class extents {
 public:
  static constexpr std::size_t rank = sizeof...(Static);
  using values = std::array<std::int64_t, rank>;

  /// Dynamic extents start at zero.
  LIGHTNET_HOST_DEVICE constexpr extents() noexcept : values_{(Static == dynamic ? std::int64_t{0} : Static)...} {}

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

  LIGHTNET_HOST_DEVICE constexpr std::int64_t operator[](std::size_t axis) const noexcept { return values_[axis]; }
  constexpr values array() const noexcept { return values_; }

  /// The number of elements: the product of the extents, 1 for rank 0.
  LIGHTNET_HOST_DEVICE constexpr std::int64_t size() const noexcept {
    std::int64_t product = 1;
    for (const std::int64_t extent : values_) product *= extent;
    return product;
  }

  friend constexpr bool operator==(const extents&, const extents&) = default;

 private:
  detail::small_array<rank> values_;
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
template <std::size_t Rank>
std::string bracketed(const small_array<Rank>& values) {
  return bracketed(static_cast<std::array<std::int64_t, Rank>>(values));
}
}  // namespace detail

/// Extents of the given rank, all dynamic.
template <int Rank>
using rank = typename detail::dynamic_extents<std::make_index_sequence<static_cast<std::size_t>(Rank)>>::type;

LIGHTNET_END_NAMESPACE
