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

/// The rows of a block that adds up nothing over them.
struct without_columns {
  std::int64_t rows_of_block;

  __device__ std::int64_t first(const row_tiling& tiling) const { return blockIdx.x * rows_of_block + tiling.line(); }
  __device__ std::int64_t step(const row_tiling& tiling) const { return tiling.lines(); }
  __device__ std::int64_t end(const row_tiling& tiling) const {
    return min(tiling.rows, (blockIdx.x + std::int64_t{1}) * rows_of_block);
  }

  struct thread_sums {
    template <class... Argument>
    __device__ void add(const without_columns&, int, const Argument&...) const {}
  };
  __device__ void write(const row_tiling&, const thread_sums&) const {}
};

/// The rows of a block that adds up over them, too: those of one turn in a part of all rows. A thread has one chunk of columns;
/// where a row is a warp, the sums of the warps are added one after the other.
template <class A, class Term>
struct with_columns {
  static constexpr std::int64_t part = 32;  // rows of one turn
  A* to;                                    // [parts, period, columns]
  std::int64_t period;
  Term term;

  static std::int64_t parts(std::int64_t rows, std::int64_t period) {
    return std::max<std::int64_t>(1, (rows + part * period - 1) / (part * period));
  }

  __device__ std::int64_t first(const row_tiling& tiling) const {
    return blockIdx.x / period * part * period + blockIdx.x % period + tiling.line() * period;
  }
  __device__ std::int64_t step(const row_tiling& tiling) const { return tiling.lines() * period; }
  __device__ std::int64_t end(const row_tiling& tiling) const {
    return min(tiling.rows, (blockIdx.x / period + 1) * part * period);
  }

  struct thread_sums {
    A values[row_tiling::side_by_side] = {};
    template <class... Argument>
    __device__ void add(const with_columns& of, int place, const Argument&... arguments) {
      values[place] += of.term(arguments...);
    }
  };
  __device__ void write(const row_tiling& tiling, const thread_sums& sums) const {
    __shared__ A of_lines[row_tiling::warp * row_tiling::side_by_side];
    const int last = tiling.lines() - 1, column = tiling.lane() * row_tiling::side_by_side;
    for (int turn = 0; turn <= last; ++turn) {
      if (turn > 0) __syncthreads();
      if (tiling.line() != turn || column >= tiling.columns) continue;
#pragma unroll
      for (int place = 0; place < row_tiling::side_by_side; ++place) {
        const int c = column + place;
        const A sum = turn > 0 ? of_lines[c] + sums.values[place] : sums.values[place];
        (turn < last ? of_lines : to + blockIdx.x * tiling.columns)[c] = sum;
      }
    }
  }
};

/// `finish` of the sums of a row by one thread, for all of its threads. `results` is shared memory, a place a warp.
template <class T, int Count, class Finish, class Finished>
__device__ Finished finish_row(const row_tiling& tiling, std::int64_t row, sums<T, Count> sum, const Finish& finish,
                               T* slots, Finished* results) {
#pragma unroll
  for (int s = 0; s < Count; ++s) sum.values[s] = combine_row(tiling, sum.values[s], slots, add_numbers{});
  Finished* const result = results + tiling.line();
  tiling.meet();  // all have read the row, and the result of the row before
  if (tiling.lane() == 0) ::new (static_cast<void*>(result)) Finished(finish(row, sum));
  tiling.meet();
  return *result;
}

template <class T, int Count, class Finish>
using finished_row = std::remove_cvref_t<std::invoke_result_t<const Finish&, std::int64_t, const sums<T, Count>&>>;

/// Memory of a block for what its rows give.
template <class Finished>
struct finished_rows {
  static_assert(std::is_trivially_copyable_v<Finished>, "what finish gives is shared as plain memory");
  alignas(Finished) unsigned char bytes[row_tiling::warps * sizeof(Finished)];
  __device__ Finished* places() { return reinterpret_cast<Finished*>(bytes); }
};

// sums_r = sum_c terms(x_rc, ...), finished_r = finish(r, sums_r), functor(finished_r, x_rc, ...). Every matrix passes
// through memory once: a row that is read again comes from a cache. Tile: a row a warp or, where it is longer, a block.
template <class T, int Count, class Terms, class Finish, class Functor, class... Operand>
__global__ void __launch_bounds__(row_tiling::threads)
    reduce_map_kernel(row_tiling tiling, without_columns over_rows, Terms terms, Finish finish, Functor functor,
                      Operand... operands) {
  using finished_type = finished_row<T, Count, Finish>;
  __shared__ T slots[row_tiling::warps];
  __shared__ finished_rows<finished_type> results;
  if (blockIdx.x == 0 && threadIdx.x == 0) (prefetch_operand(operands, tiling.columns), ...);
  take_turn();
  for (std::int64_t row = over_rows.first(tiling); row < over_rows.end(tiling); row += over_rows.step(tiling)) {
    sums<T, Count> sum;
    for (std::int64_t start = 0; start < tiling.columns; start += tiling.reach()) {
      const std::int64_t first = start + tiling.lane() * row_tiling::side_by_side;
#pragma unroll
      for (int place = 0; place < row_tiling::side_by_side; ++place) {
        if (first + place >= tiling.columns) continue;
        const sums<T, Count> term = terms(row_of(operands, row, tiling.columns)[first + place]...);
#pragma unroll
        for (int s = 0; s < Count; ++s) sum.values[s] += term.values[s];
      }
    }
    const auto finished = finish_row(tiling, row, sum, finish, slots, results.places());
    const with_finished<Functor, finished_type> place_of{functor, finished};
    constexpr int count = places_at_once<place_order::apart>;
    for (std::int64_t first = tiling.lane(); first < tiling.columns; first += std::int64_t{tiling.lanes} * count) {
      map_places<place_order::apart>(place_of, first, tiling.lanes, tiling.columns,
                                     std::index_sequence_for<Operand...>{}, row_of(operands, row, tiling.columns)...);
    }
  }
}

/// What a kernel's operand has as a row, and at a place of that.
template <class Operand>
using row_type = decltype(row_of(std::declval<const Operand&>(), std::int64_t{}, std::int64_t{}));
template <class Operand>
using element_type = decltype(std::declval<row_type<Operand>>()[0]);

/// A thread's chunk of a row, and of the one that comes next.
template <class Row, bool Written>
struct held_row {
  held_places<place_order::together, Row, Written> now, next;
};

// The same for rows of up to 2048 columns, whole chunks that lie together: a thread keeps its chunk in registers, and the chunk
// of its next row is on its way meanwhile. What Columns add up over the rows comes from the same reading.
template <class T, int Count, class Columns, class Terms, class Finish, class Functor, class... Operand>
__global__ void __launch_bounds__(row_tiling::threads, row_tiling::blocks_of_processor<sizeof(T)>)
    reduce_map_chunks_kernel(row_tiling tiling, Columns over_rows, Terms terms, Finish finish, Functor functor,
                             Operand... operands) {
  using finished_type = finished_row<T, Count, Finish>;
  using functor_type = with_finished<Functor, finished_type>;
  __shared__ T slots[row_tiling::warps];
  __shared__ finished_rows<finished_type> results;
  if (blockIdx.x == 0 && threadIdx.x == 0) (prefetch_operand(operands, tiling.columns), ...);
  take_turn();
  typename Columns::thread_sums column_sums;
  const std::int64_t first = tiling.lane() * row_tiling::side_by_side, end = over_rows.end(tiling);
  const bool some = first < tiling.columns;
  const auto all_rows = [&](auto... held) {
    std::int64_t row = over_rows.first(tiling);
    if (some && row < end) (held.now.load_all(row_of(operands, row, tiling.columns), first), ...);
    for (; row < end; row += over_rows.step(tiling)) {
      const std::int64_t after = row + over_rows.step(tiling);
      if (some && after < end) (held.next.load_all(row_of(operands, after, tiling.columns), first), ...);
      sums<T, Count> sum;
      if (some) {
#pragma unroll
        for (int place = 0; place < row_tiling::side_by_side; ++place) {
          const sums<T, Count> term = terms(held.now[place]...);
#pragma unroll
          for (int s = 0; s < Count; ++s) sum.values[s] += term.values[s];
        }
      }
      const auto finished = finish_row(tiling, row, sum, finish, slots, results.places());
      if (some) {
        const functor_type place_of{functor, finished};
#pragma unroll
        for (int place = 0; place < row_tiling::side_by_side; ++place) {
          column_sums.add(over_rows, place, finished, held.now.read(place)...);
          place_of(held.now[place]...);
        }
        (held.now.store_all(row_of(operands, row, tiling.columns), first), ...);
      }
      ((held.now = held.next), ...);
    }
  };
  const auto start = [&]<std::size_t... I>(std::index_sequence<I...> all) {
    all_rows(held_row<row_type<Operand>,
                      writes_argument<functor_type, I, std::remove_reference_t<element_type<Operand>>...>(all)>{}...);
  };
  start(std::index_sequence_for<Operand...>{});
  over_rows.write(tiling, column_sums);
}

/// Whether a thread may keep its chunk of a row.
template <class... Operand>
bool keeps_chunks(const row_tiling& tiling, const Operand&... operands) {
  return tiling.columns <= tiling.reach() && tiling.columns % row_tiling::side_by_side == 0 &&
         all_lie_together(tiling.rows, tiling.columns, operands...);
}

template <class T, int Count, class Columns, class Terms, class Finish, class Functor, class... Operand>
void launch_reduce_map_chunks(execution<cuda>& on, std::int64_t blocks, const row_tiling& tiling,
                              const Columns& over_rows, const Terms& terms, const Finish& finish,
                              const Functor& functor, const Operand&... operands) {
  launch_ahead(on, "reduce_map", {blocks, tiling.threads_of_block()},
               reduce_map_chunks_kernel<T, Count, Columns, Terms, Finish, Functor, Operand...>, tiling, over_rows,
               terms, finish, functor, operands...);
}

template <class T, int Count, class Terms, class Finish, class Functor, class... Operand>
void launch_reduce_map(execution<cuda>& on, const row_tiling& tiling, const Terms& terms, const Finish& finish,
                       const Functor& functor, const Operand&... operands) {
  // Few rows, one after the other, lie close together, and keep several blocks of a processor at work.
  const std::int64_t lines = tiling.threads_of_block() / tiling.lanes, wanted = std::int64_t{on.processors()} * 32;
  const std::int64_t turns = std::clamp<std::int64_t>(tiling.rows / (lines * wanted), 1, 4);
  const without_columns over_rows{lines * turns};
  const std::int64_t blocks = (tiling.rows + over_rows.rows_of_block - 1) / over_rows.rows_of_block;
  if (keeps_chunks(tiling, operands...)) {
    launch_reduce_map_chunks<T, Count>(on, blocks, tiling, over_rows, terms, finish, functor, operands...);
  } else {
    launch_ahead(on, "reduce_map", {blocks, tiling.threads_of_block()},
                 reduce_map_kernel<T, Count, Terms, Finish, Functor, Operand...>, tiling, over_rows, terms, finish,
                 functor, operands...);
  }
}

/// For every row: the sums of `terms(x, y, ...)` over its columns, `finish(row, sums)` of them by one thread, and with
/// what that gave `functor(finished, x, y, ...)` at each place.
template <class T, int Count, class Terms, class Finish, class Functor, class... Operand>
void reduce_map(execution<cuda>& on, std::int64_t rows, std::int64_t columns, const Terms& terms, const Finish& finish,
                const Functor& functor, const Operand&... operands) {
  launch_reduce_map<T, Count>(on, row_tiling::by_chunks(rows, columns), terms, finish, functor,
                              operand_of(operands)...);
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
