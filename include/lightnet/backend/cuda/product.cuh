// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/recurrence_job.cuh>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// How the products of all lines and heads are laid over the blocks of a grid.
struct product_layout {
  static constexpr int side = 64, depth = 16, threads = 256;
  static constexpr std::int64_t chain = 64;  // terms that are summed in one go: long chains round to one side

  std::int64_t rows_across, columns_across, segments;  // blocks of an item
  std::int64_t segment;                                // terms of one of them

  static std::int64_t across(std::int64_t extent) { return (extent + side - 1) / side; }
};

/// C[m, n] = sum_k a(k, m) b(k, n), a matrix product a line and head, from wherever a source finds its factors:
///   extents(at, m, n, k), a(at, k, m), b(at, k, n), store(at, part, m, n, sum).
/// Terms are added in their order in chains of 64; a segment of them is a sum of its own. Tile: 64 x 64 sums in the
/// registers of 256 threads, 16 terms in shared memory; every factor is read once a block that needs it.
template <class Source>
__global__ void __launch_bounds__(product_layout::threads) product_kernel(Source source, product_layout layout) {
  using A = typename Source::A;
  constexpr int side = product_layout::side, depth = product_layout::depth, own = 4, across = side / own;
  __shared__ A left[depth][side + 4], right[depth][side + 4];
  std::int64_t block = blockIdx.x;
  const std::int64_t first_n = block % layout.columns_across * side;
  block /= layout.columns_across;
  const std::int64_t first_m = block % layout.rows_across * side;
  block /= layout.rows_across;
  const std::int64_t part = block % layout.segments;
  const line_of_head at = source.line(block / layout.segments);
  std::int64_t m, n, k;
  source.extents(at, m, n, k);
  if (first_m >= m || first_n >= n) return;
  const std::int64_t first_k = part * layout.segment;
  const std::int64_t last_k = first_k + layout.segment < k ? first_k + layout.segment : k;
  const int row = static_cast<int>(threadIdx.x) / across * own, column = static_cast<int>(threadIdx.x) % across * own;
  A total[own][own] = {}, sum[own][own] = {};
  for (std::int64_t at_k = first_k; at_k < last_k; at_k += depth) {
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < side * depth; i += product_layout::threads) {
      // Neighbouring threads read what lies side by side.
      const int a_k = Source::a_along_terms ? i % depth : i / side, a_m = Source::a_along_terms ? i / depth : i % side;
      const int b_k = Source::b_along_terms ? i % depth : i / side, b_n = Source::b_along_terms ? i / depth : i % side;
      const bool a_in = at_k + a_k < last_k && first_m + a_m < m, b_in = at_k + b_k < last_k && first_n + b_n < n;
      left[a_k][a_m] = a_in ? source.a(at, at_k + a_k, first_m + a_m) : A(0);
      right[b_k][b_n] = b_in ? source.b(at, at_k + b_k, first_n + b_n) : A(0);
    }
    __syncthreads();
#pragma unroll
    for (int s = 0; s < depth; ++s) {
      A x[own], y[own];
#pragma unroll
      for (int i = 0; i < own; ++i) {
        x[i] = left[s][row + i];
        y[i] = right[s][column + i];
      }
#pragma unroll
      for (int i = 0; i < own; ++i) {
#pragma unroll
        for (int j = 0; j < own; ++j) sum[i][j] = multiply_add(x[i], y[j], sum[i][j]);
      }
    }
    if ((at_k + depth) % product_layout::chain == 0) {
#pragma unroll
      for (int i = 0; i < own; ++i) {
#pragma unroll
        for (int j = 0; j < own; ++j) {
          total[i][j] += sum[i][j];
          sum[i][j] = A(0);
        }
      }
    }
  }
#pragma unroll
  for (int i = 0; i < own; ++i) {
#pragma unroll
    for (int j = 0; j < own; ++j) {
      if (first_m + row + i < m && first_n + column + j < n) {
        source.store(at, part, first_m + row + i, first_n + column + j, total[i][j] + sum[i][j]);
      }
    }
  }
}

/// The products of all lines and heads; `rows` and `columns` are the most that one of them has, and `terms` the most that
/// are summed, in segments of `piece`.
template <class Source>
void multiply(execution<cuda>& on, const char* operation, const Source& source, std::int64_t items, std::int64_t rows,
              std::int64_t columns, std::int64_t terms, std::int64_t piece) {
  const std::int64_t segments = terms > 0 ? (terms + piece - 1) / piece : 1;
  const product_layout layout{product_layout::across(rows), product_layout::across(columns), segments, piece};
  launch(on, operation, {items * segments * layout.rows_across * layout.columns_across, product_layout::threads},
         product_kernel<Source>, source, layout);
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
