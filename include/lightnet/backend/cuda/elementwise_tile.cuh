// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/channel_word.cuh>
#include <lightnet/backend/cuda/tile_chain.cuh>
#include <lightnet/backend/elementwise_operands.hpp>
#include <lightnet/core/math.hpp>

// What a block of the element-wise recurrence works on.

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Tokens of a tile, and how the warps of a block share them out: 16 KiB of a tensor in each stage of shared memory.
template <class A>
struct elementwise_tile {
  static constexpr int warp_tokens = 16, warps = 64 / static_cast<int>(sizeof(A)), tokens = warp_tokens * warps;
};

/// Where a tile lies: its line, and the first of its channels in the row and in its head.
struct tile_place {
  chain_tile tile;
  token_line line;
  std::int64_t column, head, channel;
};

/// Where the tile of a number lies. Divisions: a thread for all of its block.
template <class Arguments, class A>
__device__ tile_place place_of(const Arguments& from, const tile_chain<A>& chain, unsigned number, int channels,
                               bool backward) {
  const chain_tile tile = chain.tile(from.lines, number, backward);
  const std::int64_t column = tile.group * channels, head = column / from.channels;
  return {tile, from.lines[tile.line], column, head, column - head * from.channels};
}

/// The head and channel of a channel of a tile.
struct channel_place {
  std::int64_t head, channel;

  __device__ channel_place(const tile_place& place, std::int64_t channels, int offset)
      : head{place.head}, channel{place.channel + offset} {
    if (channel < channels) return;
    channel -= channels;  // less than 64 now: a tile may have several narrow heads
    const unsigned left = static_cast<unsigned>(channel), width = channels < 64 ? static_cast<unsigned>(channels) : 64;
    head += 1 + left / width;
    channel = left % width;
  }
};

/// e^x within 2 ulp for a log decay x <= 0, else NaN, by the processor's 2^f with |f| <= 1/2: three fifths of the
/// instructions of decay_of_logarithm, for the sequences of which twice as many tokens come in the same time.
__device__ inline float quick_decay_of_logarithm(float x) {
  constexpr float low = -104;                  // e^low is nothing
  constexpr float rounder = 3 * 0x1p22F + 64;  // leaves the nearest integer + 64 in the lowest bits of a sum
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

/// How a sequence lies along a line: its first number, and the way to the next token, head and channel.
template <class U>
struct line_walk {
  U* at;
  std::int64_t token, head, channel;
};

/// Of a sequence that is evenly spaced; of others no more than the way to the next channel is known.
template <int Dims, class U>
__device__ line_walk<U> walk_along(const head_sequence<Dims, U, cuda>& sequence, const token_line& line) {
  std::int64_t stride = 0;
  if (!sequence.evenly_spaced(stride)) return {nullptr, 0, 0, sequence.channel_stride()};
  U* const first = sequence.token(line.batch, 0, 0);
  return {first + line.first * stride, line.step * stride, sequence.token(line.batch, 1, 0) - first,
          sequence.channel_stride()};
}

/// One channel of some tokens of a line, one after another. Scattered: no stride leads from each token to the next.
template <bool Scattered, int Dims, class U>
class channel_walk {
 public:
  /// From token `first` on, or back from there.
  __device__ channel_walk(const head_sequence<Dims, U, cuda>& sequence, const line_walk<U>& along,
                          const token_line& line, const channel_place& place, std::int64_t first, int direction) {
    if constexpr (Scattered) {
      sequence_ = &sequence;
      batch_ = line.batch;
      head_ = place.head;
      offset_ = place.channel * along.channel;
      token_ = line.token(first);
      step_ = direction * line.step;
    } else {
      at_ = along.at + first * along.token + place.head * along.head + place.channel * along.channel;
      step_ = direction * along.token;
    }
  }
  /// The number of this token; the walk goes on to the next one.
  __device__ U* next() {
    U* at = at_;
    if constexpr (Scattered) {
      at = place(*sequence_, batch_, head_, token_) + offset_;
      token_ += step_;
    } else {
      at_ += step_;
    }
    return at;
  }

 private:
  // Divisions for each axis, too long to have in a loop that is unrolled.
  __device__ __noinline__ static U* place(const head_sequence<Dims, U, cuda>& sequence, std::int64_t batch,
                                          std::int64_t head, std::int64_t token) {
    return sequence.token(batch, head, token);
  }

  U* at_ = nullptr;
  const head_sequence<Dims, U, cuda>* sequence_ = nullptr;
  std::int64_t batch_ = 0, head_ = 0, offset_ = 0, token_ = 0, step_ = 0;
};

/// The steps h -> decay h + sum of the tokens of each warp.
template <class A, int Channels>
struct warp_steps {
  using rows = A[elementwise_tile<A>::warps][Channels];
  rows decay, sum;

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
  /// The decay of the warps before `last`.
  __device__ A product(int last, int channel) const {
    A all = A(1);
    for (int w = 0; w < last; ++w) all *= decay[w][channel];
    return all;
  }
};

/// A warp's part of a tile: 16 tokens of a line; each lane has `Together` neighbouring channels.
template <bool Scattered, int Together, class Recurrence, int Dims, class T>
struct warp_tile {
  using A = accumulator<T>;
  using tile = elementwise_tile<A>;
  using word = channel_word<T, Together>;
  using numbers = A[Together];
  static constexpr int tokens = tile::warp_tokens, channels = 32 * Together;

  const elementwise_arguments<Recurrence, Dims, T, cuda>& from;
  const tile_place& place;
  int warp, lane;
  std::int64_t first;  // token of the line
  bool active;         // the lane has channels
  int count;
  unsigned on;  // which tokens count, the same for all lanes

  __device__ warp_tile(const elementwise_arguments<Recurrence, Dims, T, cuda>& arguments, const tile_place& at)
      : from{arguments},
        place{at},
        warp{static_cast<int>(threadIdx.x) / 32},
        lane{static_cast<int>(threadIdx.x) % 32},
        first{at.tile.index * tile::tokens + warp * tokens},
        active{at.column + lane * Together < arguments.row()} {
    const std::int64_t left = at.line.length - first;
    count = static_cast<int>(left < 0 ? 0 : left < tokens ? left : tokens);
    on = count == 0 ? 0 : ~0U >> (32 - count);
    if (from.mask) {
      on = __ballot_sync(~0U, lane < count && from.mask(at.line.batch, at.line.token(first + lane)));
    }
  }

  template <class U>
  using walk_of = channel_walk<Scattered, Dims, U>;
  /// The lane's first channel, from the warp's first token on or, backwards, from its last one.
  template <class U>
  __device__ walk_of<U> walk(const head_sequence<Dims, U, cuda>& sequence, const line_walk<U>& along,
                             bool backwards = false) const {
    const channel_place at{place, from.channels, active ? lane * Together : 0};
    return {sequence, along, place.line, at, backwards ? first + tokens - 1 : first, backwards ? -1 : 1};
  }

  /// Whether the lane has something to read at token i.
  __device__ bool reads(int i) const { return active && (on >> i & 1U) != 0; }

  /// Starts to copy the lane's words to shared memory, 32 words from token to token; `otherwise` where one does not
  /// count.
  __device__ void fetch(walk_of<const T> numbers_of, A otherwise, word* to) const {
    word none;
    LIGHTNET_UNROLL
    for (int c = 0; c < Together; ++c) none.channels[c] = static_cast<T>(otherwise);
#pragma unroll 4
    for (int i = 0; i < tokens; ++i) {
      const T* const at = numbers_of.next();
      if (reads(i)) {
        copy_to_shared(to + i * 32, at);
      } else {
        to[i * 32] = none;
      }
    }
  }
  __device__ static A decay(A given) { return decay_in_tile<Recurrence::with_sign, T>(given); }
  /// The number of a token that does not count: a = 1, and -0 leaves every h as it is.
  static constexpr A no_decay = Recurrence::with_sign ? A(1) : A(0), no_input = A(-0.0);

  /// The tokens' numbers in registers, `otherwise` where one does not count: 16 loads on their way at once.
  __device__ void read(walk_of<const T> numbers_of, A otherwise, A (&to)[tokens]) const {
    LIGHTNET_UNROLL
    for (int i = 0; i < tokens; ++i) {
      const T* const at = numbers_of.next();
      to[i] = otherwise;
      if (reads(i)) to[i] = static_cast<A>(*at);
    }
  }
  /// a of the tokens.
  __device__ void read_decays(walk_of<const T> numbers_of, A (&to)[tokens]) const {
    read(numbers_of, no_decay, to);
    LIGHTNET_UNROLL
    for (int i = 0; i < tokens; ++i) to[i] = decay(to[i]);
  }

  /// Writes a token's numbers, or adds them to what is there; 0 where the token does not count.
  template <class U>
  __device__ void write(U* to, int i, const numbers& values, bool add) const {
    A y[Together];
    LIGHTNET_UNROLL
    for (int c = 0; c < Together; ++c) y[c] = (on >> i & 1U) != 0 ? values[c] : A(0);
    if (i >= count || !active) return;
    __builtin_assume(__isGlobal(to));
    auto& at = *reinterpret_cast<channel_word<U, Together>*>(to);
    if (add) {
      A before[Together];
      widen(at, before);
      LIGHTNET_UNROLL
      for (int c = 0; c < Together; ++c) y[c] += before[c];
    }
    at = narrow<U, Together>(y);
  }
  /// The number of a part of a state [B, H, d], of a channel of the tile.
  template <class U>
  __device__ U& of(const dynamic_view<3, U, cuda>& part, int offset) const {
    const channel_place at{place, from.channels, offset};
    return part(place.line.sequence, at.head, at.channel);
  }
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
