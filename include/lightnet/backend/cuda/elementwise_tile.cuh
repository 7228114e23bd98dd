// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/tile_chain.cuh>
#include <lightnet/backend/elementwise_operands.hpp>
#include <lightnet/core/math.hpp>

// What a block of the element-wise recurrence works on.

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// What a tile of the element-wise recurrence is.
struct elementwise_tile {
  static constexpr int warp_tokens = 16, warps = 16, tokens = warp_tokens * warps, channels = 32;
};

/// One channel of some tokens of a line. Scattered: no stride leads from each token to the next.
template <bool Scattered, int Dims, class U>
class channel_walk {
 public:
  __device__ channel_walk(const head_sequence<Dims, U, cuda>& sequence, const token_line& line, std::int64_t first,
                          std::int64_t head, std::int64_t channel)
      : sequence_{sequence}, line_{line}, first_{first}, head_{head}, offset_{channel * sequence.channel_stride()} {
    if constexpr (!Scattered) {
      if (!sequence) return;
      at_ = sequence.token(line.batch, head, line.token(first)) + offset_;
      if (line.length > 1) step_ = sequence.token(0, 0, line.first + line.step) - sequence.token(0, 0, line.first);
    }
  }
  __device__ U& operator[](int i) const {
    if constexpr (Scattered) return place(sequence_, line_.batch, head_, line_.token(first_ + i))[offset_];
    return at_[i * step_];
  }

 private:
  // Divisions for each axis, too long to have in a loop that is unrolled.
  __device__ __noinline__ static U* place(const head_sequence<Dims, U, cuda>& sequence, std::int64_t batch,
                                          std::int64_t head, std::int64_t token) {
    return sequence.token(batch, head, token);
  }

  const head_sequence<Dims, U, cuda>& sequence_;
  const token_line& line_;
  std::int64_t first_, head_, offset_;
  U* at_ = nullptr;
  std::int64_t step_ = 0;
};

/// The steps h -> decay h + sum of the tokens of each warp, and of the way back, g -> decay g + returned.
template <class A>
struct warp_steps {
  using rows = A[elementwise_tile::warps][elementwise_tile::channels];
  rows decay, sum, returned;

  /// h before warp `last` from h before the tile.
  __device__ A forward(A h, int last, int lane) const {
    for (int w = 0; w < last; ++w) h = multiply_add(decay[w][lane], h, sum[w][lane]);
    return h;
  }
  /// g after warp `last` from g after the tile.
  __device__ A backward(A g, int last, int lane) const {
    for (int w = static_cast<int>(blockDim.x) / 32 - 1; w > last; --w) {
      g = multiply_add(decay[w][lane], g, returned[w][lane]);
    }
    return g;
  }
  /// The decay of the tile.
  __device__ A product(int lane) const {
    A all = A(1);
    for (int w = 0; w < static_cast<int>(blockDim.x) / 32; ++w) all *= decay[w][lane];
    return all;
  }
};

/// A warp's part of a tile: 16 tokens of a line, 32 channels of which each lane has one.
template <bool Scattered, class Recurrence, int Dims, class T>
struct warp_tile {
  using A = accumulator<T>;
  using tile = elementwise_tile;
  static constexpr int tokens = tile::warp_tokens;

  const elementwise_arguments<Recurrence, Dims, T, cuda>& from;
  token_line line;
  int warp, lane;
  std::int64_t first, column;  // token of the line, channel of the row
  bool active;                 // the lane has a channel
  std::int64_t head, channel;
  int count;
  unsigned on;  // which tokens count, the same for all lanes

  __device__ warp_tile(const elementwise_arguments<Recurrence, Dims, T, cuda>& arguments, const chain_tile& here)
      : from{arguments},
        line{arguments.lines[here.line]},
        warp{static_cast<int>(threadIdx.x) / 32},
        lane{static_cast<int>(threadIdx.x) % 32},
        first{here.index * tile::tokens + warp * tokens},
        column{here.group * tile::channels + lane},
        active{column < arguments.row()},
        head{active ? column / arguments.channels : 0},
        channel{active ? column % arguments.channels : 0} {
    const std::int64_t left = line.length - first;
    count = static_cast<int>(left < 0 ? 0 : left < tokens ? left : tokens);
    on = __ballot_sync(~0U, lane < count && (!from.mask || from.mask(line.batch, line.token(first + lane))));
  }

  template <class U>
  using walk_of = channel_walk<Scattered, Dims, U>;
  template <class U>
  __device__ walk_of<U> walk(const head_sequence<Dims, U, cuda>& sequence) const {
    return {sequence, line, first, head, channel};
  }

  /// Whether the lane has something to read at token i.
  __device__ bool reads(int i) const { return active && (on >> i & 1U) != 0; }

  /// The tokens' numbers in registers, `otherwise` where one does not count: 16 loads on their way at once.
  __device__ void read(const head_sequence<Dims, const T, cuda>& sequence, A otherwise, A (&to)[tokens]) const {
    const auto numbers = walk(sequence);
    LIGHTNET_UNROLL
    for (int i = 0; i < tokens; ++i) {
      to[i] = otherwise;
      if (reads(i)) to[i] = static_cast<A>(numbers[i]);
    }
  }
  /// a; 1 where a token does not count.
  __device__ void read_decays(A (&to)[tokens]) const {
    read(from.decay, Recurrence::with_sign ? A(1) : A(0), to);
    LIGHTNET_UNROLL
    for (int i = 0; i < tokens; ++i) to[i] = decay_of<Recurrence::with_sign>(to[i]);
  }

  /// Writes a token's number, or adds it to what is there; 0 where the token does not count.
  template <class U>
  __device__ void write(const walk_of<U>& to, int i, A value, bool add) const {
    if (i >= count) return;
    const A y = reads(i) ? value : A(0);
    to[i] = static_cast<U>(add ? static_cast<A>(to[i]) + y : y);
  }
  /// The lane's number of a part of a state [B, H, d].
  template <class U>
  __device__ U& of(const dynamic_view<3, U, cuda>& part) const {
    return part(line.sequence, head, channel);
  }
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
