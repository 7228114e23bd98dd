// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/elementwise_tile.cuh>
#include <lightnet/backend/cuda/launch.cuh>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// A sequence of one token, of which every thread has a channel: no other has to be waited for. What it gives has the bits
/// that a tile would.
template <class Recurrence, int Dims, class T, class U>
struct elementwise_step_of_channels {
  using A = accumulator<T>;

  elementwise_arguments<Recurrence, Dims, T, cuda> from;
  elementwise_outputs<Recurrence, Dims, U, cuda> to;

  __device__ void operator()(std::int64_t i) const {
    const std::int64_t b = i / from.row(), h = i % from.row() / from.channels, c = i % from.channels;
    const bool counts = !from.mask || from.mask(b, 0);
    const auto read = [&](const head_sequence<Dims, const T, cuda>& rows) {
      return rows.token(b, h, 0)[c * rows.channel_stride()];
    };
    const A before = from.state.h ? from.state.h(b, h, c) : A(0);
    const A a = counts ? elementwise_tile<T, 1>::template decay<Recurrence::with_sign>(read(from.decay)) : A(1);
    const A after = counts ? multiply_add(a, before, static_cast<A>(read(from.x))) : before;
    if (to.o) {
      U& place = to.o.token(b, h, 0)[c * to.o.channel_stride()];
      const A y = counts ? after : A(0);
      place = static_cast<U>(to.accumulate ? y + static_cast<A>(place) : y);
    }
    if (to.state.h) to.state.h(b, h, c) = after;
    if (to.state.decay) to.state.decay(b, h, c) = (from.state.decay ? from.state.decay(b, h, c) : A(1)) * a;
  }
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
