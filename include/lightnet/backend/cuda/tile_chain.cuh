// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/packed_lengths.cuh>
#include <lightnet/core/bits.hpp>
#include <lightnet/core/math.hpp>

#include <type_traits>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// A number with a mark beside each half, for a reader in another block: a word is there or not, so that neither side
/// orders any other memory. Memory of zeros holds no number.
template <class A>
struct marked {
  static constexpr int count = static_cast<int>(sizeof(A) / sizeof(std::uint32_t));
  using bits = std::conditional_t<count == 1, std::uint32_t, std::uint64_t>;
  std::uint64_t words[count];

  __device__ static void store(marked* to, A value) {
    LIGHTNET_UNROLL
    for (int i = 0; i < count; ++i) {
      const std::uint64_t word = (std::uint64_t{bits_as<bits>(value)} >> (32 * i)) << 32 | 1;
      asm volatile("st.relaxed.gpu.u64 [%0], %1;" ::"l"(&to->words[i]), "l"(word) : "memory");
    }
  }
  __device__ static marked load(const marked* from) {
    marked found;
    LIGHTNET_UNROLL
    for (int i = 0; i < count; ++i) {
      asm volatile("ld.relaxed.gpu.u64 %0, [%1];" : "=l"(found.words[i]) : "l"(&from->words[i]) : "memory");
    }
    return found;
  }
  __device__ bool ready() const {
    bool all = true;
    LIGHTNET_UNROLL
    for (int i = 0; i < count; ++i) all = all && (words[i] & 1) != 0;
    return all;
  }
  __device__ A value() const {
    std::uint64_t all = 0;
    LIGHTNET_UNROLL
    for (int i = 0; i < count; ++i) all |= (words[i] >> 32) << (32 * i);
    return bits_as<A>(static_cast<bits>(all));
  }
};

/// A tile of a line: `index` counts from the line's start, `slot` is its place among all tiles.
struct chain_tile {
  std::int64_t group, line, index, slot;
  bool exists, last;
};

/// Steps h -> decay h + sum of whole tiles of tokens, one after another along each line: a block takes the next tile
/// that nobody has, leaves its step, looks back for the nearest tile whose end is known, and leaves its own end. However far
/// it looks, the end of a tile is decay h + sum of the end before it: the same bits. Blocks that wait do so for blocks
/// that run already. (Single-pass prefix scan with decoupled look-back, Merrill and Garland, NVR-2016-002.)
template <class A>
struct tile_chain {
  std::int64_t tile_tokens, row, groups, lines, tiles, slots;  // tiles: of a line, where sequences are not packed
  std::uint64_t* memory = nullptr;  // tickets, then [3, slots, row]; null where every line is one tile

  /// `scratch` must outlive the chain. `channels` are those of a tile.
  template <int Dims>
  tile_chain(execution<cuda>& on, execution<cuda>::scope& scratch, const char* operation,
             const token_lines<Dims, cuda>& of, std::int64_t tokens, std::int64_t channels_of_row,
             std::int64_t channels)
      : tile_tokens{tokens}, row{channels_of_row}, groups{(row + channels - 1) / channels}, lines{of.count()} {
    const std::int64_t longest = of.longest();
    tiles = longest > tokens ? (longest + tokens - 1) / tokens : 1;
    slots = of.cumulative_lengths && tiles > 1 ? longest / tokens + lines : lines * tiles;
    if (tiles == 1 || blocks() == 0) return;
    const std::int64_t words = 2 + 3 * slots * row * marked<A>::count;
    memory = scratch.take<std::uint64_t>(words);
    check_cuda(operation, "cudaMemsetAsync",
               cudaMemsetAsync(memory, 0, static_cast<std::size_t>(words) * sizeof(std::uint64_t), on.stream()));
  }

  std::int64_t blocks() const { return slots * groups; }

  /// The tile of this block; every tile before it on its line, or behind it, is taken already. Called by all threads.
  template <int Dims>
  __device__ chain_tile next_tile(const token_lines<Dims, cuda>& of, bool backward) const {
    __shared__ unsigned ticket;
    std::int64_t number = blockIdx.x;
    if (memory) {
      if (threadIdx.x == 0) ticket = atomicAdd(reinterpret_cast<unsigned*>(memory), 1U);
      __syncthreads();
      number = ticket;
    }
    chain_tile found{number % groups, 0, 0, 0, true, true};
    number /= groups;
    if (!memory) {
      found.line = found.slot = number;
    } else if (of.cumulative_lengths) {
      found.slot = backward ? slots - 1 - number : number;
      // Sequence s has the slots from start(s) on: at least as many as tiles, for both are rounded.
      const auto start = [&](std::int64_t s) { return of.cumulative_lengths(s) / tile_tokens + s; };
      std::int64_t behind = lines;
      while (behind - found.line > 1) {
        const std::int64_t middle = (found.line + behind) / 2;
        (start(middle) <= found.slot ? found.line : behind) = middle;
      }
      found.index = found.slot - start(found.line);
      const std::int64_t length = of.cumulative_lengths(found.line + 1) - of.cumulative_lengths(found.line);
      found.exists = found.index == 0 || found.index * tile_tokens < length;
      found.last = (found.index + 1) * tile_tokens >= length;
    } else {
      found.line = number % lines;
      found.index = backward ? tiles - 1 - number / lines : number / lines;
      found.slot = found.line * tiles + found.index;
      found.last = found.index == tiles - 1;
    }
    return found;
  }

  __device__ void leave_step(std::int64_t slot, std::int64_t channel, A decay, A sum) const {
    marked<A>::store(place(1, slot, channel), decay);
    marked<A>::store(place(2, slot, channel), sum);
  }
  __device__ void leave_end(std::int64_t slot, std::int64_t channel, A end) const {
    marked<A>::store(place(0, slot, channel), end);
  }
  /// The end of a tile that another kernel left.
  __device__ A end(std::int64_t slot, std::int64_t channel) const {
    return marked<A>::load(place(0, slot, channel)).value();
  }
  /// The decay of a tile, once it is there.
  __device__ A decay(std::int64_t slot, std::int64_t channel) const {
    for (;;) {
      const marked<A> found = marked<A>::load(place(1, slot, channel));
      if (found.ready()) return found.value();
    }
  }

  /// h where a tile begins. `before` tiles, one or more, come before it, at the slots slot - direction,
  /// slot - 2 direction and so on.
  __device__ A begin(std::int64_t slot, std::int64_t direction, std::int64_t before, std::int64_t channel) const {
    constexpr int window = 4;
    for (;;) {
      marked<A> ends[window], decays[window], sums[window];
      LIGHTNET_UNROLL
      for (int k = 0; k < window; ++k) {
        ends[k] = decays[k] = sums[k] = {};
        if (k >= before) continue;
        const std::int64_t at = slot - (k + 1) * direction;
        ends[k] = marked<A>::load(place(0, at, channel));
        decays[k] = marked<A>::load(place(1, at, channel));
        sums[k] = marked<A>::load(place(2, at, channel));
      }
      int nearest = window;
      bool known = true;  // the steps of all tiles nearer than k
      LIGHTNET_UNROLL
      for (int k = 0; k < window; ++k) {
        if (nearest == window && known && ends[k].ready()) nearest = k;
        known = known && decays[k].ready() && sums[k].ready();
      }
      if (nearest == window) {
        __nanosleep(20);
        continue;
      }
      A h = A(0);
      LIGHTNET_UNROLL
      for (int k = window - 1; k >= 0; --k) {
        if (k == nearest) h = ends[k].value();
        if (k < nearest) h = multiply_add(decays[k].value(), h, sums[k].value());
      }
      return h;
    }
  }

 private:
  __device__ marked<A>* place(int field, std::int64_t slot, std::int64_t channel) const {
    return reinterpret_cast<marked<A>*>(memory + 2) + (field * slots + slot) * row + channel;
  }
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
