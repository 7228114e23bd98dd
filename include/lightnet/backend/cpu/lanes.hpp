// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/config.hpp>

#include <cstdint>
#include <cstring>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

#if defined(__AVX512F__)
inline constexpr int vector_bytes = 64;
#elif defined(__AVX__)
inline constexpr int vector_bytes = 32;
#else
inline constexpr int vector_bytes = 16;
#endif

/// How many T fill one vector register.
template <class T>
inline constexpr int lane_count = vector_bytes / static_cast<int>(sizeof(T));

template <class T>
struct vector_of {
  using type __attribute__((vector_size(vector_bytes))) = T;
};

/// One vector register of T, with the arithmetic of the compilers' vector extension.
template <class T>
using lanes = typename vector_of<T>::type;

template <class T>
lanes<T> load_lanes(const T* from) noexcept {
  lanes<T> value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

template <class T>
void store_lanes(T* to, const lanes<T>& value) noexcept {
  std::memcpy(to, &value, sizeof value);
}

/// A row length that ends on a whole register.
template <class T>
constexpr std::int64_t whole_lanes(std::int64_t count) noexcept {
  return (count + lane_count<T> - 1) / lane_count<T> * lane_count<T>;
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
