// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/bits.hpp>
#include <lightnet/core/half.hpp>

#include <cstdint>
#include <type_traits>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Neighbouring channels that pass through memory together.
template <class T, int Count>
struct alignas(sizeof(T) * Count) channel_word {
  T channels[Count];
};

/// The numbers of a word as they are summed.
template <class T, int Count>
__device__ void widen(const channel_word<T, Count>& word, accumulator<T> (&to)[Count]) {
  if constexpr (Count == 2 && std::is_same_v<T, bfloat16>) {
    const auto both = bits_as<std::uint32_t>(word);
    to[0] = bits_as<float>(both << 16);
    to[1] = bits_as<float>(both & 0xFFFF0000U);
  } else if constexpr (std::is_same_v<T, float16>) {
    LIGHTNET_UNROLL
    for (int c = 0; c < Count; ++c) asm("cvt.f32.f16 %0, %1;" : "=f"(to[c]) : "h"(word.channels[c].bits()));
  } else {
    LIGHTNET_UNROLL
    for (int c = 0; c < Count; ++c) to[c] = word.channels[c];
  }
}

/// The processor's rounding to two bytes: that of the types, but for which NaN a NaN becomes.
template <class T, int Count, class A>
__device__ channel_word<T, Count> narrow(const A (&from)[Count]) {
  if constexpr (Count == 2 && std::is_same_v<T, bfloat16>) {
    std::uint32_t both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(from[1]), "f"(from[0]));
    return bits_as<channel_word<T, Count>>(both);
  } else if constexpr (Count == 2 && std::is_same_v<T, float16>) {
    std::uint32_t both;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(from[1]), "f"(from[0]));
    return bits_as<channel_word<T, Count>>(both);
  } else {
    channel_word<T, Count> word;
    LIGHTNET_UNROLL
    for (int c = 0; c < Count; ++c) {
      if constexpr (std::is_same_v<T, bfloat16>) {
        std::uint16_t bits;
        asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(from[c]));
        word.channels[c] = bfloat16::from_bits(bits);
      } else if constexpr (std::is_same_v<T, float16>) {
        std::uint16_t bits;
        asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(from[c]));
        word.channels[c] = float16::from_bits(bits);
      } else {
        word.channels[c] = static_cast<T>(from[c]);
      }
    }
    return word;
  }
}

/// Starts to copy a word to shared memory, where this thread finds it after `wait_for_copies`.
template <class T, int Count>
__device__ void copy_to_shared(channel_word<T, Count>* to, const T* from) {
  constexpr int bytes = sizeof(channel_word<T, Count>);
  if constexpr (bytes >= 4) {
    const auto place = static_cast<std::uint32_t>(__cvta_generic_to_shared(to));
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(place), "l"(from), "n"(bytes) : "memory");
  } else {
    *to = *reinterpret_cast<const channel_word<T, Count>*>(from);
  }
}
__device__ inline void wait_for_copies() { asm volatile("cp.async.wait_all;" ::: "memory"); }

}  // namespace detail

LIGHTNET_END_NAMESPACE
