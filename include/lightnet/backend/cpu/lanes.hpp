// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/half.hpp>

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>
#if defined(__AVX512F__) || defined(__FMA__)
#include <immintrin.h>
#endif

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

using word_lanes = typename vector_of<std::uint32_t>::type;
typedef std::uint16_t half_lanes __attribute__((vector_size(vector_bytes / 2)));

template <class T>
lanes<std::remove_const_t<T>> load_lanes(T* from) noexcept {
  lanes<std::remove_const_t<T>> value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

template <class T>
void store_lanes(T* to, const lanes<T>& value) noexcept {
  std::memcpy(to, &value, sizeof value);
}

/// A register of sums from numbers of a storage type: bfloat16 is half of a float.
template <class A, class T>
lanes<A> load_as(const T* from) noexcept {
  if constexpr (std::is_same_v<A, T>) {
    return load_lanes(from);
  } else if constexpr (std::is_same_v<T, bfloat16>) {
    half_lanes halves;
    std::memcpy(&halves, from, sizeof halves);
    return (lanes<A>)(__builtin_convertvector(halves, word_lanes) << 16);
  } else {
    lanes<A> value;
    for (int i = 0; i < lane_count<A>; ++i) value[i] = static_cast<A>(from[i]);
    return value;
  }
}

/// And back, each number with the bits that static_cast gives.
template <class A, class T>
void store_as(T* to, const lanes<A>& value) noexcept {
  if constexpr (std::is_same_v<A, T>) {
    store_lanes<A>(to, value);
  } else if constexpr (std::is_same_v<T, bfloat16>) {
    const auto bits = (word_lanes)value;
    const word_lanes rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16, quiet = (bits >> 16) | 0x40;
    const half_lanes halves = __builtin_convertvector((bits & 0x7FFFFFFF) > 0x7F800000 ? quiet : rounded, half_lanes);
    std::memcpy(static_cast<void*>(to), &halves, sizeof halves);
  } else {
    for (int i = 0; i < lane_count<A>; ++i) to[i] = static_cast<T>(value[i]);
  }
}

/// The first `count` lanes of a register, zeros after them.
template <class T>
lanes<T> first_lanes(lanes<T> value, std::int64_t count) noexcept {
  using index = decltype(value < value);
  constexpr auto counting = []<int... I>(std::integer_sequence<int, I...>) { return index{I...}; };
  const index place = counting(std::make_integer_sequence<int, lane_count<T>>{});
  return place < static_cast<std::remove_cvref_t<decltype(place[0])>>(count) ? value : lanes<T>{};
}

/// 1 / z for z in the normal range, to the last bit or the one beside it.
template <class T>
lanes<T> reciprocal_lanes(lanes<T> z) noexcept {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float>) {  // an estimate and a step of Newton's: a division takes five times as long
    const auto estimate = (lanes<T>)_mm512_maskz_rcp14_ps(__mmask16(0xFFFF), (__m512)z);
    return estimate + estimate * (T(1) - z * estimate);
  }
#endif
  return T(1) / z;
}

/// The sum of all lanes, in their order.
template <class T>
T sum_of_lanes(const lanes<T>& value) noexcept {
  T sum = T(0);
  for (int lane = 0; lane < lane_count<T>; ++lane) sum += value[lane];
  return sum;
}

/// A row length that ends on a whole register.
template <class T>
constexpr std::int64_t whole_lanes(std::int64_t count) noexcept {
  return (count + lane_count<T> - 1) / lane_count<T> * lane_count<T>;
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
