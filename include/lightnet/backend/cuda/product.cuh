// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/mma.cuh>
#include <lightnet/backend/cuda/recurrence_job.cuh>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// How the products of all lines and heads are laid over the blocks of a grid.
struct product_layout {
  static constexpr int side = 64, depth = 32, threads = 256;
  static constexpr std::int64_t chain = 64;  // terms that are summed in one go: long chains round to one side

  std::int64_t rows_across, columns_across, segments;  // blocks of an item
  std::int64_t segment;                                // terms of one of them

  static std::int64_t across(std::int64_t extent) { return (extent + side - 1) / side; }
};

/// Reads the factors of terms [first_k, last_k) for 64 of the rows or columns of a product, from first_m on, of m; zero
/// where there are none. Neighbouring threads read what lies side by side, and all that a thread reads is on its way at
/// once.
template <bool AlongTerms, class Rows, class A, int Depth, int Stride>
__device__ void load_factors(const Rows& rows, std::int64_t first_k, std::int64_t last_k, std::int64_t first_m,
                             std::int64_t m, A (&to)[Depth][Stride]) {
  constexpr int side = product_layout::side, own = side * Depth / product_layout::threads;
  constexpr int across = AlongTerms ? Depth : side, down = product_layout::threads / across;
  const int column = static_cast<int>(threadIdx.x) % across, row = static_cast<int>(threadIdx.x) / across;
  const std::int64_t first_row = AlongTerms ? first_m : first_k, last_row = AlongTerms ? m : last_k;
  const std::int64_t element = (AlongTerms ? first_k : first_m) + column, end = AlongTerms ? last_k : m;
  const std::int64_t inside = element < end ? element : end - 1;
  decltype(rows(0).fetch(0)) fetched[own];
#pragma unroll
  for (int i = 0; i < own; ++i) {
    const std::int64_t r = first_row + row + i * down;
    fetched[i] = rows(r < last_row ? r : last_row - 1).fetch(inside);
  }
#pragma unroll
  for (int i = 0; i < own; ++i) {
    const std::int64_t r = first_row + row + i * down;
    const A x = r < last_row && element < end ? rows(r).value(fetched[i]) : A(0);
    (AlongTerms ? to[column][row + i * down] : to[row + i * down][column]) = x;
  }
}

/// The sums of 64 x 64 numbers of a block, a thread four by four.
template <class A>
class product_sums {
 public:
  static constexpr int side = product_layout::side, own = 4, across = side / own;

  /// Adds the product of tiles [depth, side].
  template <int Depth, int Stride>
  __device__ void multiply_add(const A (&left)[Depth][Stride], const A (&right)[Depth][Stride]) {
#pragma unroll
    for (int s = 0; s < Depth; ++s) {
      A x[own], y[own];
#pragma unroll
      for (int i = 0; i < own; ++i) {
        x[i] = left[s][row() + i];
        y[i] = right[s][column() + i];
      }
#pragma unroll
      for (int i = 0; i < own; ++i) {
#pragma unroll
        for (int j = 0; j < own; ++j) sum_[i][j] = lightnet::multiply_add(x[i], y[j], sum_[i][j]);
      }
    }
  }
  /// Ends a chain of terms.
  __device__ void end_chain() {
#pragma unroll
    for (int i = 0; i < own; ++i) {
#pragma unroll
      for (int j = 0; j < own; ++j) {
        total_[i][j] += sum_[i][j];
        sum_[i][j] = A(0);
      }
    }
  }
  /// Calls body(row, column, sum).
  template <class Body>
  __device__ void each(const Body& body) const {
#pragma unroll
    for (int i = 0; i < own; ++i) {
#pragma unroll
      for (int j = 0; j < own; ++j) body(row() + i, column() + j, total_[i][j]);
    }
  }

 private:
  __device__ static int row() { return static_cast<int>(threadIdx.x) / across * own; }
  __device__ static int column() { return static_cast<int>(threadIdx.x) % across * own; }

  A total_[own][own] = {}, sum_[own][own] = {};
};

/// The same in floats on the matrix units, a warp 32 x 16.
template <>
class product_sums<float> {
 public:
  template <int Depth, int Stride>
  __device__ void multiply_add(const float (&left)[Depth][Stride], const float (&right)[Depth][Stride]) {
    const int quad = lane() / 4, pair = lane() % 4;
#pragma unroll
    for (int s = 0; s < Depth; s += 8) {
      const float *const low = &left[s + pair][row() + quad], *const high = &left[s + pair + 4][row() + quad];
      const split_left a[down] = {{low[0], low[8], high[0], high[8]}, {low[16], low[24], high[16], high[24]}};
#pragma unroll
      for (int j = 0; j < across; ++j) {
        const int n = column() + 8 * j + quad;
        const split_right b(right[s + pair][n], right[s + pair + 4][n]);
#pragma unroll
        for (int i = 0; i < down; ++i) sum_[i][j].multiply_add(a[i], b);
      }
    }
  }
  __device__ void end_chain() {
#pragma unroll
    for (int i = 0; i < down; ++i) {
#pragma unroll
      for (int j = 0; j < across; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e) total_[i][j][e] += sum_[i][j].sum(e);
        sum_[i][j] = {};
      }
    }
  }
  template <class Body>
  __device__ void each(const Body& body) const {
#pragma unroll
    for (int i = 0; i < down; ++i) {
#pragma unroll
      for (int j = 0; j < across; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          body(row() + 16 * i + lane() / 4 + e / 2 * 8, column() + 8 * j + lane() % 4 * 2 + e % 2, total_[i][j][e]);
        }
      }
    }
  }

 private:
  static constexpr int down = 2, across = 2;  // products of 16 x 8

  __device__ static int lane() { return static_cast<int>(threadIdx.x) % 32; }
  __device__ static int row() { return static_cast<int>(threadIdx.x) / 32 / 4 * 32; }
  __device__ static int column() { return static_cast<int>(threadIdx.x) / 32 % 4 * 16; }

  float total_[down][across][4] = {};
  float_sums sum_[down][across];
};

/// C[m, n] = sum_k a(k, m) b(k, n), a matrix product a line and head, from wherever a source finds its factors:
///   pull.job, extents(at, m, n, k), store(at, part, m, n, sum), a(at, k), a row along m, or, where a_along_terms, a(at, m),
///   a row along k; b(at, k) or b(at, n) likewise.
/// Terms are added in their order in chains of 64; a segment of them is a sum of its own. Tile: 64 x 64 sums in the
/// registers of 256 threads, 32 terms in shared memory; every factor is read once a block that needs it.
template <class Source>
__global__ void __launch_bounds__(product_layout::threads)
    product_kernel(Source source, product_layout layout, std::int64_t blocks) {
  using A = typename Source::A;
  constexpr int side = product_layout::side, depth = product_layout::depth;
  __shared__ A left[depth][side + 8], right[depth][side + 8];
  if (source.pull.job.nothing_wanted()) return;
  for (std::int64_t index = blockIdx.x; index < blocks; index += gridDim.x) {
    std::int64_t block = index;
    const std::int64_t first_n = block % layout.columns_across * side;
    block /= layout.columns_across;
    const std::int64_t first_m = block % layout.rows_across * side;
    block /= layout.rows_across;
    const std::int64_t part = block % layout.segments;
    const line_of_head at = source.pull.job.line(block / layout.segments);
    std::int64_t m, n, k;
    source.extents(at, m, n, k);
    if (at.left_alone || first_m >= m || first_n >= n) continue;
    const std::int64_t first_k = part * layout.segment;
    const std::int64_t last_k = first_k + layout.segment < k ? first_k + layout.segment : k;
    product_sums<A> sums;
    for (std::int64_t at_k = first_k; at_k < last_k; at_k += depth) {
      __syncthreads();
      load_factors<Source::a_along_terms>([&](std::int64_t r) { return source.a(at, r); }, at_k, last_k, first_m, m,
                                          left);
      load_factors<Source::b_along_terms>([&](std::int64_t r) { return source.b(at, r); }, at_k, last_k, first_n, n,
                                          right);
      __syncthreads();
      sums.multiply_add(left, right);
      if ((at_k + depth) % product_layout::chain == 0) sums.end_chain();
    }
    sums.end_chain();
    sums.each([&](int row, int column, A sum) {
      if (first_m + row < m && first_n + column < n) source.store(at, part, first_m + row, first_n + column, sum);
    });
  }
}

/// The products of all lines and heads of a job; `rows` and `columns` are the most that one of them has, and `terms` the most
/// that are summed, in segments of `piece`.
template <class Source>
void multiply(execution<cuda>& on, const char* operation, const Source& source, std::int64_t items, std::int64_t rows,
              std::int64_t columns, std::int64_t terms, std::int64_t piece) {
  const std::int64_t segments = terms > 0 ? (terms + piece - 1) / piece : 1;
  const product_layout layout{product_layout::across(rows), product_layout::across(columns), segments, piece};
  const std::int64_t blocks = items * segments * layout.rows_across * layout.columns_across;
  launch(on, operation, {source.pull.job.blocks_of(on, blocks), product_layout::threads}, product_kernel<Source>,
         source, layout, blocks);
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
