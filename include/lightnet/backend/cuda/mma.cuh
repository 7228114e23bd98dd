// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/config.hpp>

#include <cstdint>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

// The warp's matrix instructions with sums in float: for bfloat16, C[16, 8] += A[16, 16] B[16, 8] (PTX, mma.m16n8k16), and
// how its operands are loaded from shared memory (ldmatrix). Lane l holds of C the rows l / 4 and l / 4 + 8, of each the
// columns 2 (l % 4) and 2 (l % 4) + 1.

/// Two floats rounded to bfloat16, the first in the lower half.
__device__ inline std::uint32_t pack_bfloat16(float low, float high) {
  std::uint32_t packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}
__device__ inline float lower_bfloat16(std::uint32_t packed) { return __uint_as_float(packed << 16); }
__device__ inline float upper_bfloat16(std::uint32_t packed) { return __uint_as_float(packed & 0xFFFF0000U); }
/// Two numbers of float16.
__device__ inline float2 both_float16(std::uint32_t packed) {
  float2 pair;
  asm("{\n.reg .b16 low, high;\nmov.b32 {low, high}, %2;\ncvt.f32.f16 %0, low;\ncvt.f32.f16 %1, high;\n}"
      : "=f"(pair.x), "=f"(pair.y)
      : "r"(packed));
  return pair;
}
/// The larger of each pair; NaN counts as nothing.
__device__ inline std::uint32_t larger_bfloat16(std::uint32_t a, std::uint32_t b) {
  std::uint32_t larger;
  asm("max.bf16x2 %0, %1, %2;" : "=r"(larger) : "r"(a), "r"(b));
  return larger;
}

/// Four 8 x 8 matrices; lane l gives the address of row l % 8 of matrix l / 8.
__device__ inline void load_matrices(std::uint32_t (&to)[4], const void* row) {
  const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(address)
               : "memory");
}
/// The same, each matrix transposed.
__device__ inline void load_matrices_transposed(std::uint32_t (&to)[4], const void* row) {
  const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(address)
               : "memory");
}

__device__ inline void multiply_add_matrices(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b_low,
                                             std::uint32_t b_high) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b_low), "r"(b_high));
}

/// A matrix of bfloat16 in shared memory. Rows are 8 numbers longer than they look, so that eight of them lie in different
/// banks.
struct bfloat16_tile {
  std::uint16_t* data;
  int stride;

  LIGHTNET_HOST_DEVICE static constexpr int padded(int columns) { return columns + 8; }

  __device__ std::uint16_t* at(int row, int column) const { return data + row * stride + column; }

  /// A[16, 16] from rows [m, m + 16) and columns [k, k + 16).
  __device__ void load_left(std::uint32_t (&a)[4], int m, int k) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    load_matrices(a, at(m + lane % 16, k + lane / 16 * 8));
  }
  /// A[16, 16] = the transpose of rows [k, k + 16) and columns [m, m + 16).
  __device__ void load_left_transposed(std::uint32_t (&a)[4], int m, int k) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    load_matrices_transposed(a, at(k + lane % 8 + lane / 16 * 8, m + lane / 8 % 2 * 8));
  }
  /// Two B[16, 8], side by side, from rows [k, k + 16) and columns [n, n + 16): b[0], b[1] and b[2], b[3].
  __device__ void load_right(std::uint32_t (&b)[4], int k, int n) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    load_matrices_transposed(b, at(k + lane % 16, n + lane / 16 * 8));
  }
  /// Two B[16, 8] from the transpose: rows [n, n + 16) and columns [k, k + 16).
  __device__ void load_right_transposed(std::uint32_t (&b)[4], int k, int n) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    load_matrices(b, at(n + lane % 8 + lane / 16 * 8, k + lane / 8 % 2 * 8));
  }
};

// --- Products of floats: TF32 has ten bits of a float's fraction and all of its exponent, so two of them make a float but
// for its last bit, and three products of such parts the product of two floats but for 2^-22 of it. The fourth, of the two
// smaller parts, is left out.

/// Whether a float is a number that is split into numbers: the largest are rounded to infinity.
__device__ inline bool splits(float x) { return fabsf(x) < 0x1.FFEp127F; }

/// A float in two parts; what follows the ten bits of `low` is not read.
struct split_float {
  std::uint32_t high, low;

  __device__ static split_float of(float x) {
    const std::uint32_t high = (__float_as_uint(x) + 0x1000U) & 0xFFFFE000U;
    return {high, __float_as_uint(x - __uint_as_float(high))};
  }
};

/// C[16, 8] += A[16, 8] B[8, 8] of TF32 (PTX, mma.m16n8k8). Of A lane l holds the rows l / 4 and l / 4 + 8 of the column
/// l % 4, then the same rows of the column l % 4 + 4; of B the rows l % 4 and l % 4 + 4 of the column l / 4; of C what it
/// holds for bfloat16.
__device__ inline void multiply_add_tf32(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b_low_row,
                                         std::uint32_t b_high_row) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b_low_row), "r"(b_high_row));
}

/// A[16, 8] and B[8, 8] of floats in two parts.
struct split_left {
  std::uint32_t high[4], low[4];

  split_left() = default;
  __device__ split_left(float a0, float a1, float a2, float a3) {
    const float a[4] = {a0, a1, a2, a3};
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const auto parts = split_float::of(a[e]);
      high[e] = parts.high;
      low[e] = parts.low;
    }
  }
};
struct split_right {
  split_float low_row, high_row;

  __device__ split_right(float b0, float b1) : low_row{split_float::of(b0)}, high_row{split_float::of(b1)} {}
};

/// Sums of products of floats. The matrix unit cuts off what does not fit into a sum, so the large terms are kept apart from
/// the small ones, and what is summed for long is added to by others.
struct float_sums {
  float large[4] = {}, small[4] = {};

  __device__ void multiply_add(const split_left& a, const split_right& b) {
    multiply_add_tf32(small, a.low, b.low_row.high, b.high_row.high);
    multiply_add_tf32(large, a.high, b.low_row.high, b.high_row.high);
    multiply_add_tf32(small, a.high, b.low_row.low, b.high_row.low);
  }
  __device__ float sum(int e) const { return large[e] + small[e]; }
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
