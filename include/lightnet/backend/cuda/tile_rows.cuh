// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/mma.cuh>
#include <lightnet/backend/cuda/recurrence_job.cuh>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Reads rows [first, first + count) of a line into a tile of Rows rows and Wide columns; what lies beyond them and the
/// channels, and what is masked, is zero. Eight channels at a time where they are aligned to that. The copies are under way
/// when this returns: wait_for_rows.
template <int Wide, int Rows, int Threads, class Job, class Sequence>
__device__ void load_rows(const Job& job, const Sequence& sequence, const line_of_head& at, std::int64_t first,
                          int count, std::int64_t channels, const bfloat16_tile& to) {
  const std::int64_t stride = sequence.channel_stride();
#pragma unroll
  for (int i = 0; i < Rows * (Wide / 8) / Threads; ++i) {
    const int n = static_cast<int>(threadIdx.x) + i * Threads, r = n / (Wide / 8), c = n % (Wide / 8) * 8;
    const std::int64_t token = at.line.token(first + (r < count ? r : 0));
    std::uint16_t* const place = to.at(r, c);
    if (r >= count || c >= channels || !job.on(at, token)) {
      *reinterpret_cast<uint4*>(place) = uint4{};
      continue;
    }
    const bfloat16* const row = sequence.token(at.line.batch, at.head, token);
    if (stride == 1 && c + 8 <= channels && reinterpret_cast<std::uintptr_t>(row + c) % 16 == 0) {
      const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(place));
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" : : "r"(address), "l"(row + c) : "memory");
    } else {
      for (int e = 0; e < 8; ++e) {
        place[e] = c + e < channels ? row[(c + e) * stride].bits() : static_cast<std::uint16_t>(0);
      }
    }
  }
}

/// Until what this thread has asked for is there.
__device__ inline void wait_for_rows() { asm volatile("cp.async.wait_all;" : : : "memory"); }

/// Makes entries of a tile that are no numbers zero, each thread those that it has read; `bad_column` keeps the first
/// position of each column that has one.
template <int Wide, int Rows, int Threads>
__device__ void clean_rows(const bfloat16_tile& tile, std::int64_t first, int* bad_column) {
#pragma unroll
  for (int i = 0; i < Rows * (Wide / 8) / Threads; ++i) {
    const int n = static_cast<int>(threadIdx.x) + i * Threads, r = n / (Wide / 8), c = n % (Wide / 8) * 8;
    const uint4 numbers = *reinterpret_cast<const uint4*>(tile.at(r, c));
    const std::uint32_t pairs[4] = {numbers.x, numbers.y, numbers.z, numbers.w};
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      const std::uint32_t exponent = 0x7F80U << (e % 2 * 16);
      if ((pairs[e / 2] & exponent) != exponent) continue;  // a number
      *tile.at(r, c + e) = 0;
      atomicMin(bad_column + c + e, static_cast<int>(first + r));
    }
  }
}

/// Writes two neighbouring numbers of a row that has `channels`.
template <class U>
__device__ void store_two(U* row, std::int64_t stride, std::int64_t column, std::int64_t channels, bool accumulate,
                          float a, float b) {
  if constexpr (std::is_same_v<U, bfloat16>) {
    if (!accumulate && stride == 1 && column + 1 < channels &&
        reinterpret_cast<std::uintptr_t>(row + column) % 4 == 0) {
      *reinterpret_cast<std::uint32_t*>(row + column) = pack_bfloat16(a, b);
      return;
    }
  }
  for (int e = 0; e < 2 && column + e < channels; ++e) {
    U& to = row[(column + e) * stride];
    const float x = e == 0 ? a : b;
    to = static_cast<U>(accumulate ? static_cast<float>(to) + x : x);
  }
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
