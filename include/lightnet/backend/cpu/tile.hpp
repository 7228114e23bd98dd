// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/lanes.hpp>

#include <utility>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// A matrix in scratch memory whose rows end on whole registers; what pads them is zero or never read.
template <class T>
struct tile {
  T* data;
  std::int64_t stride;

  T* row(std::int64_t i) const noexcept { return data + i * stride; }
  /// The same from row i on.
  tile from(std::int64_t i) const noexcept { return {row(i), stride}; }
};

/// One step of a transposition: of two rows `Step` apart, the blocks off the diagonal change places.
template <int Step, class T, int... Lane>
inline void exchange_blocks(lanes<T>& upper, lanes<T>& lower, std::integer_sequence<int, Lane...>) noexcept {
  const lanes<T> a = upper, b = lower;
#if defined(__clang__)
  upper = __builtin_shufflevector(a, b, ((Lane & Step) == 0 ? Lane : lane_count<T> + Lane - Step)...);
  lower = __builtin_shufflevector(a, b, ((Lane & Step) == 0 ? Lane + Step : lane_count<T> + Lane)...);
#else
  using places = decltype(a < b);
  upper = __builtin_shuffle(a, b, places{((Lane & Step) == 0 ? Lane : lane_count<T> + Lane - Step)...});
  lower = __builtin_shuffle(a, b, places{((Lane & Step) == 0 ? Lane + Step : lane_count<T> + Lane)...});
#endif
}

template <int Step, class T>
inline void transpose_registers(lanes<T> (&rows)[lane_count<T>]) noexcept {
  if constexpr (Step < lane_count<T>) {
    LIGHTNET_UNROLL
    for (int i = 0; i < lane_count<T>; ++i) {
      if ((i & Step) == 0) {
        exchange_blocks<Step, T>(rows[i], rows[i + Step], std::make_integer_sequence<int, lane_count<T>>{});
      }
    }
    transpose_registers<2 * Step, T>(rows);
  }
}

/// to [width, height] = the transpose of from [height, width]. Reads and writes whole registers: what lies beyond the
/// height of `from` is written as zero.
template <class T>
void transpose(const tile<T>& from, std::int64_t height, std::int64_t width, const tile<T>& to) noexcept {
  constexpr std::int64_t block = lane_count<T>;
  lanes<T> rows[block];
  for (std::int64_t i = 0; i < height; i += block) {
    for (std::int64_t j = 0; j < width; j += block) {
      if (i + block <= height && j + block <= width) {
        LIGHTNET_UNROLL
        for (int r = 0; r < block; ++r) rows[r] = load_lanes(from.row(i + r) + j);
        transpose_registers<1, T>(rows);
        LIGHTNET_UNROLL
        for (int r = 0; r < block; ++r) store_lanes(to.row(j + r) + i, rows[r]);
      } else {
        for (int r = 0; r < block; ++r) rows[r] = i + r < height ? load_lanes(from.row(i + r) + j) : lanes<T>{};
        transpose_registers<1, T>(rows);
        for (int r = 0; r < block && j + r < width; ++r) store_lanes(to.row(j + r) + i, rows[r]);
      }
    }
  }
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
