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
__device__ channel_word<accumulator<T>, Count> widen(const channel_word<T, Count>& word) {
  channel_word<accumulator<T>, Count> wide;
  if constexpr (Count == 2 && std::is_same_v<T, bfloat16>) {
    const auto both = bits_as<std::uint32_t>(word);
    wide.channels[0] = bits_as<float>(both << 16);
    wide.channels[1] = bits_as<float>(both & 0xFFFF0000U);
  } else if constexpr (std::is_same_v<T, float16>) {
    LIGHTNET_UNROLL
    for (int c = 0; c < Count; ++c) asm("cvt.f32.f16 %0, %1;" : "=f"(wide.channels[c]) : "h"(word.channels[c].bits()));
  } else {
    LIGHTNET_UNROLL
    for (int c = 0; c < Count; ++c) wide.channels[c] = word.channels[c];
  }
  return wide;
}

/// The processor's rounding to two bytes: that of the types, but for which NaN a NaN becomes.
template <class T, int Count, class A>
__device__ channel_word<T, Count> narrow(const channel_word<A, Count>& wide) {
  channel_word<T, Count> word;
  if constexpr (Count == 2 && std::is_same_v<T, bfloat16>) {
    std::uint32_t both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(wide.channels[1]), "f"(wide.channels[0]));
    word = bits_as<channel_word<T, Count>>(both);
  } else {
    LIGHTNET_UNROLL
    for (int c = 0; c < Count; ++c) {
      if constexpr (sizeof(T) == 2) {
        std::uint16_t bits;
        if constexpr (std::is_same_v<T, bfloat16>) {
          asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(wide.channels[c]));
        } else {
          asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(wide.channels[c]));
        }
        word.channels[c] = T::from_bits(bits);
      } else {
        word.channels[c] = wide.channels[c];
      }
    }
  }
  return word;
}

/// Starts to copy 16 bytes to shared memory, where this thread finds them after `wait_for_copies`.
__device__ inline void copy_to_shared(void* to, const void* from) {
  const auto place = static_cast<std::uint32_t>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(place), "l"(from) : "memory");
}
__device__ inline void wait_for_copies() { asm volatile("cp.async.wait_all;" ::: "memory"); }
/// Makes what this thread has started to copy a group.
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Waits for all groups but so many.
template <int Pending>
__device__ __forceinline__ void wait_for_copies_but() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
