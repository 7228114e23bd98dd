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

/// How the places of a thread lie in a row. Apart: the threads of a warp are neighbours, whatever the addresses. Together: those
/// of a thread are, so that 16 bytes go through memory at a time; every row begins at a multiple of them.
enum class place_order { apart, together };

template <place_order Order>
inline constexpr int places_at_once = Order == place_order::together ? 8 : 4;

/// One access to memory; the compiler makes several of what it has taken apart.
__device__ inline void store_word(uint4* to, const uint4& word) {
  asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(to)), "r"(word.x), "r"(word.y),
               "r"(word.z), "r"(word.w)
               : "memory");
}
__device__ inline void store_word(uint2* to, const uint2& word) {
  asm volatile("st.global.v2.u32 [%0], {%1, %2};" ::"l"(__cvta_generic_to_global(to)), "r"(word.x), "r"(word.y)
               : "memory");
}
__device__ inline void store_word(unsigned char* to, unsigned char word) { *to = word; }

/// The places of one operand that lie together, which go through memory as words of the processor.
template <class T, int Count>
struct neighbouring_places {
  T values[Count];

  static constexpr std::size_t bytes = sizeof(T) * Count;
  using word = std::conditional_t<bytes % 16 == 0, uint4, std::conditional_t<bytes % 8 == 0, uint2, unsigned char>>;
  struct words {
    word all[bytes / sizeof(word)];
  };

  __device__ void load(const T* from) {
    words read;
#pragma unroll
    for (std::size_t i = 0; i < sizeof(words) / sizeof(word); ++i) read.all[i] = reinterpret_cast<const word*>(from)[i];
    *this = bits_as<neighbouring_places>(read);
  }
  __device__ void store(T* to) const {
    const auto written = bits_as<words>(*this);
#pragma unroll
    for (std::size_t i = 0; i < sizeof(words) / sizeof(word); ++i)
      store_word(reinterpret_cast<word*>(to) + i, written.all[i]);
  }
};

/// A few places of one operand in registers, so that all of them are on their way before the first is used. Only places
/// of matrices are written.
template <place_order Order, class Row, bool Written>
struct held_places {
  using reference = decltype(std::declval<const Row&>()[0]);
  using value = std::remove_cvref_t<reference>;
  static constexpr int count = places_at_once<Order>;
  static constexpr bool in_memory = std::is_pointer_v<Row>;
  using all_places = neighbouring_places<value, count>;
  all_places held;

  __device__ void load(const Row& row, std::int64_t column, int place) { held.values[place] = row[column]; }
  __device__ reference operator[](int place) { return held.values[place]; }
  __device__ const value& read(int place) const { return held.values[place]; }
  __device__ void store(const Row& row, std::int64_t column, int place) const {
    if constexpr (Written && in_memory) row[column] = held.values[place];
  }
  __device__ void load_all(const Row& row, std::int64_t column) {
    if constexpr (in_memory) {
      held.load(row + column);
    } else {
#pragma unroll
      for (int place = 0; place < count; ++place) load(row, column + place, place);
    }
  }
  __device__ void store_all(const Row& row, std::int64_t column) const {
    if constexpr (Written && in_memory) held.store(row + column);
  }
};

/// Applies a functor to `places_at_once` columns of a row at most: first, first + step, ..., or where they are together, first,
/// first + 1, ...
template <place_order Order, class Functor, class... Row, std::size_t... I>
__device__ void map_places(const Functor& functor, std::int64_t first, std::int64_t step, std::int64_t columns,
                           std::index_sequence<I...> all, const Row&... row) {
  constexpr int count = places_at_once<Order>;
  const std::int64_t way = Order == place_order::together ? 1 : step;
  const auto apply = [&](auto... held) {
    if (Order == place_order::together && first + count <= columns) {
      (held.load_all(row, first), ...);
#pragma unroll
      for (int place = 0; place < count; ++place) functor(held[place]...);
      (held.store_all(row, first), ...);
      return;
    }
#pragma unroll
    for (int place = 0; place < count; ++place) {
      if (first + place * way < columns) (held.load(row, first + place * way, place), ...);
    }
    // In one branch, so that the compiler sees what is written without being read, and does not load it.
#pragma unroll
    for (int place = 0; place < count; ++place) {
      if (first + place * way >= columns) continue;
      functor(held[place]...);
      (held.store(row, first + place * way, place), ...);
    }
  };
  apply(held_places<Order, Row, writes_argument<Functor, I, std::remove_reference_t<decltype(row[0])>...>(all)>{}...);
}

/// Whether the places of an operand may go through memory together.
template <class T>
bool begins_together(const void* data, std::int64_t stride) {
  constexpr std::size_t bytes =
      sizeof(typename neighbouring_places<std::remove_const_t<T>, places_at_once<place_order::together>>::word);
  return reinterpret_cast<std::uintptr_t>(data) % bytes == 0 &&
         static_cast<std::size_t>(stride) * sizeof(T) % bytes == 0;
}
template <class T>
bool lies_together(const by_place<T>& operand, std::int64_t rows, std::int64_t) {
  return begins_together<T>(operand.data, rows == 1 ? 0 : operand.stride);
}
template <class T>
bool lies_together(const by_column<T>& operand, std::int64_t, std::int64_t columns) {
  return begins_together<T>(operand.data, operand.period == 1 ? 0 : columns);
}
template <class T>
bool lies_together(const by_row<T>&, std::int64_t, std::int64_t) {
  return true;
}

template <class... Operand>
bool all_lie_together(std::int64_t rows, std::int64_t columns, const Operand&... operands) {
  return (lies_together(operands, rows, columns) && ...);
}

/// Rows by lanes of a block, and how many such tiles there are.
struct map_tiling {
  static constexpr int threads = 256;
  std::int64_t rows, columns, row_tiles, column_tiles, tiles_of_block;
  int lanes;

  map_tiling(std::int64_t all_rows, std::int64_t all_columns, int of_thread)
      : rows{all_rows}, columns{all_columns}, lanes{8} {
    while (lanes < threads && std::int64_t{lanes} * of_thread < columns) lanes *= 2;
    row_tiles = (rows + threads / lanes - 1) / (threads / lanes);
    column_tiles = (columns + std::int64_t{lanes} * of_thread - 1) / (std::int64_t{lanes} * of_thread);
    tiles_of_block = 1;
  }
  LIGHTNET_HOST_DEVICE std::int64_t tiles() const noexcept { return row_tiles * column_tiles; }
  /// For so many blocks or more, each of which has neighbouring tiles.
  std::int64_t share_out(std::int64_t blocks) {
    constexpr std::int64_t most = 4;
    tiles_of_block = std::clamp<std::int64_t>(tiles() / blocks, 1, most);
    return (tiles() + tiles_of_block - 1) / tiles_of_block;
  }
};

// functor(x, y, ...) at every place. Every matrix passes through memory once. Tile: up to 1024 places of one row, 2048 where a
// thread's lie together, or several rows where they are short.
template <place_order Order, class Functor, class... Operand>
__global__ void __launch_bounds__(map_tiling::threads)
    map_kernel(map_tiling tiling, Functor functor, Operand... operands) {
  constexpr int count = places_at_once<Order>;
  take_turn();
  const int lane = static_cast<int>(threadIdx.x) % tiling.lanes, line = static_cast<int>(threadIdx.x) / tiling.lanes;
  const std::int64_t first = blockIdx.x * tiling.tiles_of_block,
                     end = min(first + tiling.tiles_of_block, tiling.tiles());
  for (std::int64_t tile = first; tile < end; ++tile) {
    const divided at{tile, tiling.column_tiles};
    const std::int64_t row = at.quotient * (map_tiling::threads / tiling.lanes) + line;
    if (row >= tiling.rows) continue;
    const std::int64_t start = at.rest * tiling.lanes * count + (Order == place_order::together ? lane * count : lane);
    map_places<Order>(functor, start, tiling.lanes, tiling.columns, std::index_sequence_for<Operand...>{},
                      row_of(operands, row, tiling.columns)...);
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

template <place_order Order, class Functor, class... Operand>
void launch_map(execution<cuda>& on, std::int64_t rows, std::int64_t columns, const Functor& functor,
                const Operand&... operands) {
  map_tiling tiling{rows, columns, places_at_once<Order>};
  const std::int64_t blocks = tiling.share_out(static_cast<std::int64_t>(on.processors()) * 32);
  launch_ahead(on, "map", {blocks, map_tiling::threads}, map_kernel<Order, Functor, Operand...>, tiling, functor,
               operands...);
}

template <class Functor, class... Operand>
void launch_map(execution<cuda>& on, std::int64_t rows, std::int64_t columns, const Functor& functor,
                const Operand&... operands) {
  if ((without_gaps(operands, columns) && ...)) {  // one row
    columns *= rows;
    rows = rows > 0 ? 1 : 0;
  }
  if (all_lie_together(rows, columns, operands...)) {
    launch_map<place_order::together>(on, rows, columns, functor, operands...);
  } else {
    launch_map<place_order::apart>(on, rows, columns, functor, operands...);
  }
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
