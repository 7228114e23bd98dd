// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/lanes.hpp>
#include <lightnet/backend/cpu/parallel.hpp>
#include <lightnet/core/half.hpp>
#include <lightnet/core/head_sequence.hpp>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// y = encoded x of every token and head. x [B, N, H, d], y [B, N, H, d'], cosine and sine [1 or H, N, angles].
template <class Position, int Dims, class T>
void encode_sequence(execution<cpu>& on, const head_sequence<Dims, const T, cpu>& x,
                     const head_sequence<Dims, T, cpu>& y, const dynamic_view<3, const accumulator<T>, cpu>& cosine,
                     const dynamic_view<3, const accumulator<T>, cpu>& sine) {
  using A = accumulator<T>;
  constexpr std::int64_t block = 16;
  const std::int64_t keys = x.channels(), width = y.channels(), tokens = x.tokens(), count = x.batch() * tokens;
  // A dense row is encoded from where it lies, and where all rows outgrow the caches they are written past these.
  const bool dense = std::is_same_v<T, A> && x.channel_stride() == 1 && y.channel_stride() == 1;
  const bool streams = dense && outgrows_caches(count * x.heads() * width * static_cast<std::int64_t>(sizeof(T)));
  execution<cpu>::scope scratch{on};
  A* const rows = scratch.take<A>(on.threads() * (keys + width));
  parallel_for(on, block_range::blocks(block, count), [&](std::int64_t index, int thread) {
    const block_range part{index, block, count};
    A *const from = rows + thread * (keys + width), *const to = from + keys;
    for (std::int64_t item = part.first; item < part.last; ++item) {
      const std::int64_t b = item / tokens, t = item % tokens;
      for (std::int64_t h = 0; h < x.heads(); ++h) {
        const std::int64_t own = cosine.extent(0) == 1 ? 0 : h;
        const T* const source = x.token(b, h, t);
        T* const target = y.token(b, h, t);
        const auto apply = [&](const A* row, A* encoded) {
          Position::apply(row, encoded, &cosine(own, t, 0), &sine(own, t, 0), keys, cosine.extent(2));
        };
        if constexpr (std::is_same_v<T, A>) {
          if (dense) {
            apply(source, streams ? to : target);
            if (streams) stream_row(to, target, width);
            continue;
          }
        }
        for (std::int64_t i = 0; i < keys; ++i) from[i] = static_cast<A>(source[i * x.channel_stride()]);
        apply(from, to);
        for (std::int64_t i = 0; i < width; ++i) target[i * y.channel_stride()] = static_cast<T>(to[i]);
      }
    }
    finish_streaming();
  });
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
