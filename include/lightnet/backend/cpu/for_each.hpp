// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/parallel.hpp>

#include <algorithm>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Calls `body(row, first, last)` so that the parts [first, last) cover every row of [0, rows) from 0 to `columns`: here
/// in one part each. A body is a named type with a host-device operator(); it writes only what belongs to its part.
template <class Body>
void for_each_row(const execution<cpu>& on, const char*, std::int64_t rows, std::int64_t columns, const Body& body) {
  if (columns <= 0) return;
  const std::int64_t block = std::max<std::int64_t>(4096 / columns, 1);
  parallel_for(on, block_range::blocks(block, rows), [&](std::int64_t index, int) {
    const block_range part{index, block, rows};
    for (std::int64_t row = part.first; row < part.last; ++row) body(row, 0, columns);
  });
}

/// For every item of [0, count): `part = body.begin(item)`, then `body.move(item, part, first, step)`, which takes the
/// elements first, first + step, ..., so that all are taken once, then `body.end(item, part)`, once. `end` may overwrite
/// what `begin` has read.
template <class Body>
void for_each_item(const execution<cpu>& on, const char*, std::int64_t count, const Body& body) {
  constexpr std::int64_t block = 16;
  parallel_for(on, block_range::blocks(block, count), [&](std::int64_t index, int) {
    const block_range range{index, block, count};
    for (std::int64_t item = range.first; item < range.last; ++item) {
      const auto part = body.begin(item);
      body.move(item, part, 0, 1);
      body.end(item, part);
    }
  });
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
