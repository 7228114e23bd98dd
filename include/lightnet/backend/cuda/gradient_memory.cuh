// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/recurrence_job.cuh>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// What the walks of one gradient hand each other. The tiles of a head lie line after line; each packed sequence may leave
/// one of them empty.
struct gradient_memory {
  std::int32_t* exponent = nullptr;  // [H, tiles, width]: m before every tile
  float* normaliser = nullptr;       // [H, tiles, width]: Z then, or 1 / Z of the decays before
  float* reads = nullptr;            // [H, tiles, d, 64]: R / Z in the frame of the tile, or R for a decay
  unsigned* redo = nullptr;          // [items]: lines that climb too far, or hold what is no number
  std::int64_t heads = 1, tiles = 0, tiles_of_line = 0;
  bool packed = false;

  /// Memory for the lines of a job, `channels` in a tile.
  template <class Job>
  static gradient_memory of(execution<cuda>::scope& scratch, const Job& job, std::int64_t channels) {
    const auto& lines = job.from.lines;
    gradient_memory made;
    made.heads = job.from.heads;
    made.packed = static_cast<bool>(lines.cumulative_lengths);
    made.tiles_of_line = (lines.longest() + 63) / 64;
    made.tiles = made.packed ? lines.longest() / 64 + lines.sequences() : lines.count() * made.tiles_of_line;
    const std::int64_t all = made.heads * made.tiles;
    made.exponent = scratch.take<std::int32_t>(all * job.width);
    made.normaliser = scratch.take<float>(all * job.width);
    made.reads = scratch.take<float>(all * channels * 64);
    made.redo = scratch.take<unsigned>(job.from.items());
    return made;
  }

  /// Where weight or channel w of `width` is, at a tile of a line.
  __device__ std::int64_t place(const line_of_head& at, std::int64_t index, std::int64_t width, std::int64_t w) const {
    const std::int64_t first = packed ? at.line.origin / 64 + at.line.sequence : at.item / heads * tiles_of_line;
    return ((at.head * tiles + first + index) * width) + w;
  }
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
