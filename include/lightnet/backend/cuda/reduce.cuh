// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/reduce.hpp>
#include <lightnet/backend/cuda/map.cuh>
#include <lightnet/core/half.hpp>

#include <new>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// The threads of a block that share a row: a warp where rows are short, else all. What a row gives depends on its
/// length alone.
struct row_tiling {
  static constexpr int threads = 256, warp = 32, warps = threads / warp;
  std::int64_t rows, columns;
  int lanes;  // of a row

  row_tiling(std::int64_t all_rows, std::int64_t all_columns)
      : rows{all_rows}, columns{all_columns}, lanes{all_columns <= 1024 ? warp : threads} {}
  /// The same row for all threads of a block.
  row_tiling with_all_threads() const noexcept {
    row_tiling all = *this;
    all.lanes = threads;
    return all;
  }
  std::int64_t blocks() const noexcept { return lanes == warp ? (rows + warps - 1) / warps : rows; }

  __device__ int lane() const noexcept { return static_cast<int>(threadIdx.x) % lanes; }
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
/// the warps. `slots` is shared memory, one place a warp, free for other use after the next meeting.
template <class T, class Combine>
__device__ T combine_row(const row_tiling& tiling, T mine, T* slots, const Combine& combine) {
#pragma unroll
  for (int distance = row_tiling::warp / 2; distance > 0; distance /= 2) {
    mine = combine(mine, __shfl_xor_sync(0xFFFFFFFF, mine, distance));
  }
  if (tiling.lanes == row_tiling::warp) return mine;
  __syncthreads();  // whoever still reads what was here
  if (threadIdx.x % row_tiling::warp == 0) slots[threadIdx.x / row_tiling::warp] = mine;
  __syncthreads();
  mine = slots[threadIdx.x % row_tiling::warps];
#pragma unroll
  for (int distance = row_tiling::warps / 2; distance > 0; distance /= 2) {
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

/// Asks the L2 cache for numbers of every row, such as weights.
template <class T>
__device__ void prefetch_operand(const by_column<const T>& operand, std::int64_t columns) {
  const auto begin = (reinterpret_cast<std::uintptr_t>(operand.data) + 15) / 16 * 16;
  const auto end = reinterpret_cast<std::uintptr_t>(operand.data + operand.period * columns) / 16 * 16;
  if (begin < end) prefetch(reinterpret_cast<const void*>(begin), static_cast<std::uint32_t>(end - begin));
}
template <class Other>
__device__ void prefetch_operand(const Other&, std::int64_t) {}

/// Puts what a row gave before the other arguments of a functor.
template <class Functor, class Finished>
struct with_finished {
  const Functor& functor;
  const Finished& finished;

  template <class... T>
    requires(std::is_invocable_v<const Functor&, const Finished&, T&...>)
  __device__ void operator()(T&... x) const noexcept { functor(finished, x...); }
};

// sums_r = sum_c terms(x_rc, ...), finished_r = finish(r, sums_r), functor(finished_r, x_rc, ...). Every matrix passes
// through memory once: a row that is read again comes from a cache. Tile: a row a warp, or a block where it is long or where
// rows are few; in the latter case every warp adds up, as one alone would, what all have read.
template <class T, int Count, class Terms, class Finish, class Functor, class... Operand>
__global__ void __launch_bounds__(row_tiling::threads)
    reduce_map_kernel(row_tiling tiling, row_tiling order, Terms terms, Finish finish, Functor functor,
                      Operand... operands) {
  using finished_type = std::remove_cvref_t<std::invoke_result_t<const Finish&, std::int64_t, const sums<T, Count>&>>;
  static_assert(std::is_trivially_copyable_v<finished_type>, "what finish gives is shared as plain memory");
  __shared__ T slots[row_tiling::warps];
  __shared__ alignas(finished_type) unsigned char results[row_tiling::warps * sizeof(finished_type)];
  extern __shared__ __align__(16) unsigned char shared_memory[];
  auto* const all_terms = reinterpret_cast<sums<T, Count>*>(shared_memory);  // of a row that a warp adds up
  if (blockIdx.x == 0 && threadIdx.x == 0) (prefetch_operand(operands, tiling.columns), ...);
  take_turn();
  const int lane = tiling.lane();
  auto* const result = reinterpret_cast<finished_type*>(results) +
                       (tiling.lanes == row_tiling::warp ? threadIdx.x / row_tiling::warp : 0);
  for (std::int64_t row = tiling.first_row(); row < tiling.rows; row += tiling.row_step()) {
    sums<T, Count> sum;
    const auto add = [&](const sums<T, Count>& term) {
#pragma unroll
      for (int s = 0; s < Count; ++s) sum.values[s] += term.values[s];
    };
    if (tiling.lanes != order.lanes) {
#pragma unroll 4
      for (std::int64_t c = lane; c < tiling.columns; c += tiling.lanes) {
        all_terms[c] = terms(row_of(operands, row, tiling.columns)[c]...);
      }
      __syncthreads();
#pragma unroll 8
      for (std::int64_t c = order.lane(); c < tiling.columns; c += order.lanes) add(all_terms[c]);
    } else {
#pragma unroll 4
      for (std::int64_t c = lane; c < tiling.columns; c += tiling.lanes) {
        add(terms(row_of(operands, row, tiling.columns)[c]...));
      }
    }
#pragma unroll
    for (int s = 0; s < Count; ++s) sum.values[s] = combine_row(order, sum.values[s], slots, add_numbers{});
    tiling.meet();  // all have read the row, and the result of the row before
    if (lane == 0) ::new (static_cast<void*>(result)) finished_type(finish(row, sum));
    tiling.meet();
    const finished_type finished = *result;
    const with_finished<Functor, finished_type> place{functor, finished};
    for (std::int64_t first = lane; first < tiling.columns; first += std::int64_t{tiling.lanes} * places_at_once) {
      map_places(place, first, tiling.lanes, tiling.columns, std::index_sequence_for<Operand...>{},
                 row_of(operands, row, tiling.columns)...);
    }
  }
}

template <class T, int Count, class Terms, class Finish, class Functor, class... Operand>
void launch_reduce_map(execution<cuda>& on, const row_tiling& order, const Terms& terms, const Finish& finish,
                       const Functor& functor, const Operand&... operands) {
  constexpr std::int64_t few = 256;  // rows
  const bool shared = order.lanes == row_tiling::warp && order.columns > row_tiling::warp && order.rows <= few;
  const row_tiling tiling = shared ? order.with_all_threads() : order;
  const auto shared_bytes = static_cast<std::size_t>(shared ? order.columns : 0) * sizeof(sums<T, Count>);
  const std::int64_t most = static_cast<std::int64_t>(on.processors()) * 32;
  launch_ahead(on, "reduce_map", {std::min(tiling.blocks(), most), row_tiling::threads, shared_bytes},
               reduce_map_kernel<T, Count, Terms, Finish, Functor, Operand...>, tiling, order, terms, finish, functor,
               operands...);
}

/// For every row: the sums of `terms(x, y, ...)` over its columns, `finish(row, sums)` of them by one thread, and with
/// what that gave `functor(finished, x, y, ...)` at each place.
template <class T, int Count, class Terms, class Finish, class Functor, class... Operand>
void reduce_map(execution<cuda>& on, std::int64_t rows, std::int64_t columns, const Terms& terms, const Finish& finish,
                const Functor& functor, const Operand&... operands) {
  launch_reduce_map<T, Count>(on, row_tiling{rows, columns}, terms, finish, functor, operand_of(operands)...);
}

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
