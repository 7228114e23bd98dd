// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/line_stretches.cuh>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// What the walks of one gradient hand each other.
struct gradient_memory {
  std::int32_t* exponent = nullptr;  // [H, tiles, width]: m before every tile
  float* normaliser = nullptr;       // [H, tiles, width]: Z then, or 1 / Z of the decays before
  float* reads = nullptr;    // [H, tiles, 64 d]: R / Z in the frame of the tile, or R for a decay, [.., 64] of a head
  unsigned* redo = nullptr;  // [items + 1]: lines that climb too far, or hold what is no number; whether any does
  places_of_lines tiles;     // of 64 tokens
  bool known = false;        // m and Z, and which lines are left over, before the walk for the queries

  /// Memory for the lines of a job, whose tokens have so many R; without Carries what is known before a tile is not kept.
  template <bool Carries, class Job>
  static gradient_memory of(execution<cuda>::scope& scratch, const Job& job, std::int64_t channels) {
    gradient_memory made;
    made.tiles = places_of_lines::of(job, 64);
    const std::int64_t all = made.tiles.count();
    made.exponent = scratch.take<std::int32_t>(Carries ? all * job.width : 0);
    made.normaliser = scratch.take<float>(Carries ? all * job.width : 0);
    made.reads = scratch.take<float>(all * channels * 64);
    made.redo = scratch.take<unsigned>(job.from.items() + 1);
    return made;
  }

  /// What is kept of a line with so many weights, and R of a token, from its first tile on.
  struct of_line {
    std::int32_t* exponent;
    float *normaliser, *reads;
  };
  __device__ of_line line(const line_of_head& at, std::int64_t width, std::int64_t channels) const {
    const std::int64_t first = tiles(at, 0);
    return {exponent + first * width, normaliser + first * width, reads + first * channels * 64};
  }
};

/// Says that no line is left over so far.
template <class Job>
void leave_nothing_over(execution<cuda>& on, const char* operation, const Job& job, const gradient_memory& memory) {
  const auto bytes = static_cast<std::size_t>(job.from.items() + 1) * sizeof(unsigned);
  check_cuda(operation, "cudaMemsetAsync", cudaMemsetAsync(memory.redo, 0, bytes, on.stream()));
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
