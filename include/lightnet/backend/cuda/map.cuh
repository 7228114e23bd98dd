// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/launch.cuh>
#include <lightnet/backend/operands.hpp>

#include <type_traits>
#include <utility>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// What a kernel takes of a matrix with dense rows.
template <class T>
struct by_place {
  T* data;
  std::int64_t stride;
};

template <class T>
by_place<T> operand_of(const dynamic_view<2, T, cuda>& matrix) {
  return {matrix.data(), matrix.stride(0)};
}
template <class T>
by_row<T> operand_of(const by_row<T>& operand) {
  return operand;
}
template <class T>
by_column<T> operand_of(const by_column<T>& operand) {
  return operand;
}

/// i / by and what is left; divisions of 32 bits cost a fifth.
struct divided {
  std::int64_t quotient, rest;
  LIGHTNET_HOST_DEVICE divided(std::int64_t i, std::int64_t by) noexcept : quotient{i}, rest{0} {
    if (by == 1) return;
    quotient = ((i | by) >> 32) == 0 ? static_cast<std::uint32_t>(i) / static_cast<std::uint32_t>(by) : i / by;
    rest = i - quotient * by;
  }
};

template <class T>
__device__ constexpr T* row_of(const by_place<T>& operand, std::int64_t row, std::int64_t) noexcept {
  return operand.data + row * operand.stride;
}

/// Whether a functor can write its argument `At`: it does not take a const one there.
template <class Functor, std::size_t At, class... T, std::size_t... I>
LIGHTNET_HOST_DEVICE constexpr bool writes_argument(std::index_sequence<I...>) {
  return !std::is_invocable_v<const Functor&, std::conditional_t<I == At, const T&, T&>...>;
}

/// A few places of one operand in registers, so that all of them are on their way before the first is used. Only places
/// of matrices are written.
inline constexpr int places_at_once = 4;
template <class Row, bool Written>
struct held_places {
  using reference = decltype(std::declval<const Row&>()[0]);
  std::remove_cvref_t<reference> values[places_at_once];

  __device__ void load(const Row& row, std::int64_t column, int place) { values[place] = row[column]; }
  __device__ reference operator[](int place) { return values[place]; }
  __device__ void store(const Row& row, std::int64_t column, int place) const {
    if constexpr (Written && std::is_pointer_v<Row>) row[column] = values[place];
  }
};

/// Applies a functor to the columns first, first + step, ... of a row, `places_at_once` at most.
template <class Functor, class... Row, std::size_t... I>
__device__ void map_places(const Functor& functor, std::int64_t first, std::int64_t step, std::int64_t columns,
                           std::index_sequence<I...> all, const Row&... row) {
  const auto apply = [&](auto... held) {
#pragma unroll
    for (int place = 0; place < places_at_once; ++place) {
      if (first + place * step < columns) (held.load(row, first + place * step, place), ...);
    }
    // In one branch, so that the compiler sees what is written without being read, and does not load it.
#pragma unroll
    for (int place = 0; place < places_at_once; ++place) {
      if (first + place * step >= columns) continue;
      functor(held[place]...);
      (held.store(row, first + place * step, place), ...);
    }
  };
  apply(held_places<Row, writes_argument<Functor, I, std::remove_reference_t<decltype(row[0])>...>(all)>{}...);
}

/// Rows by lanes of a block, and how many such tiles there are.
struct map_tiling {
  static constexpr int threads = 256;
  std::int64_t rows, columns, row_tiles, column_tiles;
  int lanes;

  map_tiling(std::int64_t all_rows, std::int64_t all_columns) : rows{all_rows}, columns{all_columns}, lanes{8} {
    while (lanes < threads && std::int64_t{lanes} * places_at_once < columns) lanes *= 2;
    row_tiles = (rows + threads / lanes - 1) / (threads / lanes);
    column_tiles = (columns + std::int64_t{lanes} * places_at_once - 1) / (std::int64_t{lanes} * places_at_once);
  }
};

// functor(x, y, ...) at every place. Every matrix passes through memory once. Tile: up to 1024 places of one row, or
// several rows where they are short.
template <class Functor, class... Operand>
__global__ void __launch_bounds__(map_tiling::threads)
    map_kernel(map_tiling tiling, Functor functor, Operand... operands) {
  take_turn();
  const int lane = static_cast<int>(threadIdx.x) % tiling.lanes, line = static_cast<int>(threadIdx.x) / tiling.lanes;
  const std::int64_t tiles = tiling.row_tiles * tiling.column_tiles;
  for (std::int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const divided at{tile, tiling.column_tiles};
    const std::int64_t row = at.quotient * (map_tiling::threads / tiling.lanes) + line;
    if (row >= tiling.rows) continue;
    map_places(functor, at.rest * tiling.lanes * places_at_once + lane, tiling.lanes, tiling.columns,
               std::index_sequence_for<Operand...>{}, row_of(operands, row, tiling.columns)...);
  }
}

template <class T>
bool without_gaps(const by_place<T>& operand, std::int64_t columns) {
  return operand.stride == columns;
}
template <class Other>
bool without_gaps(const Other&, std::int64_t) {
  return false;
}

template <class Functor, class... Operand>
void launch_map(execution<cuda>& on, std::int64_t rows, std::int64_t columns, const Functor& functor,
                const Operand&... operands) {
  const bool one_row = (without_gaps(operands, columns) && ...);
  const map_tiling tiling{one_row ? 1 : rows, one_row ? rows * columns : columns};
  const std::int64_t most = static_cast<std::int64_t>(on.processors()) * 32;
  launch_ahead(on, "map", {std::min(tiling.row_tiles * tiling.column_tiles, most), map_tiling::threads},
               map_kernel<Functor, Operand...>, tiling, functor, operands...);
}

/// Calls `functor(x, y, ...)` with references to what each operand has at every place of a matrix [rows, columns]; the
/// functor reads what it takes as const and writes the other matrices. Rows are dense; written operands overlap no
/// other, unless they are the same.
template <class Functor, class... Operand>
void map(execution<cuda>& on, std::int64_t rows, std::int64_t columns, const Functor& functor,
         const Operand&... operands) {
  launch_map(on, rows, columns, functor, operand_of(operands)...);
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
