// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/reduce_map.cuh>
#include <lightnet/core/half.hpp>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// The parts that reduce_columns adds rows in. Part 0 of turn 0, 1, ..., then part 1: each gives one row of sums.
struct column_tiling {
  static constexpr int lanes = 32, lines = 8, threads = lanes * lines;
  static constexpr std::int64_t part = 256;  // rows of one turn
  std::int64_t rows, columns, period, parts, column_tiles;

  column_tiling(std::int64_t all_rows, std::int64_t all_columns, std::int64_t turns)
      : rows{all_rows}, columns{all_columns}, period{turns} {
    parts = std::max<std::int64_t>(1, (rows + part * period - 1) / (part * period));
    column_tiles = (columns + lanes - 1) / lanes;
  }
};

// to_pc = sum_r term(x_rc, ...) over the rows r of one part and one turn. Every matrix passes through memory once. Tile:
// 256 rows of 32 columns; eight threads a column, whose sums are added pairwise.
template <class T, class Term, class... Operand>
__global__ void __launch_bounds__(column_tiling::threads)
    reduce_columns_kernel(column_tiling tiling, T* to, Term term, Operand... operands) {
  using sum_type = accumulator<T>;
  __shared__ sum_type partial[column_tiling::lines][column_tiling::lanes];
  const int lane = static_cast<int>(threadIdx.x) % column_tiling::lanes;
  const int line = static_cast<int>(threadIdx.x) / column_tiling::lanes;
  const std::int64_t tiles = tiling.parts * tiling.period * tiling.column_tiles;
  for (std::int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const divided at{tile, tiling.column_tiles};
    const divided share{at.quotient, tiling.period};  // part and turn
    const std::int64_t column = at.rest * column_tiling::lanes + lane;
    const std::int64_t first = share.quotient * column_tiling::part * tiling.period + share.rest;
    const std::int64_t end = min(tiling.rows, first + column_tiling::part * tiling.period);
    sum_type sum(0);
    if (column < tiling.columns) {
#pragma unroll 4
      for (std::int64_t row = first + line * tiling.period; row < end; row += column_tiling::lines * tiling.period) {
        sum += term(row_of(operands, row, tiling.columns)[column]...);
      }
    }
    partial[line][lane] = sum;
    for (int half = column_tiling::lines / 2; half > 0; half /= 2) {
      __syncthreads();
      if (line < half) partial[line][lane] += partial[line + half][lane];
    }
    if (line == 0 && column < tiling.columns) {
      to[at.quotient * tiling.columns + column] = static_cast<T>(partial[0][lane]);
    }
    __syncthreads();
  }
}

struct same_number {
  template <class T>
  LIGHTNET_HOST_DEVICE T operator()(const T& x) const noexcept {
    return x;
  }
};

template <class T, class Term, class... Operand>
void launch_reduce_columns(execution<cuda>& on, const column_tiling& tiling, T* to, const Term& term,
                           const Operand&... operands) {
  const std::int64_t most = static_cast<std::int64_t>(on.processors()) * 32;
  launch(on, "reduce_columns",
         {std::min(tiling.parts * tiling.period * tiling.column_tiles, most), column_tiling::threads},
         reduce_columns_kernel<T, Term, Operand...>, tiling, to, term, operands...);
}

/// to [period, columns] = the sums of `term(x, y, ...)` over the rows, those of each turn for themselves: parts of a fixed
/// number of rows, then parts of as many of these; those of types of two bytes in float, rounded once.
template <class T, class Term, class... Operand>
void reduce_columns(execution<cuda>& on, std::int64_t rows, std::int64_t columns, T* to, std::int64_t period,
                    const Term& term, const Operand&... operands) {
  const column_tiling tiling{rows, columns, period};
  if (tiling.parts == 1) {
    launch_reduce_columns(on, tiling, to, term, operand_of(operands)...);
    return;
  }
  execution<cuda>::scope scratch{on};
  const std::int64_t size = period * columns;
  using sum_type = accumulator<T>;
  sum_type* const parts = scratch.take<sum_type>(tiling.parts * size);
  launch_reduce_columns(on, tiling, parts, term, operand_of(operands)...);
  reduce_columns(on, tiling.parts, size, to, 1, same_number{},
                 dynamic_view<2, const sum_type, cuda>{parts, {{tiling.parts, size}}});
}

/// reduce_map and, where a thread may keep its chunk from the same reading, to [period, columns] = the sums of
/// `term(finished, x, y, ...)` over the rows, those of each turn for themselves. `functor` writes nothing that `term` reads.
template <class T, int Count, class U, class Terms, class Finish, class Functor, class Term, class... Operand>
void reduce_map_and_columns(execution<cuda>& on, std::int64_t rows, std::int64_t columns, const Terms& terms,
                            const Finish& finish, const Functor& functor, U* to, std::int64_t period, const Term& term,
                            const Operand&... operands) {
  using sum_type = accumulator<U>;
  using over_rows_type = with_columns<sum_type, Term>;
  const auto tiling = row_tiling::by_chunks(rows, columns);
  execution<cuda>::scope scratch{on};
  if (!keeps_chunks(tiling, operand_of(operands)...)) {
    reduce_map_then_columns<T, Count>(on, scratch, rows, columns, terms, finish, functor, to, period, term,
                                      operands...);
    return;
  }
  const std::int64_t parts = over_rows_type::parts(rows, period), size = period * columns;
  auto* const part_sums = scratch.take<sum_type>(parts * size);
  launch_reduce_map_chunks<T, Count>(on, parts * period, tiling, over_rows_type{part_sums, period, term}, terms, finish,
                                     functor, operand_of(operands)...);
  reduce_columns(on, parts, size, to, 1, same_number{},
                 dynamic_view<2, const sum_type, cuda>{part_sums, {{parts, size}}});
}

/// What is added to one number: `count` times `inner` others, at two strides.
template <class T>
struct shares_of {
  const T* first;
  std::int64_t count, stride, inner, inner_stride;
};

/// Adds shares, a block a number; `from(i)` gives those of number i, `to(i)` its place.
template <class T, class From, class To>
__global__ void __launch_bounds__(row_tiling::threads)
    sum_shares_kernel(row_tiling tiling, From from, To to, bool accumulate) {
  __shared__ T slots[row_tiling::warps];
  for (std::int64_t i = blockIdx.x; i < tiling.rows; i += gridDim.x) {
    const shares_of<T> shares = from(i);
    T sum = T(0);
    for (std::int64_t j = threadIdx.x; j < shares.count * shares.inner; j += row_tiling::threads) {
      const divided at{j, shares.inner};
      sum += shares.first[at.quotient * shares.stride + at.rest * shares.inner_stride];
    }
    sum = combine_row(tiling, sum, slots, add_numbers{});
    if (threadIdx.x == 0) *to(i) = accumulate ? *to(i) + sum : sum;
  }
}

template <class T, class From, class To>
void launch_sum_shares(execution<cuda>& on, std::int64_t numbers, const From& from, const To& to, bool accumulate) {
  row_tiling tiling{numbers, 0};
  tiling.lanes = row_tiling::threads;
  const std::int64_t most = static_cast<std::int64_t>(on.processors()) * 32;
  launch(on, "sum_shares", {std::min(numbers, most), row_tiling::threads}, sum_shares_kernel<T, From, To>, tiling, from,
         to, accumulate);
}

template <class T>
struct head_shares {
  const T* first;
  std::int64_t lines, line_stride, head_stride;
  __device__ shares_of<T> operator()(std::int64_t head) const noexcept {
    return {first + head * head_stride, lines, line_stride, 1, 0};
  }
};
template <class T>
struct angle_shares {
  const T* first;
  std::int64_t lines, line_stride, heads, head_stride, width, width_stride;
  bool per_head;
  __device__ shares_of<T> operator()(std::int64_t i) const noexcept {
    const divided at{i, width};  // row and column of the result
    const T* const column = first + at.rest * width_stride;
    return {per_head ? column + at.quotient * head_stride : column, lines, line_stride, per_head ? 1 : heads,
            head_stride};
  }
};
template <class T>
struct matrix_places {
  T* first;
  std::int64_t width, row_stride, column_stride;
  __device__ T* operator()(std::int64_t i) const noexcept {
    const divided at{i, width};
    return first + at.quotient * row_stride + at.rest * column_stride;
  }
};

/// Adds what every line gave, in a fixed order: to [H] (+)= shares [L, H].
template <class T>
void sum_shares(execution<cuda>& on, const dynamic_view<2, T, cuda>& shares, const dynamic_view<1, T, cuda>& to,
                bool accumulate) {
  launch_sum_shares<T>(on, to.extent(0),
                       head_shares<T>{shares.data(), shares.extent(0), shares.stride(0), shares.stride(1)},
                       matrix_places<T>{to.data(), 1, to.stride(0), 0}, accumulate);
}

/// The same for [1 or H, share] from [L, H, share]: heads that share their angles are added too.
template <class T>
void sum_shares(execution<cuda>& on, const dynamic_view<3, T, cuda>& shares, const dynamic_view<2, T, cuda>& to,
                bool accumulate) {
  const bool per_head = to.extent(0) == shares.extent(1);
  launch_sum_shares<T>(on, to.size(),
                       angle_shares<T>{shares.data(), shares.extent(0), shares.stride(0), shares.extent(1),
                                       shares.stride(1), to.extent(1), shares.stride(2), per_head},
                       matrix_places<T>{to.data(), to.extent(1), to.stride(0), to.stride(1)}, accumulate);
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
