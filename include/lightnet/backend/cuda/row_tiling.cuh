// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/map.cuh>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// The threads of a block that share a row: a warp where rows are short, else all. What a row gives depends on its
/// length alone.
struct row_tiling {
  static constexpr int threads = 256, warp = 32, warps = threads / warp;
  static constexpr int side_by_side = places_at_once<place_order::together>;
  std::int64_t rows, columns;
  int lanes;  // of a row

  row_tiling(std::int64_t all_rows, std::int64_t all_columns)
      : rows{all_rows}, columns{all_columns}, lanes{all_columns <= 1024 ? warp : threads} {}
  /// Rows whose threads have neighbouring columns each, in chunks of `side_by_side`: no more threads than there are chunks.
  static row_tiling by_chunks(std::int64_t all_rows, std::int64_t all_columns) {
    row_tiling made{all_rows, all_columns};
    made.lanes = warp;
    while (made.lanes < threads && made.columns > made.reach()) made.lanes *= 2;
    return made;
  }
  /// How many columns the threads of a row have at a time, each of them a chunk.
  LIGHTNET_HOST_DEVICE std::int64_t reach() const noexcept { return std::int64_t{lanes} * side_by_side; }
  std::int64_t blocks() const noexcept { return lanes == warp ? (rows + warps - 1) / warps : rows; }
  int threads_of_block() const noexcept { return lanes == warp ? threads : lanes; }

  /// For sums that take few registers, several.
  template <std::size_t Bytes>
  static constexpr int blocks_of_processor = Bytes <= 4 ? 3 : 1;

  __device__ int lane() const noexcept { return static_cast<int>(threadIdx.x) % lanes; }
  /// Which row of the block's, of how many.
  __device__ int line() const noexcept { return lanes == warp ? static_cast<int>(threadIdx.x) / warp : 0; }
  __device__ int lines() const noexcept { return lanes == warp ? warps : 1; }
  __device__ std::int64_t first_row() const noexcept {
    return lanes == warp ? static_cast<std::int64_t>(blockIdx.x) * warps + threadIdx.x / warp : blockIdx.x;
  }
  __device__ std::int64_t row_step() const noexcept {
    return lanes == warp ? static_cast<std::int64_t>(gridDim.x) * warps : gridDim.x;
  }
  /// Waits for the other threads of the row.
  __device__ void meet() const noexcept {
    if (lanes == warp) {
      __syncwarp();
    } else {
      __syncthreads();
    }
  }
};

/// The same combination of what all threads of a row have, in every one of them: a butterfly over each warp, then over
/// the warps. `slots` is shared memory, one place a warp, free for other use after the next meeting. Where a row has several
/// warps, all threads of the block come here together.
template <class T, class Combine>
__device__ T combine_row(const row_tiling& tiling, T mine, T* slots, const Combine& combine) {
#pragma unroll
  for (int distance = row_tiling::warp / 2; distance > 0; distance /= 2) {
    mine = combine(mine, __shfl_xor_sync(0xFFFFFFFF, mine, distance));
  }
  if (tiling.lanes == row_tiling::warp) return mine;
  const int warps = tiling.lanes / row_tiling::warp, warp = static_cast<int>(threadIdx.x) / row_tiling::warp;
  __syncthreads();  // whoever still reads what was here
  if (threadIdx.x % row_tiling::warp == 0) slots[warp] = mine;
  __syncthreads();
  mine = slots[warp / warps * warps + threadIdx.x % warps];
  for (int distance = warps / 2; distance > 0; distance /= 2) {
    mine = combine(mine, __shfl_xor_sync(0xFFFFFFFF, mine, distance));
  }
  return mine;
}

struct add_numbers {
  template <class T>
  __device__ T operator()(T a, T b) const noexcept {
    return a + b;
  }
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
