// SPDX-License-Identifier: Apache-2.0
#include "limits/rates.hpp"
#include "limits/stopwatch.hpp"

#include <benchmark/benchmark.h>

#include <cstdint>

namespace bench {

namespace {

// Chains of a = a b + b, and nothing else, more of them than the units for multiply-adds need to stay busy: two units
// of a latency of four or five need ten. With b = 1/2 every chain tends to one, far from numbers that cost extra.
constexpr std::int64_t rounds = 20000;

#if defined(__x86_64__) && defined(__AVX512F__)
constexpr std::int64_t chains = 24, lanes = 16;

void multiply_and_add() {
  const float half = 0.5F;
  std::int64_t left = rounds;
  asm volatile(
      "vbroadcastss %[half], %%zmm0\n"
      ".irp chain, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24\n"
      "vmovaps %%zmm0, %%zmm\\chain\n"
      ".endr\n"
      "1:\n"
      ".irp chain, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24\n"
      "vfmadd213ps %%zmm0, %%zmm0, %%zmm\\chain\n"
      ".endr\n"
      "dec %[left]\n"
      "jnz 1b\n"
      : [left] "+r"(left)
      : [half] "m"(half)
      : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
        "xmm13", "xmm14", "xmm15", "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24");
}

#elif defined(__x86_64__) && defined(__AVX2__) && defined(__FMA__)
constexpr std::int64_t chains = 15, lanes = 8;

void multiply_and_add() {
  const float half = 0.5F;
  std::int64_t left = rounds;
  asm volatile(
      "vbroadcastss %[half], %%ymm0\n"
      ".irp chain, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n"
      "vmovaps %%ymm0, %%ymm\\chain\n"
      ".endr\n"
      "1:\n"
      ".irp chain, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n"
      "vfmadd213ps %%ymm0, %%ymm0, %%ymm\\chain\n"
      ".endr\n"
      "dec %[left]\n"
      "jnz 1b\n"
      : [left] "+r"(left)
      : [half] "m"(half)
      : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
        "xmm13", "xmm14", "xmm15");
}

#else
// Vectors of the compiler's, of what it says is a register's width. It may split them, and does not have to contract.
#if defined(__AVX__)
constexpr std::int64_t chains = 12, lanes = 8;
#else
constexpr std::int64_t chains = 12, lanes = 4;
#endif

void multiply_and_add() {
  using lane = float __attribute__((vector_size(lanes * sizeof(float))));
  const lane half = lane{} + 0.5F;
  lane a0 = half, a1 = half, a2 = half, a3 = half, a4 = half, a5 = half;
  lane a6 = half, a7 = half, a8 = half, a9 = half, a10 = half, a11 = half;
  lane b = half;
  for (std::int64_t left = rounds; left > 0; --left) {
    benchmark::DoNotOptimize(b);
    a0 = a0 * b + b, a1 = a1 * b + b, a2 = a2 * b + b, a3 = a3 * b + b, a4 = a4 * b + b, a5 = a5 * b + b;
    a6 = a6 * b + b, a7 = a7 * b + b, a8 = a8 * b + b, a9 = a9 * b + b, a10 = a10 * b + b, a11 = a11 * b + b;
  }
  lane sum = a0 + a1 + a2 + a3 + a4 + a5 + a6 + a7 + a8 + a9 + a10 + a11;
  benchmark::DoNotOptimize(sum);
}
#endif

}  // namespace

double fma_rate() { return static_cast<double>(2 * rounds * chains * lanes) / seconds(multiply_and_add); }

}  // namespace bench
