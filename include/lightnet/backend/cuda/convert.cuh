// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/for_each.cuh>
#include <lightnet/core/half.hpp>
#include <lightnet/core/head_sequence.hpp>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

template <class To, class From, class ToSequence, class FromSequence>
struct convert_row {
  FromSequence from;
  ToSequence to;

  __device__ void operator()(std::int64_t row, std::int64_t first, std::int64_t last) const {
    const std::int64_t item = row / to.heads(), h = row % to.heads();
    const std::int64_t b = item / to.tokens(), t = item % to.tokens();
    const From* const source = from.token(b, h, t);
    To* const target = to.token(b, h, t);
    for (std::int64_t i = first; i < last; ++i) {
      target[i * to.channel_stride()] = static_cast<To>(source[i * from.channel_stride()]);
    }
  }
};

/// Writes a sequence of sums [B, N, H, channels] in a storage type.
template <class To, class From, class ToSequence, class FromSequence>
void convert_sequence(execution<cuda>& on, const FromSequence& from, const ToSequence& to) {
  for_each_row(on, "convert_sequence", to.batch() * to.tokens() * to.heads(), to.channels(),
               convert_row<To, From, ToSequence, FromSequence>{from, to});
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
