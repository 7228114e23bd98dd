// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/view.hpp>

#include <type_traits>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

// What map and reduce read and write at place (row, column) of a matrix, beside matrices themselves.

/// One number for each row.
template <class T>
struct by_row {
  T* data;
};

/// One number for each column; with a period p > 1, [p, columns], rows take turns.
template <class T>
struct by_column {
  T* data;
  std::int64_t period = 1;
};

template <class T>
by_row(T*) -> by_row<T>;
template <class T>
by_column(T*) -> by_column<T>;
template <class T>
by_column(T*, std::int64_t) -> by_column<T>;

/// The same number in every column of a row, as a row of its own.
template <class T>
struct repeated {
  T* value;
  LIGHTNET_HOST_DEVICE constexpr T& operator[](std::int64_t) const noexcept { return *value; }
};

/// For map: a number in another storage type, with the bits that static_cast gives.
struct convert_number {
  template <class To, class From>
    requires(!std::is_const_v<To>)
  LIGHTNET_HOST_DEVICE void operator()(To& to, const From& from) const noexcept { to = static_cast<To>(from); }
};

/// For map: a number is added to another, in float where theirs is a type of two bytes.
struct add_number {
  template <class T>
    requires(!std::is_const_v<T>)
  LIGHTNET_HOST_DEVICE void operator()(T& to, const T& x) const noexcept { to = static_cast<T>(to + x); }
};

template <class T, class Device>
LIGHTNET_HOST_DEVICE constexpr T* row_of(const dynamic_view<2, T, Device>& matrix, std::int64_t row,
                                         std::int64_t) noexcept {
  return matrix.data() + row * matrix.stride(0);
}
template <class T>
LIGHTNET_HOST_DEVICE constexpr repeated<T> row_of(const by_row<T>& operand, std::int64_t row, std::int64_t) noexcept {
  return {operand.data + row};
}
template <class T>
LIGHTNET_HOST_DEVICE constexpr T* row_of(const by_column<T>& operand, std::int64_t row, std::int64_t columns) noexcept {
  return operand.period == 1 ? operand.data : operand.data + row % operand.period * columns;
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
