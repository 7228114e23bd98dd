// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/channel_word.cuh>
#include <lightnet/backend/cuda/for_each.cuh>
#include <lightnet/core/half.hpp>
#include <lightnet/core/head_sequence.hpp>

#include <type_traits>

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

/// Four neighbours at a time.
template <class To, class From>
struct convert_word {
  static constexpr int count = 4;
  const channel_word<From, count>* from;
  channel_word<To, count>* to;

  __device__ void operator()(std::int64_t i) const { to[i] = narrow<To>(from[i]); }
};

/// Where all numbers of a sequence are, one after the other, in words of `bytes`; null where they are not.
template <class Sequence>
auto* words_of(const Sequence& sequence, std::size_t bytes) {
  auto* const first = sequence.token(0, 0, 0);
  const std::int64_t channels = sequence.channels(), of_token = sequence.heads() * channels;
  std::int64_t step = 0;
  const bool neighbours = sequence.channel_stride() == 1 && sequence.evenly_spaced(step) &&
                          (sequence.tokens() == 1 || step == of_token) &&
                          (sequence.heads() == 1 || sequence.token(0, 1, 0) - first == channels) &&
                          (sequence.batch() == 1 || sequence.token(1, 0, 0) - first == sequence.tokens() * of_token);
  return neighbours && reinterpret_cast<std::uintptr_t>(first) % bytes == 0 ? first : nullptr;
}

/// Writes a sequence of sums [B, N, H, channels] in a storage type.
template <class To, class From, class ToSequence, class FromSequence>
void convert_sequence(execution<cuda>& on, const FromSequence& from, const ToSequence& to) {
  const std::int64_t count = to.batch() * to.tokens() * to.heads() * to.channels();
  if constexpr (std::is_same_v<From, float> && sizeof(To) == 2) {
    using convert = convert_word<To, From>;
    if (count > 0 && count % convert::count == 0) {
      const auto* const source = words_of(from, sizeof(*convert::from));
      auto* const target = words_of(to, sizeof(*convert::to));
      if (source != nullptr && target != nullptr) {
        return for_each(on, "convert_sequence", count / convert::count,
                        convert{reinterpret_cast<const channel_word<From, convert::count>*>(source),
                                reinterpret_cast<channel_word<To, convert::count>*>(target)});
      }
    }
  }
  for_each_row(on, "convert_sequence", to.batch() * to.tokens() * to.heads(), to.channels(),
               convert_row<To, From, ToSequence, FromSequence>{from, to});
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
