// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/parallel.hpp>
#include <lightnet/core/random.hpp>
#include <lightnet/core/view.hpp>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

template <class T, class Draw>
void fill_random(execution<cpu>& on, std::uint64_t first, const dynamic_view<1, T, cpu>& to, const Draw& draw) {
  constexpr std::int64_t block = 4096;
  const std::int64_t count = to.size();
  parallel_for(on, block_range::blocks(block, count), [&](std::int64_t index, int) {
    const block_range part{index, block, count};
    for (std::int64_t i = part.first; i < part.last; ++i) {
      to(i) = static_cast<T>(draw(first + static_cast<std::uint64_t>(i)));
    }
  });
}

}  // namespace detail

/// Numbers `first`, `first` + 1, ... of a stream, uniform in (0, 1). to [n].
template <class T>
void fill_uniform(execution<cpu>& on, const random_stream& stream, std::uint64_t first,
                  const dynamic_view<1, T, cpu>& to) {
  detail::fill_random(on, first, to, [&](std::uint64_t i) { return stream.uniform(i); });
}

/// Numbers `first`, `first` + 1, ... of a stream, standard normal. to [n].
template <class T>
void fill_normal(execution<cpu>& on, const random_stream& stream, std::uint64_t first,
                 const dynamic_view<1, T, cpu>& to) {
  detail::fill_random(on, first, to, [&](std::uint64_t i) { return stream.normal(i); });
}

LIGHTNET_END_NAMESPACE
