// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/for_each.cuh>
#include <lightnet/core/half.hpp>
#include <lightnet/core/view.hpp>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

template <class T>
struct gather_row {
  dynamic_view<2, const T, cuda> table;
  dynamic_view<1, const std::int32_t, cuda> ids;
  dynamic_view<2, T, cuda> to;
  unsigned* bad_content;

  __device__ void operator()(std::int64_t row, std::int64_t first, std::int64_t last) const {
    const std::int32_t id = ids(row);
    const bool good = id >= 0 && id < table.extent(0);
    if (!good && first == 0) atomicOr(bad_content, 1U);
    for (std::int64_t i = first; i < last; ++i) to(row, i) = good ? table(id, i) : static_cast<T>(0.0F);
  }
};

/// to[r] = table[ids[r]]. table [V, W], ids [R], to [R, W]. An id that is no row of the table gives zeros, and sets the flag
/// of the execution.
template <class T>
void gather_rows(execution<cuda>& on, const char* operation, const dynamic_view<2, const T, cuda>& table,
                 const dynamic_view<1, const std::int32_t, cuda>& ids, const dynamic_view<2, T, cuda>& to) {
  for_each_row(on, operation, to.extent(0), to.extent(1), gather_row<T>{table, ids, to, on.bad_content()});
}

inline constexpr int scatter_threads = 256, scatter_columns = 4;  // of a thread

// to[v] (+)= sum of the rows r of `from` with ids[r] = v, in their order: no atomics, the same bits each run. Traffic: from
// and to once, and all ids for every v, from a cache. Tile: one v and 1024 columns a block, which looks for its rows among
// 256 ids at a time.
template <class T>
__global__ void __launch_bounds__(scatter_threads)
    scatter_rows_kernel(dynamic_view<1, const std::int32_t, cuda> ids, dynamic_view<2, const T, cuda> from,
                        dynamic_view<2, T, cuda> to, bool accumulate) {
  using sum_type = accumulator<T>;
  constexpr int warps = scatter_threads / 32, span = scatter_threads * scatter_columns;
  __shared__ int counts[warps];
  __shared__ int found[scatter_threads];
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  const std::int64_t width = to.extent(1), rows = from.extent(0), across = (width + span - 1) / span;
  const std::int64_t v = blockIdx.x / across, first = blockIdx.x % across * span + thread;
  sum_type sums[scatter_columns] = {};
  for (int i = 0; i < scatter_columns; ++i) {
    const std::int64_t column = first + i * scatter_threads;
    if (accumulate && column < width) sums[i] = static_cast<sum_type>(to(v, column));
  }
  for (std::int64_t base = 0; base < rows; base += scatter_threads) {
    const bool mine = base + thread < rows && ids(base + thread) == v;
    const unsigned of_warp = __ballot_sync(~0U, mine);
    if (lane == 0) counts[warp] = __popc(of_warp);
    __syncthreads();
    int before = 0, total = 0;
    for (int i = 0; i < warps; ++i) {
      before += i < warp ? counts[i] : 0;
      total += counts[i];
    }
    if (mine) found[before + __popc(of_warp & ((1U << lane) - 1U))] = thread;
    __syncthreads();
    for (int n = 0; n < total; ++n) {
      const std::int64_t row = base + found[n];
      for (int i = 0; i < scatter_columns; ++i) {
        const std::int64_t column = first + i * scatter_threads;
        if (column < width) sums[i] += static_cast<sum_type>(from(row, column));
      }
    }
  }
  for (int i = 0; i < scatter_columns; ++i) {
    const std::int64_t column = first + i * scatter_threads;
    if (column < width) to(v, column) = static_cast<T>(sums[i]);
  }
}

/// to[v] = the sum of the rows r of `from` with ids[r] = v, beside what is there where it is added to. from [R, W],
/// to [V, W]. Ids that are no rows are left out; gather_rows tells of them.
template <class T>
void scatter_rows(execution<cuda>& on, const char* operation, const dynamic_view<1, const std::int32_t, cuda>& ids,
                  const dynamic_view<2, const T, cuda>& from, const dynamic_view<2, T, cuda>& to, bool accumulate) {
  constexpr std::int64_t span = scatter_threads * scatter_columns;
  const std::int64_t across = (to.extent(1) + span - 1) / span;
  launch(on, operation, {to.extent(0) * across, scatter_threads}, scatter_rows_kernel<T>, ids, from, to, accumulate);
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
