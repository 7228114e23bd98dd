// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/channel_rows.cuh>
#include <lightnet/backend/cuda/tile_chain.cuh>
#include <lightnet/backend/elementwise_operands.hpp>

// What the blocks of the element-wise recurrence work on.

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// A tile: 16 tokens of a line for each of its warps; 32 words of channels, a lane one.
template <class T, int Warps>
struct elementwise_tile {
  using number = T;
  using A = accumulator<T>;
  static constexpr int warps = Warps, threads = 32 * warps, warp_tokens = 16, tokens = warps * warp_tokens;
  static constexpr int lanes = 32, count = sizeof(T) == 2 ? 2 : 1;  // channels of a word
  static constexpr int channels = lanes * count;
  using word = channel_word<T, count>;  // as it is stored
  using wide = channel_word<A, count>;  // as it is summed
  using chain = tile_chain<A, count>;

  /// Whether any logarithm is above zero, where that is not seen number by number: of two bytes, two at a time, as the
  /// integers that order as they do.
  struct checked_logarithms {
    std::uint32_t largest = 0;

    __device__ bool any_above_zero() const { return largest != 0; }
  };

  /// a from log a or, with a sign, from itself. A number of two bytes has fewer digits than the processor's 2^x.
  template <bool WithSign>
  __device__ static wide decays(const word& given, checked_logarithms& checked) {
    wide a = widen(given);
    if constexpr (WithSign || sizeof(T) > 2) {
      each([&](int c) { a.channels[c] = decay_of<WithSign>(a.channels[c]); });
    } else {
      checked.largest = __vmaxs2(checked.largest, bits_as<std::uint32_t>(given));
      each([&](int c) { asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(a.channels[c]) : "f"(a.channels[c] * 1.44269504F)); });
    }
    return a;
  }

  /// The same of one number by itself; NaN where that is out of range.
  template <bool WithSign>
  __device__ static A decay(T given) {
    if constexpr (WithSign || sizeof(T) > 2) {
      return decay_of<WithSign>(static_cast<A>(given));
    } else {
      checked_logarithms checked;
      const A a = decays<WithSign>(word{{given, given}}, checked).channels[0];
      return given <= 0 ? a : limits<A>::not_a_number;
    }
  }

  template <class Body>
  __device__ static void each(const Body& body) {
    LIGHTNET_UNROLL
    for (int c = 0; c < count; ++c) body(c);
  }
  __device__ static wide all(A x) {
    wide made;
    each([&](int c) { made.channels[c] = x; });
    return made;
  }
  /// a h + x.
  __device__ static wide step(const wide& a, const wide& h, const wide& x) {
    wide next;
    each([&](int c) { next.channels[c] = multiply_add(a.channels[c], h.channels[c], x.channels[c]); });
    return next;
  }
  __device__ static wide multiply(const wide& a, const wide& b) {
    wide product;
    each([&](int c) { product.channels[c] = a.channels[c] * b.channels[c]; });
    return product;
  }
  __device__ static wide sum(const wide& a, const wide& b) {
    wide both;
    each([&](int c) { both.channels[c] = a.channels[c] + b.channels[c]; });
    return both;
  }
};

/// Of long lines long tiles are fewer to wait for; short tiles leave room for more operands. Lines that are one tile either
/// way have the same bits either way.
template <class T>
using long_tile = elementwise_tile<T, sizeof(T) == 8 ? 8 : 16>;
template <class T>
using short_tile = elementwise_tile<T, 8>;

/// Lines as kernels take them that serve grids of any number of dimensions: the axis along which they lie, and what comes
/// before it and after it.
template <int Dims>
token_lines<3, cuda> lines_of_three_axes(const token_lines<Dims, cuda>& lines) {
  token_lines<3, cuda> made;
  made.batch = lines.batch;
  made.cumulative_lengths = lines.cumulative_lengths;
  made.reversed = lines.reversed;
  made.tokens.extents = {1, lines.tokens.size(), 1};
  if (lines.axis == token_lines<Dims, cuda>::flattened) return made;
  made.axis = 1;
  made.tokens.extents[1] = 1;
  for (int i = 0; i < Dims; ++i) {
    made.tokens.extents[i < lines.axis    ? 0
                        : i == lines.axis ? 1
                                          : 2] *= lines.tokens.extents[static_cast<std::size_t>(i)];
  }
  return made;
}

/// A tile, and where it lies: tokens [first, first + count) of a line.
struct placed_tile {
  chain_tile in_chain;
  token_line line;
  std::int64_t first;
  int count;   // none where the tile does not exist
  bool ended;  // there is no tile any more
};

/// What is read: sequences [B, N, H, d] in tiles, and what says which tokens they are and how a line begins.
template <class Tile, int Operands>
struct elementwise_source {
  using T = typename Tile::number;
  using A = typename Tile::A;

  token_lines<3, cuda> lines;
  std::int64_t heads, channels;
  dynamic_view<2, const bool, cuda> mask;     // [B, N]
  dynamic_view<3, const A, cuda> h, product;  // [B, H, d]  the initial state, or nothing
  channel_rows<const T> operands[Operands];

  __device__ std::int64_t row() const { return heads * channels; }
  /// Whether a tile is whole, and all of it counts.
  __device__ bool plain(const placed_tile& at) const {
    return at.count == Tile::tokens && !mask && (at.in_chain.group + 1) * Tile::channels <= row();
  }
};

/// h -> decay h + sum.
template <class Wide>
struct elementwise_step {
  Wide decay, sum;
};

/// The shared memory of a block: the tiles of operands that are there or on their way, what is known of tiles, and what the
/// warps tell each other.
template <class Tile, int Operands>
struct elementwise_memory {
  using tile = Tile;
  using A = typename tile::A;
  using wide = typename tile::wide;
  static constexpr int stages = sizeof(A) == 8 && Operands == 3 ? 1 : 2, known = 4;
  static constexpr int blocks_of_processor = sizeof(A) == 8 ? 1 : 16 / tile::warps;  // for which there are registers

  typename tile::word operands[stages][Operands][tile::tokens][tile::lanes];
  wide decay[tile::warps][tile::lanes], sum[tile::warps][tile::lanes], returned[tile::warps][tile::lanes];
  wide begin[tile::lanes], end[tile::lanes];  // h before the tile, and g after it
  placed_tile tiles[known];
  chain_tile way;  // from a tile of the block to its next

  /// What the tokens of the warps before `last` do to h.
  __device__ elementwise_step<wide> forward(int last, int lane) const {
    elementwise_step<wide> all{tile::all(A(1)), tile::all(A(0))};
    LIGHTNET_UNROLL
    for (int w = 0; w < tile::warps && w < last; ++w) {
      const wide a = decay[w][lane], x = sum[w][lane];
      all = {tile::multiply(all.decay, a), tile::step(a, all.sum, x)};
    }
    return all;
  }
  /// What the tokens of the warps after `first` do to g.
  __device__ elementwise_step<wide> backward(int first, int lane) const {
    elementwise_step<wide> all{tile::all(A(1)), tile::all(A(0))};
    LIGHTNET_UNROLL
    for (int w = tile::warps - 1; w >= 0 && w > first; --w) {
      const wide a = decay[w][lane], x = returned[w][lane];
      all = {tile::multiply(all.decay, a), tile::step(a, all.sum, x)};
    }
    return all;
  }
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
