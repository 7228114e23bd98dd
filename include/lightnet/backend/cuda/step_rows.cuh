// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/execution.cuh>

#include <algorithm>
#include <cstdint>

// The state of one sequence and head, passed once through the registers of a block.

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// How the columns of a state are laid over the threads of a block.
template <class A>
struct step_layout {
  static constexpr int threads = 256, warps = threads / 32;
  static constexpr std::int64_t most_parts = 8;                      // a cluster
  static constexpr int together = 16 / static_cast<int>(sizeof(A));  // columns of a wide thread, side by side

  int lanes;             // threads along a row, a power of two up to 32: the others take other rows
  int columns;           // of a thread
  std::int64_t stripes;  // into which all columns are cut
  unsigned parts;        // blocks of an item, which take turns with the stripes

  /// With one column a thread there are more stripes for more blocks. Which rows a thread adds up is the same with several, so
  /// the order of every sum is the same for any number of items.
  static step_layout of(std::int64_t values, bool wide, std::int64_t items, int processors) {
    step_layout l{1, wide ? together : 1, 0, 1};
    while (l.lanes < 32 && std::int64_t{l.lanes} * together < values) l.lanes *= 2;
    l.stripes = (values + l.width() - 1) / l.width();
    const std::int64_t wanted = items > 0 ? (2 * processors + items - 1) / items : 1;
    l.parts = static_cast<unsigned>(std::clamp<std::int64_t>(std::min(wanted, l.stripes), 1, most_parts));
    return l;
  }
  LIGHTNET_HOST_DEVICE int width() const { return lanes * columns; }
};

/// The rows of a state in a thread's columns: several that lie side by side from a multiple of 16 bytes on, or one.
template <bool Wide, class A>
struct step_rows {
  static constexpr int columns = Wide ? step_layout<A>::together : 1;
  static constexpr int ahead = Wide ? 4 : 16;  // rows on their way
  struct alignas(sizeof(A) * columns) neighbours {
    A x[columns];
  };

  A* at;                    // the thread's first row
  std::int64_t row_stride;  // to its next one
  int first, step, rows;
  int count;  // columns that are there

  __device__ step_rows(const dynamic_view<4, A, cuda>& state, std::int64_t batch, std::int64_t head,
                       std::int64_t column, int group, int groups)
      : at{state.data() + batch * state.stride(0) + head * state.stride(1) + group * state.stride(2) +
           column * state.stride(3)},
        row_stride{groups * state.stride(2)},
        first{group},
        step{groups},
        rows{static_cast<int>(state.extent(2))} {
    const std::int64_t left = state.extent(3) - column;
    count = static_cast<int>(left < 0 ? 0 : left < columns ? left : columns);
  }

  __device__ void load(const A* from, A (&x)[columns]) const {
    const auto all = *reinterpret_cast<const neighbours*>(from);
    LIGHTNET_UNROLL
    for (int c = 0; c < columns; ++c) x[c] = all.x[c];
  }
  __device__ void store(A* to, const A (&x)[columns]) const {
    neighbours all;
    LIGHTNET_UNROLL
    for (int c = 0; c < columns; ++c) all.x[c] = x[c];
    *reinterpret_cast<neighbours*>(to) = all;
  }
  /// The first rows, on their way from here on.
  __device__ void load_first(A (&x)[ahead][columns]) const {
    if (count == 0) return;
    const A* from = at;
    LIGHTNET_UNROLL
    for (int n = 0; n < ahead; ++n, from += row_stride) {
      if (first + n * step < rows) load(from, x[n]);
    }
  }
  /// Calls `update(row, x)` for every row, and writes what it makes of x; the first ones have been loaded.
  template <class Update>
  __device__ void walk(A (&x)[ahead][columns], const Update& update) const {
    if (count == 0) return;
    A* to = at;
    const A* from = at + ahead * row_stride;
    int row = first;
    // As long as there are more rows than are on their way, without a question between two loads.
    for (; row + (2 * ahead - 1) * step < rows;) {
      LIGHTNET_UNROLL
      for (int n = 0; n < ahead; ++n, row += step, to += row_stride, from += row_stride) {
        update(row, x[n]);
        store(to, x[n]);
        load(from, x[n]);
      }
    }
    while (row < rows) {
      LIGHTNET_UNROLL
      for (int n = 0; n < ahead; ++n, row += step, to += row_stride, from += row_stride) {
        if (row >= rows) continue;
        update(row, x[n]);
        store(to, x[n]);
        if (row + ahead * step < rows) load(from, x[n]);
      }
    }
  }
};

/// Whether the columns of a state may be read and written 16 bytes at a time.
template <class A>
bool dense_columns(const dynamic_view<4, A, cuda>& state) {
  constexpr std::int64_t columns = step_layout<A>::together;
  bool dense = state.stride(3) == 1 && state.extent(3) % columns == 0 &&
               reinterpret_cast<std::uintptr_t>(state.data()) % 16 == 0;
  for (std::size_t axis = 0; axis < 3; ++axis) dense = dense && state.stride(axis) % columns == 0;
  return dense;
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
