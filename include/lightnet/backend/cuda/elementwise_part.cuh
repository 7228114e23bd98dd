// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/elementwise_tile.cuh>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// A thread's part of a tile: 16 tokens, a word of channels. Plain: all of them are there, and none is masked.
template <bool Plain, class Tile, int Operands>
struct thread_part {
  using tile = Tile;
  using T = typename tile::number;
  using A = typename tile::A;
  using wide = typename tile::wide;
  using word = typename tile::word;
  using operand = word[tile::tokens][tile::lanes];
  static constexpr int tokens = tile::warp_tokens;

  const elementwise_source<tile, Operands>& from;
  const placed_tile& at;
  int warp, lane, start, count;  // tokens [start, start + count) of the tile
  std::int64_t column;           // the first channel of the row
  unsigned on;                   // which tokens count, the same for all lanes

  __device__ thread_part(const elementwise_source<tile, Operands>& source, const placed_tile& placed)
      : from{source},
        at{placed},
        warp{static_cast<int>(threadIdx.x) / 32},
        lane{static_cast<int>(threadIdx.x) % 32},
        start{warp * tokens},
        count{placed.count < start            ? 0
              : placed.count - start < tokens ? placed.count - start
                                              : tokens},
        column{placed.in_chain.group * tile::channels + lane * tile::count},
        on{~0U} {
    if constexpr (!Plain) {
      on = __ballot_sync(~0U, lane < count && (!from.mask || from.mask(at.line.batch, token(lane))));
    }
  }

  __device__ std::int64_t token(int i) const { return at.line.token(at.first + start + i); }
  /// Whether the row has channel c of the word.
  __device__ bool has(int c) const { return Plain || column + c < from.row(); }
  __device__ bool counts(int i) const { return Plain || (on >> i & 1U) != 0; }

  /// The word of token i, `otherwise` where it does not count.
  __device__ word read(const operand& words, int i, A otherwise) const {
    return counts(i) ? words[start + i][lane] : narrow<T>(tile::all(otherwise));
  }
  /// a; 1 where a token does not count.
  template <bool WithSign>
  __device__ void read_decays(const operand& words, wide (&to)[tokens]) const {
    typename tile::checked_logarithms checked;
    LIGHTNET_UNROLL
    for (int i = 0; i < tokens; ++i) {
      const word given = read(words, i, WithSign ? A(1) : A(0));
      to[i] = tile::template decays<WithSign>(given, checked);
    }
    if (!checked.any_above_zero()) return;
    LIGHTNET_UNROLL
    for (int i = 0; i < tokens; ++i) {
      const wide given = widen(read(words, i, A(0)));
      tile::each(
          [&](int c) { to[i].channels[c] = given.channels[c] <= 0 ? to[i].channels[c] : limits<A>::not_a_number; });
    }
  }

  /// Calls body(c, element) for the lane's channels of a part of a state [B, H, d].
  template <class U, class Body>
  __device__ void each_of(const dynamic_view<3, U, cuda>& part, const Body& body) const {
    tile::each([&](int c) {
      if (has(c)) body(c, part(at.line.sequence, (column + c) / from.channels, (column + c) % from.channels));
    });
  }
  template <class U>
  __device__ wide load(const dynamic_view<3, U, cuda>& part) const {
    wide found = tile::all(A(0));
    each_of(part, [&](int c, const U& x) { found.channels[c] = x; });
    return found;
  }
  __device__ void store(const dynamic_view<3, A, cuda>& part, const wide& x) const {
    each_of(part, [&](int c, A& to) { to = x.channels[c]; });
  }
};

/// The words of a thread's tokens in a sequence that is written. Plain: none is added to, and none has to be looked for.
template <class Part, bool Plain, class U>
class thread_rows {
 public:
  using tile = typename Part::tile;
  using wide = typename tile::wide;
  using stored = channel_word<U, tile::count>;

  __device__ thread_rows(const Part& part, const channel_rows<U>& to, bool add) : part_{part}, to_{to}, add_{add} {
    if constexpr (Plain) {
      at_ = reinterpret_cast<stored*>(to.at(part.at.line.batch, part.token(0)) + part.column);
      way_ = part.at.line.step * to.token / tile::count;
    }
  }
  /// Writes the word of token i, or adds it to what is there; 0 where the token does not count.
  __device__ void write(int i, const wide& x) const {
    if constexpr (Plain) {
      at_[i * way_] = narrow<U>(x);
    } else {
      if (i >= part_.count) return;
      U* const row = to_.at(part_.at.line.batch, part_.token(i));
      tile::each([&](int c) {
        if (!part_.has(c)) return;
        using A = typename tile::A;
        const std::int64_t channel = part_.column + c;
        U& place = row[channel / part_.from.channels * to_.head + channel % part_.from.channels * to_.channel];
        A y = part_.counts(i) ? x.channels[c] : A(0);
        if (add_) y += static_cast<A>(place);
        place = narrow<U>(channel_word<A, 1>{{y}}).channels[0];
      });
    }
  }

 private:
  const Part& part_;
  const channel_rows<U>& to_;
  const bool add_;
  stored* at_ = nullptr;
  std::int64_t way_ = 0;
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
