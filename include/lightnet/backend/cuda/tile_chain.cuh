// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/channel_word.cuh>
#include <lightnet/backend/cuda/packed_lengths.cuh>
#include <lightnet/core/math.hpp>

#include <algorithm>
#include <type_traits>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Numbers that a block leaves for another, neighbouring channels in one access. A number is there or not, so that neither
/// side orders any other memory: memory of ones, a NaN that is never written, holds none.
template <class A, int Count>
struct left_word {
  using word = channel_word<A, Count>;
  using bits = std::conditional_t<sizeof(word) == 4, std::uint32_t, std::uint64_t>;
  static_assert(sizeof(word) == sizeof(bits));
  using number_bits = std::conditional_t<sizeof(A) == 4, std::uint32_t, std::uint64_t>;
  static constexpr number_bits nothing = ~number_bits{0};

  word numbers;

  __device__ static void store(A* to, word numbers) {
    LIGHTNET_UNROLL
    for (int c = 0; c < Count; ++c) {
      if (bits_as<number_bits>(numbers.channels[c]) == nothing) numbers.channels[c] = limits<A>::not_a_number;
    }
    const auto all = bits_as<bits>(numbers);
    if constexpr (sizeof(bits) == 4) {
      asm volatile("st.relaxed.gpu.u32 [%0], %1;" ::"l"(to), "r"(all) : "memory");
    } else {
      asm volatile("st.relaxed.gpu.u64 [%0], %1;" ::"l"(to), "l"(all) : "memory");
    }
  }
  __device__ static left_word load(const A* from) {
    bits all;
    if constexpr (sizeof(bits) == 4) {
      asm volatile("ld.relaxed.gpu.u32 %0, [%1];" : "=r"(all) : "l"(from) : "memory");
    } else {
      asm volatile("ld.relaxed.gpu.u64 %0, [%1];" : "=l"(all) : "l"(from) : "memory");
    }
    return {bits_as<word>(all)};
  }
  __device__ bool ready() const {
    bool all = true;
    LIGHTNET_UNROLL
    for (int c = 0; c < Count; ++c) all = all && bits_as<number_bits>(numbers.channels[c]) != nothing;
    return all;
  }
};

/// A tile of a line: `index` counts from the line's start, `slot` is its place among all tiles.
struct chain_tile {
  std::int64_t group, line, index, slot;
  bool exists, last;
};

/// Steps h -> decay h + sum of whole tiles of tokens, one after another along each line: a block leaves the step of its
/// tile, looks back for the nearest tile whose end is known, and leaves its own end. However far it looks, the end of a tile
/// is decay h + sum of the end before it: the same bits. (Single-pass prefix scan with decoupled look-back, Merrill and
/// Garland, NVR-2016-002.) All blocks have to run at the same time, as in a cooperative launch, each with tiles of rising
/// numbers. Count: channels that neighbour each other, in one access.
template <class A, int Count>
struct tile_chain {
  using word = channel_word<A, Count>;

  std::int64_t tile_tokens, row, groups, lines, tiles, slots;  // tiles: of a line, where sequences are not packed
  A* memory = nullptr;                                         // [3, slots, row]; null where every line is one tile

  /// `scratch` must outlive the chain. `channels` are those of a tile.
  template <int Dims>
  tile_chain(execution<cuda>& on, execution<cuda>::scope& scratch, const char* operation,
             const token_lines<Dims, cuda>& of, std::int64_t tokens, std::int64_t channels_of_row,
             std::int64_t channels)
      : tile_tokens{tokens},
        row{(channels_of_row + Count - 1) / Count * Count},
        groups{(row + channels - 1) / channels},
        lines{of.count()} {
    const std::int64_t longest = of.longest();
    tiles = longest > tokens ? (longest + tokens - 1) / tokens : 1;
    slots = of.cumulative_lengths && tiles > 1 ? longest / tokens + lines : lines * tiles;
    if (tiles == 1 || count() == 0) return;
    const std::int64_t numbers = 3 * slots * row;
    memory = scratch.take<A>(numbers);
    check_cuda(operation, "cudaMemsetAsync",
               cudaMemsetAsync(memory, 0xFF, static_cast<std::size_t>(numbers) * sizeof(A), on.stream()));
  }

  /// The number of tiles.
  LIGHTNET_HOST_DEVICE std::int64_t count() const { return slots * groups; }

  /// The tile of a number: every tile before it on its line, or behind it, has a smaller one.
  template <int Dims>
  __device__ chain_tile tile(std::int64_t number, const token_lines<Dims, cuda>& of, bool backward) const {
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

  /// The way from a tile to the one whose number is so much larger, and the tile there: what `tile` finds, without a
  /// division. Not where sequences are packed.
  __device__ chain_tile way(std::int64_t numbers) const {
    const std::int64_t rest = numbers / groups;
    if (!memory) return {numbers % groups, rest, 0, rest, true, true};
    return {numbers % groups, rest % lines, rest / lines, 0, true, true};
  }
  __device__ chain_tile after(const chain_tile& from, const chain_tile& by, bool backward) const {
    chain_tile found = from;
    found.group += by.group;
    found.line += by.line;
    if (found.group >= groups) {
      found.group -= groups;
      ++found.line;
    }
    found.slot = found.line;
    if (!memory) return found;
    std::int64_t tiles_on = by.index;
    if (found.line >= lines) {
      found.line -= lines;
      ++tiles_on;
    }
    found.index += backward ? -tiles_on : tiles_on;
    found.slot = found.line * tiles + found.index;
    found.last = found.index == tiles - 1;
    return found;
  }

  __device__ void leave_step(std::int64_t slot, std::int64_t channel, const word& decay, const word& sum) const {
    left_word<A, Count>::store(place(1, slot, channel), decay);
    left_word<A, Count>::store(place(2, slot, channel), sum);
  }
  __device__ void leave_end(std::int64_t slot, std::int64_t channel, const word& end) const {
    left_word<A, Count>::store(place(0, slot, channel), end);
  }
  /// The end of a tile, where it is there.
  __device__ left_word<A, Count> end(std::int64_t slot, std::int64_t channel) const { return load(0, slot, channel); }
  /// The decay of a tile, once it is there.
  __device__ word decay(std::int64_t slot, std::int64_t channel) const { return wait_for(1, slot, channel); }

  /// Whether so many blocks, each at one tile, are at many of one line: then who waits looks far back. Else it waits for the
  /// tile before its own, which takes less: one number to read where it is three a tile, and registers for one.
  bool looks_far(std::int64_t blocks) const { return std::min(blocks, count()) > 6 * groups * lines; }

  /// h where a tile begins, `before` tiles, one or more, come before it, at the slots slot - direction, slot - 2 direction
  /// and so on. Far: whether it looks further back than to the first of these.
  template <bool Far>
  __device__ word begin(std::int64_t slot, std::int64_t direction, std::int64_t before, std::int64_t channel) const {
    if constexpr (Far) {
      return look_back(slot, direction, before, channel);
    } else {
      return wait_for(0, slot - direction, channel);
    }
  }

 private:
  __device__ word look_back(std::int64_t slot, std::int64_t direction, std::int64_t before,
                            std::int64_t channel) const {
    constexpr int window = Count == 1 ? 8 : 4;  // as many as there are registers for
    for (;;) {
      left_word<A, Count> ends[window], decays[window], sums[window];
      LIGHTNET_UNROLL
      for (int k = 0; k < window; ++k) {
        if (k >= before) continue;
        const std::int64_t at = slot - (k + 1) * direction;
        ends[k] = load(0, at, channel);
        decays[k] = load(1, at, channel);
        sums[k] = load(2, at, channel);
      }
      int nearest = window;
      bool known = true;  // the steps of all tiles nearer than k
      LIGHTNET_UNROLL
      for (int k = 0; k < window; ++k) {
        if (k >= before) continue;
        if (nearest == window && known && ends[k].ready()) nearest = k;
        known = known && decays[k].ready() && sums[k].ready();
      }
      if (nearest == window) continue;
      word h{};
      LIGHTNET_UNROLL
      for (int k = window - 1; k >= 0; --k) {
        LIGHTNET_UNROLL
        for (int c = 0; c < Count; ++c) {
          if (k == nearest) h.channels[c] = ends[k].numbers.channels[c];
          if (k < nearest) {
            h.channels[c] = multiply_add(decays[k].numbers.channels[c], h.channels[c], sums[k].numbers.channels[c]);
          }
        }
      }
      return h;
    }
  }

  __device__ A* place(int field, std::int64_t slot, std::int64_t channel) const {
    return memory + (field * slots + slot) * row + channel;
  }
  __device__ left_word<A, Count> load(int field, std::int64_t slot, std::int64_t channel) const {
    return left_word<A, Count>::load(place(field, slot, channel));
  }
  __device__ word wait_for(int field, std::int64_t slot, std::int64_t channel) const {
    for (;;) {
      const auto found = load(field, slot, channel);
      if (found.ready()) return found.numbers;
    }
  }
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
