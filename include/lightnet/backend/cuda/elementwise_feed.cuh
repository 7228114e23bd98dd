// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/elementwise_tile.cuh>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Keeps the tiles of a block coming: where they lie is known three ahead, and one or two are on their way.
template <class Tile, int Operands>
class elementwise_feed {
 public:
  using tile = Tile;
  using T = typename tile::number;
  using memory = elementwise_memory<tile, Operands>;
  using source = elementwise_source<tile, Operands>;

  __device__ elementwise_feed(const source& from, const typename tile::chain& chain, bool backward, memory& shared)
      : from_{from}, chain_{chain}, backward_{backward}, shared_{shared} {
    constexpr int first = memory::known - 1;
    if (threadIdx.x < first) place(static_cast<int>(threadIdx.x), false);
    if (threadIdx.x == first) shared_.way = chain_.way(gridDim.x);
    __syncthreads();
    for (int n = 0; n < memory::stages; ++n) load(n);
  }

  /// The tile of this turn, once all of it is here. Called by all threads, as all of these.
  __device__ const placed_tile& arrived() const {
    wait_for_copies_but<memory::stages - 1>();
    __syncthreads();
    return shared_.tiles[turn_ % memory::known];
  }
  __device__ int stage() const { return turn_ % memory::stages; }

  /// The operands of this turn are not read any more: another tile takes their place.
  __device__ void next() {
    load(turn_ + memory::stages);
    if (threadIdx.x == tile::threads - 1) place(turn_ + memory::known - 1, !from_.lines.cumulative_lengths);
    ++turn_;
  }

 private:
  /// Says which tile a turn has; `after`: the one behind that of the turn before.
  __device__ void place(int turn, bool after) const {
    const std::int64_t number = static_cast<std::int64_t>(turn) * gridDim.x + blockIdx.x;
    placed_tile& to = shared_.tiles[turn % memory::known];
    to.ended = number >= chain_.count();
    to.count = 0;
    if (to.ended) return;
    to.in_chain = after ? chain_.after(shared_.tiles[(turn - 1) % memory::known].in_chain, shared_.way, backward_)
                        : chain_.tile(number, from_.lines, backward_);
    if (!to.in_chain.exists) return;
    to.line = from_.lines[to.in_chain.line];
    to.first = to.in_chain.index * tile::tokens;
    const std::int64_t left = to.line.length - to.first;
    to.count = static_cast<int>(left < tile::tokens ? left : tile::tokens);
  }

  /// Starts to read the tile of a turn.
  __device__ void load(int turn) const {
    const placed_tile& at = shared_.tiles[turn % memory::known];
    if (at.count > 0) {
      LIGHTNET_UNROLL
      for (int n = 0; n < Operands; ++n) {
        if (from_.operands[n]) load(from_.operands[n], at, shared_.operands[turn % memory::stages][n]);
      }
    }
    commit_copies();
  }

  __device__ void load(const channel_rows<const T>& rows, const placed_tile& at,
                       typename tile::word (&to)[tile::tokens][tile::lanes]) const {
    constexpr int numbers = 16 / static_cast<int>(sizeof(T)), parts = tile::channels / numbers;
    const std::int64_t first_channel = at.in_chain.group * tile::channels, row = from_.row();
    const auto thread = static_cast<int>(threadIdx.x);
    if (rows.in_words) {
      constexpr int step = tile::threads / parts;
      const int part = thread % parts, start = thread / parts;
      if (first_channel + part * numbers >= row) return;
      const T* from = rows.at(at.line.batch, at.line.token(at.first + start)) + first_channel + part * numbers;
      T* place = reinterpret_cast<T*>(to[start]) + part * numbers;
      const std::int64_t way = step * at.line.step * rows.token;
      if (at.count == tile::tokens) {
        LIGHTNET_UNROLL
        for (int i = 0; i < tile::tokens; i += step, from += way) copy_to_shared(place + i * tile::channels, from);
      } else {
        for (int i = start; i < at.count; i += step, from += way, place += step * tile::channels) {
          copy_to_shared(place, from);
        }
      }
      return;
    }
    for (int c = thread % tile::lanes; c < tile::channels && first_channel + c < row; c += tile::lanes) {
      const std::int64_t head = (first_channel + c) / from_.channels, channel = (first_channel + c) % from_.channels;
      for (int i = thread / tile::lanes; i < at.count; i += tile::warps) {
        reinterpret_cast<T*>(to[i])[c] =
            rows.at(at.line.batch, at.line.token(at.first + i))[head * rows.head + channel * rows.channel];
      }
    }
  }

  const source& from_;
  const typename tile::chain& chain_;
  const bool backward_;
  memory& shared_;
  int turn_ = 0;
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
