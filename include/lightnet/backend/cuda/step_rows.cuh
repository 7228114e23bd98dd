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
  static constexpr int threads = 256, warps = threads / 32, ahead = 4;
  static constexpr int columns = 16 / static_cast<int>(sizeof(A));  // of a thread, side by side

  int lanes;             // threads along a row, a power of two up to 32: the others take other rows
  std::int64_t stripes;  // into which all columns are cut
  unsigned parts;        // blocks of an item, which take turns with the stripes

  /// The order of every sum is the same for any number of items.
  static step_layout of(std::int64_t values, std::int64_t items, int processors) {
    step_layout l{1, 0, 1};
    while (l.lanes < 32 && std::int64_t{l.lanes} * columns < values) l.lanes *= 2;
    l.stripes = (values + l.width() - 1) / l.width();
    const std::int64_t wanted = items > 0 ? (2 * processors + items - 1) / items : 1;
    l.parts = static_cast<unsigned>(std::max<std::int64_t>(1, std::min(wanted, l.stripes)));
    return l;
  }
  LIGHTNET_HOST_DEVICE int width() const { return lanes * columns; }
};

/// The rows of a state in a thread's columns. Dense: these lie side by side from a multiple of 16 bytes on.
template <bool Dense, class A>
struct step_rows {
  static constexpr int columns = step_layout<A>::columns, ahead = step_layout<A>::ahead;
  struct alignas(16) neighbours {
    A x[columns];
  };

  A* at;                    // the thread's first row
  std::int64_t row_stride;  // to its next one
  std::int64_t column_stride;
  int first, step, rows;
  int count;  // columns that are there

  __device__ step_rows(const dynamic_view<4, A, cuda>& state, std::int64_t batch, std::int64_t head,
                       std::int64_t column, int group, int groups)
      : at{state.data() + batch * state.stride(0) + head * state.stride(1) + group * state.stride(2) +
           column * state.stride(3)},
        row_stride{groups * state.stride(2)},
        column_stride{state.stride(3)},
        first{group},
        step{groups},
        rows{static_cast<int>(state.extent(2))} {
    const std::int64_t left = state.extent(3) - column;
    count = static_cast<int>(left < 0 ? 0 : left < columns ? left : columns);
  }

  __device__ void load(const A* from, A (&x)[columns]) const {
    if constexpr (Dense) {
      const auto all = *reinterpret_cast<const neighbours*>(from);
      LIGHTNET_UNROLL
      for (int c = 0; c < columns; ++c) x[c] = all.x[c];
    } else {
      LIGHTNET_UNROLL
      for (int c = 0; c < columns; ++c) x[c] = c < count ? from[c * column_stride] : A(0);
    }
  }
  __device__ void store(A* to, const A (&x)[columns]) const {
    if constexpr (Dense) {
      neighbours all;
      LIGHTNET_UNROLL
      for (int c = 0; c < columns; ++c) all.x[c] = x[c];
      *reinterpret_cast<neighbours*>(to) = all;
    } else {
      LIGHTNET_UNROLL
      for (int c = 0; c < columns; ++c) {
        if (c < count) to[c * column_stride] = x[c];
      }
    }
  }
  /// The first rows, on their way from here on.
  __device__ void load_first(A (&x)[ahead][columns]) const {
    const A* from = at;
    LIGHTNET_UNROLL
    for (int n = 0; n < ahead; ++n, from += row_stride) {
      if (count > 0 && first + n * step < rows) load(from, x[n]);
    }
  }
  /// Calls `update(row, x)` for every row, and writes what it makes of x; the first ones have been loaded.
  template <class Update>
  __device__ void walk(A (&x)[ahead][columns], const Update& update) const {
    if (count == 0) return;
    A* to = at;
    const A* from = at + ahead * row_stride;
    for (int row = first; row < rows;) {
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
  constexpr std::int64_t columns = step_layout<A>::columns;
  bool dense = state.stride(3) == 1 && state.extent(3) % columns == 0 &&
               reinterpret_cast<std::uintptr_t>(state.data()) % 16 == 0;
  for (std::size_t axis = 0; axis < 3; ++axis) dense = dense && state.stride(axis) % columns == 0;
  return dense;
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
