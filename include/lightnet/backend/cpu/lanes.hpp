// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/config.hpp>

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>
#if defined(__AVX512F__)
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
  using in_memory __attribute__((vector_size(vector_bytes), aligned(alignof(T)))) = T;
};

/// One vector register of T, with the arithmetic of the compilers' vector extension.
template <class T>
using lanes = typename vector_of<T>::type;

// Vectors are read and written as what they consist of, not as bytes: bytes could be those of anything, so that after each
// store the compiler would read all pointers and sizes anew.

template <class T>
lanes<std::remove_const_t<T>> load_lanes(T* from) noexcept {
  return *reinterpret_cast<const typename vector_of<std::remove_const_t<T>>::in_memory*>(from);
}

template <class T>
void store_lanes(T* to, const lanes<T>& value) noexcept {
  *reinterpret_cast<typename vector_of<T>::in_memory*>(to) = value;
}

/// The same past the caches, for what this thread does not read again: `to` lies on a whole register. Another thread may
/// read it once finish_streaming was called and the two have met.
template <class T>
void stream_lanes(T* to, const lanes<T>& value) noexcept {
#if defined(__AVX512F__)
  _mm512_stream_si512(reinterpret_cast<__m512i*>(to), (__m512i)value);
#else
  store_lanes(to, value);
#endif
}
inline void finish_streaming() noexcept {
#if defined(__AVX512F__)
  _mm_sfence();
#endif
}

/// Whether memory of so many bytes is better written past the caches.
inline bool outgrows_caches(std::int64_t bytes) noexcept { return bytes >= std::int64_t{8} << 20; }

/// Copies a row past the caches, as far as whole registers of `to` go.
template <class T>
void stream_row(const T* from, T* to, std::int64_t count) noexcept {
  const auto over = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(to) % vector_bytes / sizeof(T));
  std::int64_t i = 0;
  for (const std::int64_t before = over > 0 ? lane_count<T> - over : 0; i < before && i < count; ++i) to[i] = from[i];
  for (; i + lane_count<T> <= count; i += lane_count<T>) stream_lanes(to + i, load_lanes(from + i));
  for (; i < count; ++i) to[i] = from[i];
}

/// The first `count` lanes of a register, zeros after them.
template <class T>
lanes<T> first_lanes(lanes<T> value, std::int64_t count) noexcept {
  using index = decltype(value < value);
  constexpr auto counting = []<int... I>(std::integer_sequence<int, I...>) { return index{I...}; };
  const index place = counting(std::make_integer_sequence<int, lane_count<T>>{});
  return place < static_cast<std::remove_cvref_t<decltype(place[0])>>(count) ? value : lanes<T>{};
}

/// Whether a comparison holds in any lane.
template <class Mask>
bool any_lane(const Mask& mask) noexcept {
#if defined(__AVX512F__)
  return _mm512_test_epi32_mask((__m512i)mask, (__m512i)mask) != 0;
#else
  bool any = false;
  for (std::size_t i = 0; i < sizeof mask / sizeof mask[0]; ++i) any |= mask[i] != 0;
  return any;
#endif
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
