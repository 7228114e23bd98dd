// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/lanes.hpp>
#include <lightnet/backend/cpu/parallel.hpp>
#include <lightnet/core/half.hpp>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>
// Every processor with AVX2 has F16C; below, the inline namespace does not tell units with and without it apart.
#if defined(__AVX2__) && defined(__F16C__)
#define LIGHTNET_F16C
#include <immintrin.h>
#endif

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

using word_lanes = typename vector_of<std::uint32_t>::type;
typedef std::uint16_t half_lanes __attribute__((vector_size(vector_bytes / 2)));

template <class To, class From>
void convert(const From* from, To* to, std::int64_t count) noexcept;

// g++ takes four instructions where the processor has one.
inline word_lanes widen(const half_lanes& halves) noexcept {
#if defined(__AVX512F__)
  return (word_lanes)_mm512_maskz_cvtepu16_epi32(__mmask16(0xFFFF), (__m256i)halves);
#else
  return __builtin_convertvector(halves, word_lanes);
#endif
}
inline half_lanes narrow(const word_lanes& words) noexcept {
#if defined(__AVX512F__)
  return (half_lanes)_mm512_maskz_cvtepi32_epi16(__mmask16(0xFFFF), (__m512i)words);
#else
  return __builtin_convertvector(words, half_lanes);
#endif
}

/// A register of sums from numbers of a storage type: bfloat16 is half of a float.
template <class A, class T>
lanes<A> load_as(const T* from) noexcept {
  if constexpr (std::is_same_v<A, T>) {
    return load_lanes(from);
  } else if constexpr (std::is_same_v<T, bfloat16>) {
    half_lanes halves;
    std::memcpy(&halves, from, sizeof halves);
    return (lanes<A>)(widen(halves) << 16);
  } else {
    A value[lane_count<A>];
    convert(from, value, lane_count<A>);
    return load_lanes(value);
  }
}

/// And back, each number with the bits that static_cast gives.
template <class T>
void store_as(T* to, const lanes<accumulator<T>>& value) noexcept {
  if constexpr (std::is_same_v<T, bfloat16>) {
    const auto bits = (word_lanes)value;
    const word_lanes rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16, quiet = (bits >> 16) | 0x40;
    const half_lanes halves = narrow((bits & 0x7FFFFFFF) > 0x7F800000 ? quiet : rounded);
    std::memcpy(static_cast<void*>(to), &halves, sizeof halves);
  } else {
    store_lanes(to, value);
  }
}

/// Writes `count` dense numbers in another storage type, each with the bits that static_cast gives; the arrays do not
/// overlap.
template <class To, class From>
void convert(const From* from, To* to, std::int64_t count) noexcept {
#if defined(LIGHTNET_F16C)
  // The processor does in one instruction what float16 needs a dozen for.
  if constexpr (std::is_same_v<From, float16> && std::is_same_v<To, float>) {
    for (; count >= 8; count -= 8, from += 8, to += 8) {
      _mm256_storeu_ps(to, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
    }
  } else if constexpr (std::is_same_v<From, float> && std::is_same_v<To, float16>) {
    for (; count >= 8; count -= 8, from += 8, to += 8) {
      const __m128i rounded = _mm256_cvtps_ph(_mm256_loadu_ps(from), _MM_FROUND_TO_NEAREST_INT);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to), rounded);
    }
  }
#endif
  if constexpr (std::is_same_v<From, To>) {
    std::copy_n(from, count, to);
  } else if constexpr ((std::is_same_v<From, bfloat16> && std::is_same_v<To, float>) ||
                       (std::is_same_v<From, float> && std::is_same_v<To, bfloat16>)) {
    constexpr std::int64_t width = lane_count<float>;
    for (; count >= width; count -= width, from += width, to += width) store_as(to, load_as<float>(from));
    for (std::int64_t i = 0; i < count; ++i) to[i] = static_cast<To>(from[i]);
  } else {
    LIGHTNET_OMP(omp simd)
    for (std::int64_t i = 0; i < count; ++i) to[i] = static_cast<To>(from[i]);
  }
}

/// Writes a sequence of sums [B, N, H, channels] in a storage type.
template <class To, class From, class ToSequence, class FromSequence>
void convert_sequence(const execution<cpu>& on, const FromSequence& from, const ToSequence& to) {
  constexpr std::int64_t block = 64;
  const std::int64_t heads = to.heads(), tokens = to.tokens(), count = to.batch() * tokens;
  const bool dense = to.channel_stride() == 1 && from.channel_stride() == 1;
  parallel_for(on, block_range::blocks(block, count), [&](std::int64_t index, int) {
    const block_range range{index, block, count};
    for (std::int64_t item = range.first; item < range.last; ++item) {
      const std::int64_t b = item / tokens, t = item % tokens;
      for (std::int64_t h = 0; h < heads; ++h) {
        const From* const source = from.token(b, h, t);
        To* const target = to.token(b, h, t);
        if (dense) {
          convert(source, target, to.channels());
        } else {
          for (std::int64_t i = 0; i < to.channels(); ++i) {
            target[i * to.channel_stride()] = static_cast<To>(source[i * from.channel_stride()]);
          }
        }
      }
    }
  });
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
