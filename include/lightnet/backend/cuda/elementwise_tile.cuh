// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/channel_word.cuh>
#include <lightnet/backend/cuda/tile_chain.cuh>
#include <lightnet/backend/elementwise_operands.hpp>
#include <lightnet/core/math.hpp>

// What a block of the element-wise recurrence works on.

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Tokens of a tile, and how the warps of a block share them out.
template <class A>
struct elementwise_tile {
  static constexpr int warp_tokens = 16, warps = 48 / static_cast<int>(sizeof(A)), tokens = warp_tokens * warps;
  static constexpr int most_channels = 64;
};

/// Where a tile lies: its line, its first token, and the first of its channels in the row and in its head.
struct tile_place {
  chain_tile tile;
  token_line line;
  std::int64_t first, column, head, channel;
  int room, width;  // channels of that head from there on, and of a head: at most those of a tile

  /// How many heads further a channel of the tile lies.
  __device__ int heads(int offset) const {
    return offset < room ? 0
                         : 1 + static_cast<int>(static_cast<unsigned>(offset - room) / static_cast<unsigned>(width));
  }
};

/// Where the tile of a number lies. Divisions: a thread for all of its block.
template <class Arguments, class A>
__device__ tile_place place_of(const Arguments& from, const tile_chain<A>& chain, unsigned number, int channels,
                               bool backward) {
  constexpr std::int64_t most = elementwise_tile<A>::most_channels;
  const chain_tile tile = chain.tile(from.lines, number, backward);
  const std::int64_t column = tile.group * channels, head = column / from.channels;
  const std::int64_t channel = column - head * from.channels, room = from.channels - channel;
  return {tile,
          from.lines[tile.line],
          tile.index * elementwise_tile<A>::tokens,
          column,
          head,
          channel,
          static_cast<int>(room < most ? room : most),
          static_cast<int>(from.channels < most ? from.channels : most)};
}

/// e^x within 2 ulp for a log decay x <= 0, else NaN, by the processor's 2^f with |f| <= 1/2: three fifths of the
/// instructions of decay_of_logarithm, for sequences of which twice as many numbers come in the same time.
__device__ inline float quick_decay_of_logarithm(float x) {
  constexpr float low = -104;                                    // e^low is nothing
  constexpr float rounder = 3 * 0x1p22F + 64;                    // leaves the nearest integer + 64 in the lowest bits
  constexpr float high = 0x1.715476p+0F, rest = 0x1.4ae0cp-26F;  // log2 e
  const float bounded = x > low ? x : low;
  const float rounded = multiply_add(bounded, high, rounder), n = rounded - rounder;
  const float f = multiply_add(bounded, rest, multiply_add(bounded, high, -n));
  float p;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(p) : "f"(f));
  const auto scaled = bits_as<float>(bits_as<std::uint32_t>(p) + (bits_as<std::uint32_t>(rounded) << 23));
  return x <= 0 ? scaled * 0x1p-64F : limits<float>::not_a_number;
}

/// The decay a of sequences of T, from log a or, with a sign, from a itself; NaN where that is out of range.
template <bool WithSign, class T>
__device__ accumulator<T> decay_in_tile(accumulator<T> given) {
  if constexpr (!WithSign && sizeof(T) == 2) {
    return quick_decay_of_logarithm(given);
  } else {
    return decay_of<WithSign>(given);
  }
}

/// How a sequence lies around a tile: its first number there, the ways to the next token and channel, and what a next
/// head is further away than its channels say.
template <class U>
struct tile_walk {
  U* at;
  std::int64_t token, channel, jump;
};

/// Scattered: some sequence is not evenly spaced. Then there is no way to the next token, and the place is that of token 0.
template <bool Scattered, int Dims, class U>
__device__ tile_walk<U> walk_through(const head_sequence<Dims, U, cuda>& sequence, const tile_place& place) {
  std::int64_t token = 0;
  if (!Scattered) sequence.evenly_spaced(token);
  U* const first = sequence.token(place.line.batch, 0, 0);
  const std::int64_t head = sequence.token(place.line.batch, 1, 0) - first, channel = sequence.channel_stride();
  return {first + place.line.token(place.first) * token + place.head * head + place.channel * channel,
          place.line.step * token, channel, head - sequence.channels() * channel};
}

/// One channel of some tokens of a line, one after another. Scattered: no stride leads from each token to the next.
template <bool Scattered, int Dims, class U>
class channel_walk {
 public:
  /// From token `first` of the tile on, or back from there.
  __device__ channel_walk(const head_sequence<Dims, U, cuda>& sequence, const tile_walk<U>& through,
                          const tile_place& place, int offset, int first, int direction)
      : at_{through.at + offset * through.channel + place.heads(offset) * through.jump} {
    if constexpr (Scattered) {
      sequence_ = &sequence;
      token_ = place.line.token(place.first + first);
      step_ = direction * place.line.step;
    } else {
      at_ += first * through.token;
      step_ = direction * through.token;
    }
  }
  /// The number of this token; the walk goes on to the next one.
  __device__ U* next() {
    U* const at = at_;
    if constexpr (Scattered) {
      const std::int64_t token = token_;
      token_ += step_;
      return at + way(*sequence_, token);
    } else {
      at_ += step_;
      return at;
    }
  }

 private:
  // Divisions for each axis, too long to have in a loop that is unrolled.
  __device__ __noinline__ static std::int64_t way(const head_sequence<Dims, U, cuda>& sequence, std::int64_t token) {
    return sequence.token(0, 0, token) - sequence.token(0, 0, 0);
  }

  U* at_;
  const head_sequence<Dims, U, cuda>* sequence_ = nullptr;
  std::int64_t token_ = 0, step_ = 0;
};

/// The steps h -> decay h + sum of the tokens of each warp.
template <class A, int Channels>
struct warp_steps {
  static constexpr int most = elementwise_tile<A>::warps;
  using rows = A[most][Channels];
  rows decay, sum;

  /// The step of all warps.
  __device__ void compose(int warps, int channel, A& product, A& total) const {
    LIGHTNET_UNROLL
    for (int w = 0; w < most; ++w) {
      if (w >= warps) break;
      product *= decay[w][channel];
      total = multiply_add(decay[w][channel], total, sum[w][channel]);
    }
  }
  /// From h before the tile to h before each warp, which takes the place of its sum.
  __device__ void begin(int warps, int channel, A h) {
    LIGHTNET_UNROLL
    for (int w = 0; w < most; ++w) {
      if (w >= warps) break;
      const A after = multiply_add(decay[w][channel], h, sum[w][channel]);
      sum[w][channel] = h;
      h = after;
    }
  }
  /// h before warp `last` from h before the tile.
  __device__ A forward(A h, int last, int channel) const {
    for (int w = 0; w < last; ++w) h = multiply_add(decay[w][channel], h, sum[w][channel]);
    return h;
  }
  /// g after warp `last` from g after the tile, where its warps have such steps back.
  __device__ A backward(const rows& returned, A g, int last, int channel) const {
    for (int w = static_cast<int>(blockDim.x) / 32 - 1; w > last; --w) {
      g = multiply_add(decay[w][channel], g, returned[w][channel]);
    }
    return g;
  }
};

/// A warp's part of a tile: 16 tokens of a line; each lane has `Together` neighbouring channels.
template <bool Scattered, int Together, class Recurrence, int Dims, class T>
struct warp_tile {
  using A = accumulator<T>;
  using word = channel_word<T, Together>;
  using numbers = A[Together];
  static constexpr int tokens = elementwise_tile<A>::warp_tokens, channels = 32 * Together;
  static constexpr unsigned all = (1U << tokens) - 1;
  /// The number of a token that does not count: a = 1, and -0 leaves every h as it is.
  static constexpr A no_decay = Recurrence::with_sign ? A(1) : A(0), no_input = A(-0.0);

  const elementwise_arguments<Recurrence, Dims, T, cuda>& from;
  const tile_place& place;
  int warp, lane;
  int count;    // tokens
  unsigned on;  // which of them count, the same for all lanes
  bool active;  // the lane has channels

  __device__ warp_tile(const elementwise_arguments<Recurrence, Dims, T, cuda>& arguments, const tile_place& at)
      : from{arguments},
        place{at},
        warp{static_cast<int>(threadIdx.x) / 32},
        lane{static_cast<int>(threadIdx.x) % 32},
        active{at.column + lane * Together < arguments.row()} {
    const std::int64_t left = at.line.length - at.first - warp * tokens;
    count = static_cast<int>(left < 0 ? 0 : left < tokens ? left : tokens);
    on = all >> (tokens - count);
    if (from.mask) {
      const std::int64_t token = at.line.token(at.first + warp * tokens + lane);
      on = __ballot_sync(~0U, lane < count && from.mask(at.line.batch, token));
    }
  }
  /// Whether the warp has the end of the line: its last token, or none where the line has none.
  __device__ bool ends() const {
    return place.first + (warp + 1) * tokens >= place.line.length && (count > 0 || place.first + warp == 0);
  }

  template <class U>
  using walk_of = channel_walk<Scattered, Dims, U>;
  /// The lane's first channel, from the warp's first token on or, backwards, from its last one.
  template <class U>
  __device__ walk_of<U> walk(const head_sequence<Dims, U, cuda>& sequence, const tile_walk<U>& through,
                             bool backwards = false) const {
    const int first = warp * tokens;
    return {sequence, through, place, lane * Together, backwards ? first + tokens - 1 : first, backwards ? -1 : 1};
  }

  /// Whether the lane has something to read at token i, and whether it has at every one.
  __device__ bool reads(int i) const { return active && (on >> i & 1U) != 0; }
  __device__ bool reads_all() const { return active && on == all; }

  /// Starts to copy the lane's words to shared memory, 32 words from token to token; `otherwise` where one does not
  /// count.
  __device__ void fetch(walk_of<const T> walk, A otherwise, word* to) const {
    if (reads_all()) {
      LIGHTNET_UNROLL
      for (int i = 0; i < tokens; ++i) copy_to_shared(to + i * 32, walk.next());
      return;
    }
    word none;
    LIGHTNET_UNROLL
    for (int c = 0; c < Together; ++c) none.channels[c] = static_cast<T>(otherwise);
#pragma unroll 1
    for (int i = 0; i < tokens; ++i) {
      const T* const at = walk.next();
      if (reads(i)) {
        copy_to_shared(to + i * 32, at);
      } else {
        to[i * 32] = none;
      }
    }
  }
  __device__ static A decay(A given) { return decay_in_tile<Recurrence::with_sign, T>(given); }

  /// The tokens' numbers in registers, `otherwise` where one does not count: 16 loads on their way at once.
  __device__ void read(walk_of<const T> walk, A otherwise, A (&to)[tokens]) const {
    LIGHTNET_UNROLL
    for (int i = 0; i < tokens; ++i) {
      const T* const at = walk.next();
      to[i] = otherwise;
      if (reads(i)) to[i] = static_cast<A>(*at);
    }
  }
  /// a of the tokens.
  __device__ void read_decays(walk_of<const T> walk, A (&to)[tokens]) const {
    read(walk, no_decay, to);
    LIGHTNET_UNROLL
    for (int i = 0; i < tokens; ++i) to[i] = decay(to[i]);
  }

  /// Writes the numbers of a token that counts.
  template <class U>
  __device__ static void store(U* to, const numbers& values) {
    __builtin_assume(__isGlobal(to));
    *reinterpret_cast<channel_word<U, Together>*>(to) = narrow<U, Together>(values);
  }
  /// Writes a token's numbers, or adds them to what is there; 0 where the token does not count.
  template <class U>
  __device__ void write(U* to, int i, const numbers& values, bool add) const {
    if (i >= count || !active) return;
    A y[Together], before[Together] = {};
    if (add) widen(*reinterpret_cast<const channel_word<U, Together>*>(to), before);
    LIGHTNET_UNROLL
    for (int c = 0; c < Together; ++c) {
      const A value = (on >> i & 1U) != 0 ? values[c] : A(0);
      y[c] = add ? before[c] + value : value;
    }
    store(to, y);
  }
  /// The number of a part of a state [B, H, d], of a channel of the tile.
  template <class U>
  __device__ U& of(const dynamic_view<3, U, cuda>& part, int offset) const {
    const int heads = place.heads(offset);
    return part(place.line.sequence, place.head + heads, place.channel + offset - heads * from.channels);
  }
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
