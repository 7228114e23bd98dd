// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/launch.cuh>
#include <lightnet/core/head_sequence.hpp>

// Sequences as kernels take them that serve grids of any number of dimensions.

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// How a sequence [B, N, H, d] lies in memory.
template <class T>
struct channel_rows {
  T* data = nullptr;
  std::int64_t batch = 0, token = 0, head = 0, channel = 0;  // the strides
  const std::int64_t* ways = nullptr;  // [N] from token 0 to each, where no stride leads from one to the next
  bool in_words = false;               // a token's channels are neighbours, and begin at multiples of 16 bytes

  LIGHTNET_HOST_DEVICE explicit operator bool() const { return data != nullptr; }
  /// The first channel of token t of sequence b.
  __device__ T* at(std::int64_t b, std::int64_t t) const { return data + b * batch + (ways ? ways[t] : t * token); }
};

template <class Sequence>
struct write_ways {
  Sequence sequence;
  std::int64_t* to;
  __device__ void operator()(std::int64_t t) const { to[t] = sequence.token(0, 0, t) - sequence.token(0, 0, 0); }
};

/// The rows of a sequence; `scratch` must outlive them.
template <int Dims, class T>
channel_rows<T> rows_of(execution<cuda>& on, execution<cuda>::scope& scratch, const char* operation,
                        const head_sequence<Dims, T, cuda>& sequence) {
  if (!sequence) return {};
  T* const first = sequence.token(0, 0, 0);
  channel_rows<T> rows{first, sequence.token(1, 0, 0) - first, 0, sequence.token(0, 1, 0) - first,
                       sequence.channel_stride()};
  if (!sequence.evenly_spaced(rows.token)) {
    std::int64_t* const ways = scratch.take<std::int64_t>(sequence.tokens());
    for_each(on, operation, sequence.tokens(), write_ways<head_sequence<Dims, T, cuda>>{sequence, ways});
    rows.ways = ways;
  }
  constexpr auto numbers = static_cast<std::int64_t>(16 / sizeof(T));
  const bool neighbours = rows.channel == 1 && (sequence.heads() == 1 || rows.head == sequence.channels());
  rows.in_words = neighbours && !rows.ways && rows.token % numbers == 0 && rows.batch % numbers == 0 &&
                  sequence.heads() * sequence.channels() % numbers == 0 &&
                  reinterpret_cast<std::uintptr_t>(first) % 16 == 0;
  return rows;
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
