// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/config.hpp>

#include <cstddef>
#include <cstdint>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// How a sweep on the matrix units is laid over the warps. A warp has 16 columns of the state and up to 64 of its rows;
/// where that does not hold all rows, `groups` warps do. A block has all rows and some of the columns.
struct tile_sweep_layout {
  static constexpr int columns_of_warp = 16, rows_of_warp = 64, most_warps = 8, most_tokens = 32;
  static constexpr int most_rows = most_warps * rows_of_warp;

  std::int64_t rows, columns, blocks_of_item;
  bool keeps_rows;  // the factors go with the rows
  int groups, warps;
  int tokens;  // of a tile

  /// For so many items. Few items are spread over more blocks, but where factors go with the columns: those of a block end
  /// its tiles, and bits must not depend on the number of items.
  static tile_sweep_layout of(std::int64_t rows, std::int64_t columns, bool keeps_rows, std::int64_t items,
                              int processors) {
    const auto groups = static_cast<int>((rows + rows_of_warp - 1) / rows_of_warp);
    tile_sweep_layout l{rows, columns, 0, keeps_rows, groups > 0 ? groups : 1, 1, most_tokens};
    if (l.groups > 2) l.tokens = most_tokens / 2;                                   // what shared memory holds
    const std::int64_t across = (columns + columns_of_warp - 1) / columns_of_warp;  // warps that hold all columns
    std::int64_t most = most_warps / l.groups > 0 ? most_warps / l.groups : 1;
    while (keeps_rows && most > 1 && items * ((across + most - 1) / most) < 2 * processors) most /= 2;
    const std::int64_t own = across < most ? across : most;
    l.warps = static_cast<int>(own > 0 ? own : 1) * l.groups;
    l.blocks_of_item = own > 0 ? (across + own - 1) / own : 0;
    return l;
  }
  LIGHTNET_HOST_DEVICE int columns_of_block() const { return warps / groups * columns_of_warp; }
  /// Numbers from a row of a tile to the next, so that lanes of four rows meet in no bank.
  LIGHTNET_HOST_DEVICE static int stride(std::int64_t extent) { return static_cast<int>((extent + 31) / 32 * 32 + 8); }
  LIGHTNET_HOST_DEVICE int row_stride() const { return stride(rows); }
  LIGHTNET_HOST_DEVICE int column_stride() const { return stride(columns_of_block()); }
  LIGHTNET_HOST_DEVICE int keep_stride() const { return keeps_rows ? row_stride() : column_stride(); }
  LIGHTNET_HOST_DEVICE int score_stride() const { return tokens + 4; }
  /// Rows that go in and out, factors along either side, the columns that go in, what comes out of every group, and the
  /// scores; and of every column where it is bad from.
  std::size_t shared_bytes() const {
    const int of_token = 2 * row_stride() + keep_stride() + (1 + groups) * column_stride() + score_stride();
    return sizeof(float) * static_cast<std::size_t>(tokens * of_token) +
           sizeof(unsigned long long) * static_cast<std::size_t>(columns_of_block());
  }
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
