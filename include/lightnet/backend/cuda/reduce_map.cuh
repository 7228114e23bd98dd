// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/reduce.hpp>
#include <lightnet/backend/cuda/row_tiling.cuh>

#include <new>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

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

}  // namespace detail

LIGHTNET_END_NAMESPACE
