// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/channel_rows.cuh>
#include <lightnet/backend/cuda/channel_word.cuh>
#include <lightnet/backend/cuda/for_each.cuh>
#include <lightnet/backend/cuda/map.cuh>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// How the heads of a token are encoded: `heads` by one thread, which reads `words` of 16 bytes before it writes one.
struct encode_tile {
  static constexpr int threads = 256, blocks = 3, heads = 4, words = 4;
};

/// Channels of a head that are encoded by themselves, as a small row: those of a word of 16 bytes where the width doubles,
/// else the pairs of two such words.
template <class Position, class T>
struct encoded_part {
  static constexpr bool pairs = Position::mixes_channels;
  static constexpr int channels = 16 / sizeof(T), words = pairs ? 2 : 1, keys = words * channels;
  using word = channel_word<T, channels>;

  /// The first channel of a word of part `p` in x and in y, of heads of d channels.
  __device__ static std::int64_t from(std::int64_t p, int w, std::int64_t d) {
    if constexpr (!pairs) return p * channels;
    return Position::turns_neighbours ? (2 * p + w) * channels : w * (d / 2) + p * channels;
  }
  __device__ static std::int64_t to(std::int64_t p, int w, std::int64_t d) {
    return pairs ? from(p, w, d) : w * d + p * channels;
  }
};

/// What is encoded. x [B, N, H, d], y [B, N, H, d'], cosine and sine [1 or H, N, angles], dense.
template <class T>
struct encode_job {
  using A = accumulator<T>;

  channel_rows<const T> x;
  channel_rows<T> y;
  std::int64_t batch, tokens, heads, d, angles;
  bool own_angles;       // those of a head
  bool tables_in_words;  // each token's angles begin at multiples of 16 bytes
  const A *cosine, *sine;

  /// Where the cosines of a head lie among them all, and the sines.
  __device__ std::int64_t table(std::int64_t h, std::int64_t t) const {
    return ((own_angles ? h * tokens : 0) + t) * angles;
  }
};

/// Neighbouring numbers, 16 bytes at a time.
template <class A, int Count>
__device__ void read_channels(const A* from, A (&to)[Count]) {
  constexpr int numbers = 16 / static_cast<int>(sizeof(A));
  LIGHTNET_UNROLL
  for (int i = 0; i < Count; i += numbers) {
    const auto word = *reinterpret_cast<const channel_word<A, numbers>*>(from + i);
    LIGHTNET_UNROLL
    for (int e = 0; e < numbers; ++e) to[i + e] = word.channels[e];
  }
}

// y = encoded x: [x cos, x sin], or pairs of channels turned. Traffic: x once, y once; the cosines and sines, which all
// heads and sequences share, come from a cache. Tile: a part of up to 4 heads of a token for each thread.
template <class Position, class T>
__global__ void __launch_bounds__(encode_tile::threads, encode_tile::blocks)
    encode_kernel(const __grid_constant__ encode_job<T> job, std::int64_t parts, std::int64_t items) {
  using A = accumulator<T>;
  using part = encoded_part<Position, T>;
  using word = typename part::word;
  constexpr int channels = part::channels, at_once = encode_tile::words / part::words;
  const std::int64_t item = static_cast<std::int64_t>(blockIdx.x) * encode_tile::threads + threadIdx.x;
  if (item >= items) return;
  const divided by_part{item, parts};
  const divided by_heads{by_part.quotient, (job.heads + encode_tile::heads - 1) / encode_tile::heads};
  const divided by_token{by_heads.quotient, job.tokens};
  const std::int64_t p = by_part.rest, t = by_token.rest, first = by_heads.rest * encode_tile::heads;
  const T* from = job.x.at(by_token.quotient, t) + first * job.x.head;
  T* to = job.y.at(by_token.quotient, t) + first * job.y.head;
  const int heads = job.heads - first < encode_tile::heads ? static_cast<int>(job.heads - first) : encode_tile::heads;
  const std::int64_t left = job.angles - p * channels;
  const int angles = left < 0 ? 0 : left < channels ? static_cast<int>(left) : channels;
  A c[channels], s[channels];
#pragma unroll 1
  for (int h = 0; h < heads; h += at_once) {
    word given[at_once][part::words];
    LIGHTNET_UNROLL
    for (int n = 0; n < at_once; ++n, from += job.x.head) {
      if (h + n >= heads) continue;
      LIGHTNET_UNROLL
      for (int w = 0; w < part::words; ++w)
        given[n][w] = *reinterpret_cast<const word*>(from + part::from(p, w, job.d));
    }
    LIGHTNET_UNROLL
    for (int n = 0; n < at_once; ++n, to += job.y.head) {
      if (h + n >= heads) continue;
      if (job.own_angles || (n == 0 && h == 0)) {
        const std::int64_t table = job.table(first + h + n, t) + p * channels;
        if (angles == channels && job.tables_in_words) {
          read_channels(job.cosine + table, c);
          read_channels(job.sine + table, s);
        } else {
          LIGHTNET_UNROLL
          for (int i = 0; i < channels; ++i) {
            c[i] = i < angles ? job.cosine[table + i] : A(1);
            s[i] = i < angles ? job.sine[table + i] : A(0);
          }
        }
      }
      A row[part::keys];
      LIGHTNET_UNROLL
      for (int w = 0; w < part::words; ++w) {
        const auto wide = widen(given[n][w]);
        LIGHTNET_UNROLL
        for (int i = 0; i < channels; ++i) row[w * channels + i] = wide.channels[i];
      }
      LIGHTNET_UNROLL
      for (int w = 0; w < 2; ++w) {
        channel_word<A, channels> made;
        LIGHTNET_UNROLL
        for (int i = 0; i < channels; ++i) {
          made.channels[i] = Position::template encoded<A>(row, w * channels + i, c, s, part::keys, angles);
        }
        *reinterpret_cast<word*>(to + part::to(p, w, job.d)) = narrow<T>(made);
      }
    }
  }
}

// The channels [first, last) of a token and head, wherever they lie.
template <class Position, class T>
struct encode_row {
  using A = accumulator<T>;
  struct strided {
    const T* at;
    std::int64_t stride;
    __device__ const T& operator[](std::int64_t i) const { return at[i * stride]; }
  };

  encode_job<T> job;

  __device__ void operator()(std::int64_t row, std::int64_t first, std::int64_t last) const {
    const std::int64_t h = row % job.heads, item = row / job.heads, b = item / job.tokens, t = item % job.tokens;
    const strided from{job.x.at(b, t) + h * job.x.head, job.x.channel};
    T* const to = job.y.at(b, t) + h * job.y.head;
    const A *const cosine = job.cosine + job.table(h, t), *const sine = job.sine + job.table(h, t);
    for (std::int64_t i = first; i < last; ++i) {
      to[i * job.y.channel] = static_cast<T>(Position::template encoded<A>(from, i, cosine, sine, job.d, job.angles));
    }
  }
};

/// y = encoded x of every token and head. x [B, N, H, d], y [B, N, H, d'], cosine and sine [1 or H, N, angles].
template <class Position, int Dims, class T>
void encode_sequence(execution<cuda>& on, const head_sequence<Dims, const T, cuda>& x,
                     const head_sequence<Dims, T, cuda>& y, const dynamic_view<3, const accumulator<T>, cuda>& cosine,
                     const dynamic_view<3, const accumulator<T>, cuda>& sine) {
  constexpr int keys = encoded_part<Position, T>::keys;
  constexpr const char* operation = "encode";
  const std::int64_t rows = x.batch() * x.tokens() * x.heads();
  if (rows == 0) return;
  execution<cuda>::scope scratch{on};
  const auto in_words = [](const auto& table) {
    return table.extent(2) * sizeof(accumulator<T>) % 16 == 0 &&
           reinterpret_cast<std::uintptr_t>(table.data()) % 16 == 0;
  };
  const encode_job<T> job{rows_of(on, scratch, operation, x),
                          rows_of(on, scratch, operation, y),
                          x.batch(),
                          x.tokens(),
                          x.heads(),
                          x.channels(),
                          cosine.extent(2),
                          cosine.extent(0) > 1,
                          in_words(cosine) && in_words(sine),
                          cosine.data(),
                          sine.data()};
  if (job.d % keys == 0 && job.x.in_words && job.y.in_words) {
    const std::int64_t parts = job.d / keys, groups = (job.heads + encode_tile::heads - 1) / encode_tile::heads;
    const std::int64_t items = job.batch * job.tokens * groups * parts;
    launch(on, operation, {(items + encode_tile::threads - 1) / encode_tile::threads, encode_tile::threads},
           encode_kernel<Position, T>, job, parts, items);
  } else {
    for_each_row(on, operation, rows, y.channels(), encode_row<Position, T>{job});
  }
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
