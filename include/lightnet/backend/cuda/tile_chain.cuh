// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/packed_lengths.cuh>
#include <lightnet/core/bits.hpp>
#include <lightnet/core/math.hpp>

#include <limits>
#include <string>
#include <type_traits>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// A number for a reader in another block: its word is there or not, so that neither side orders any other memory. A word
/// of ones is none; a NaN that looks so is left as another NaN.
template <class A>
struct left_number {
  using bits = std::conditional_t<sizeof(A) == sizeof(std::uint32_t), std::uint32_t, std::uint64_t>;
  static constexpr bits none = ~bits{0};
  bits word;

  __device__ static void store(bits* to, A value) {
    const auto given = bits_as<bits>(value);
    const bits left = given == none ? none - 1 : given;
    if constexpr (sizeof(A) == sizeof(std::uint32_t)) {
      asm volatile("st.relaxed.gpu.u32 [%0], %1;" ::"l"(to), "r"(left) : "memory");
    } else {
      asm volatile("st.relaxed.gpu.u64 [%0], %1;" ::"l"(to), "l"(left) : "memory");
    }
  }
  __device__ static left_number load(const bits* from) {
    left_number found;
    if constexpr (sizeof(A) == sizeof(std::uint32_t)) {
      asm volatile("ld.relaxed.gpu.u32 %0, [%1];" : "=r"(found.word) : "l"(from) : "memory");
    } else {
      asm volatile("ld.relaxed.gpu.u64 %0, [%1];" : "=l"(found.word) : "l"(from) : "memory");
    }
    return found;
  }
  __device__ bool ready() const { return word != none; }
  __device__ A value() const { return bits_as<A>(word); }
};

/// A tile of a line: `index` counts from the line's start, `slot` is its place among all tiles. Among those of packed
/// sequences are some that do not exist.
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
  using left = left_number<A>;
  using word = typename left::bits;

  std::int64_t tile_tokens, row, groups, lines, tiles, slots;  // tiles: of a line, where sequences are not packed
  unsigned* taken = nullptr;  // tiles that some block has, less one; null where every line is one tile
  word* memory = nullptr;     // [3, slots, row]

  /// `scratch` must outlive the chain. `channels` are those of a tile.
  template <int Dims>
  tile_chain(execution<cuda>& on, execution<cuda>::scope& scratch, const char* operation,
             const token_lines<Dims, cuda>& of, std::int64_t tokens, std::int64_t channels_of_row,
             std::int64_t channels)
      : tile_tokens{tokens}, row{channels_of_row}, groups{(row + channels - 1) / channels}, lines{of.count()} {
    const std::int64_t longest = of.longest();
    tiles = longest > tokens ? (longest + tokens - 1) / tokens : 1;
    slots = of.cumulative_lengths && tiles > 1 ? longest / tokens + lines : lines * tiles;
    if (count() > std::numeric_limits<std::int32_t>::max()) {
      throw device_error(operation, "tiles", "at most 2147483647", std::to_string(count()));
    }
    if (tiles == 1 || count() == 0) return;
    const std::int64_t words = 3 * slots * row;
    constexpr std::int64_t ahead = 16 / sizeof(word);
    memory = scratch.take<word>(ahead + words) + ahead;
    taken = reinterpret_cast<unsigned*>(memory - ahead);
    check_cuda(operation, "cudaMemsetAsync",
               cudaMemsetAsync(taken, 0xFF, static_cast<std::size_t>(ahead + words) * sizeof(word), on.stream()));
  }

  LIGHTNET_HOST_DEVICE std::int64_t count() const { return slots * groups; }

  /// The number of the next tile that nobody has, count() or more where there is none. One thread of a block calls it;
  /// `before` says how often it has.
  __device__ unsigned take(int before) const {
    if (taken) return atomicAdd(taken, 1U) + 1U;
    return blockIdx.x + static_cast<unsigned>(before) * gridDim.x;
  }

  /// The tile of a number; the tiles before it on its line, or behind it, have lower ones.
  template <int Dims>
  __device__ chain_tile tile(const token_lines<Dims, cuda>& of, unsigned number, bool backward) const {
    const auto across = static_cast<unsigned>(groups), down = static_cast<unsigned>(lines);  // count() is no less
    chain_tile found{number % across, 0, 0, 0, true, true};
    number /= across;
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
      found.line = number % down;
      found.index = backward ? tiles - 1 - number / down : number / down;
      found.slot = found.line * tiles + found.index;
      found.last = found.index == tiles - 1;
    }
    return found;
  }

  __device__ void leave_step(std::int64_t slot, std::int64_t channel, A decay, A sum) const {
    left::store(place(1, slot, channel), decay);
    left::store(place(2, slot, channel), sum);
  }
  __device__ void leave_end(std::int64_t slot, std::int64_t channel, A end) const {
    left::store(place(0, slot, channel), end);
  }
  /// The end of a tile that another kernel left.
  __device__ A end(std::int64_t slot, std::int64_t channel) const {
    return left::load(place(0, slot, channel)).value();
  }
  /// The decay of a tile, once it is there.
  __device__ A decay(std::int64_t slot, std::int64_t channel) const {
    for (;;) {
      const left found = left::load(place(1, slot, channel));
      if (found.ready()) return found.value();
    }
  }

  /// h where a tile begins. `before` tiles, one or more, come before it, at the slots slot - direction,
  /// slot - 2 direction and so on.
  __device__ A begin(std::int64_t slot, std::int64_t direction, std::int64_t before, std::int64_t channel) const {
    constexpr int window = 4;
    for (;;) {
      left ends[window], decays[window], sums[window];
      LIGHTNET_UNROLL
      for (int k = 0; k < window; ++k) {
        ends[k] = decays[k] = sums[k] = {left::none};
        if (k >= before) continue;
        const std::int64_t at = slot - (k + 1) * direction;
        ends[k] = left::load(place(0, at, channel));
        decays[k] = left::load(place(1, at, channel));
        sums[k] = left::load(place(2, at, channel));
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
  __device__ word* place(int field, std::int64_t slot, std::int64_t channel) const {
    return memory + (field * slots + slot) * row + channel;
  }
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
