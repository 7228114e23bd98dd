// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/launch.cuh>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

// Calls the body for each element of a matrix. Traffic: the body's. Tile: `width` columns, a power of two up to the threads
// of a block, of as many rows as these threads make of it.
template <class Body>
__global__ void __launch_bounds__(256)
    for_each_row_kernel(std::int64_t rows, std::int64_t columns, unsigned width, Body body) {
  take_turn();
  const std::int64_t lines = blockDim.x / width, across = (columns + width - 1) / width;
  const std::int64_t tiles = (rows + lines - 1) / lines * across;
  for (std::int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const std::int64_t row = tile / across * lines + threadIdx.x / width;
    const std::int64_t column = tile % across * width + threadIdx.x % width;
    if (row < rows && column < columns) body(row, column, column + 1);
  }
}

/// Calls `body(row, first, last)` so that the parts [first, last) cover every row of [0, rows) from 0 to `columns`: here
/// an element each. A body is a named type with a host-device operator(); it writes only what belongs to its part.
template <class Body>
void for_each_row(execution<cuda>& on, const char* operation, std::int64_t rows, std::int64_t columns,
                  const Body& body) {
  if (rows <= 0 || columns <= 0) return;
  constexpr int threads = 256;
  unsigned width = 1;
  while (width < threads && width < columns) width *= 2;
  const std::int64_t lines = threads / width;
  const std::int64_t down = (rows + lines - 1) / lines, across = (columns + width - 1) / width;
  const std::int64_t most = static_cast<std::int64_t>(on.processors()) * 32;
  const std::int64_t tiles = down > most || across > most ? most : std::min(down * across, most);
  launch_ahead(on, operation, {tiles, threads}, for_each_row_kernel<Body>, rows, columns, width, body);
}

// Begins, moves and ends every item. Traffic: the body's. Tile: an item for a warp.
template <class Body>
__global__ void __launch_bounds__(256) for_each_item_kernel(std::int64_t count, Body body) {
  const std::int64_t warps = static_cast<std::int64_t>(gridDim.x) * (blockDim.x / 32);
  const unsigned lane = threadIdx.x % 32;
  for (std::int64_t item = (static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / 32; item < count;
       item += warps) {
    const auto part = body.begin(item);
    body.move(item, part, lane, 32);
    __syncwarp();  // all lanes have begun: the end may overwrite what they read
    if (lane == 0) body.end(item, part);
  }
}

/// For every item of [0, count): `part = body.begin(item)`, then `body.move(item, part, first, step)`, which takes the
/// elements first, first + step, ..., so that all are taken once, then `body.end(item, part)`, once. `end` may overwrite
/// what `begin` has read.
template <class Body>
void for_each_item(execution<cuda>& on, const char* operation, std::int64_t count, const Body& body) {
  constexpr int threads = 256, items = threads / 32;
  const std::int64_t most = static_cast<std::int64_t>(on.processors()) * 32;
  launch(on, operation, {std::min((count + items - 1) / items, most), threads}, for_each_item_kernel<Body>, count,
         body);
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
