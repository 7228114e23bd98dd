// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/parallel.hpp>
#include <lightnet/core/half.hpp>

#include <cstdint>
#include <type_traits>
// Every processor with AVX2 has F16C; below, the inline namespace does not tell units with and without it apart.
#if defined(__AVX2__) && defined(__F16C__)
#define LIGHTNET_F16C
#include <immintrin.h>
#endif

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

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
  // Compilers copy objects of two bytes one by one, but not their bits.
  using bits [[gnu::may_alias]] = std::uint16_t;
  if constexpr (std::is_same_v<From, bfloat16> && std::is_same_v<To, float>) {
    const bits* const source = reinterpret_cast<const bits*>(from);
    LIGHTNET_OMP(omp simd)
    for (std::int64_t i = 0; i < count; ++i) to[i] = widen_bfloat16(source[i]);
  } else if constexpr (std::is_same_v<From, float> && std::is_same_v<To, bfloat16>) {
    bits* const target = reinterpret_cast<bits*>(to);
    LIGHTNET_OMP(omp simd)
    for (std::int64_t i = 0; i < count; ++i) target[i] = round_to_bfloat16(from[i]);
  } else {
    LIGHTNET_OMP(omp simd)
    for (std::int64_t i = 0; i < count; ++i) to[i] = static_cast<To>(from[i]);
  }
}

/// Writes a sequence of sums [B, N, H, channels] in a storage type.
template <class To, class From, class ToSequence, class FromSequence>
void convert_sequence(const execution<cpu>& on, const FromSequence& from, const ToSequence& to) {
  const std::int64_t heads = to.heads(), tokens = to.tokens();
  parallel_for(on, to.batch() * tokens, [&](std::int64_t item, int) {
    const std::int64_t b = item / tokens, t = item % tokens;
    for (std::int64_t h = 0; h < heads; ++h) {
      const From* const source = from.token(b, h, t);
      To* const target = to.token(b, h, t);
      if (to.channel_stride() == 1 && from.channel_stride() == 1) {
        convert(source, target, to.channels());
      } else {
        for (std::int64_t i = 0; i < to.channels(); ++i) {
          target[i * to.channel_stride()] = static_cast<To>(source[i * from.channel_stride()]);
        }
      }
    }
  });
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
