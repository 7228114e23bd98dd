// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/parallel.hpp>
#include <lightnet/core/view.hpp>

#include <algorithm>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// One over the tokens of sequence b that count; 0 where none does.
template <class T>
T token_share(const dynamic_view<2, const bool, cpu>& mask, std::int64_t b, std::int64_t tokens) noexcept {
  std::int64_t count = 0;
  for (std::int64_t t = 0; t < tokens; ++t) count += !mask || mask(b, t) ? 1 : 0;
  return count > 0 ? T(1) / static_cast<T>(count) : T(0);
}

/// y [B, width], the mean of the tokens of x [B, N, width] that are not masked; of none, zero. mask [B, N] or empty; the
/// channels lie densely.
template <class T>
void pool_tokens(execution<cpu>& on, const dynamic_view<3, const T, cpu>& x,
                 const dynamic_view<2, const bool, cpu>& mask, const dynamic_view<2, T, cpu>& y) {
  const std::int64_t tokens = x.extent(1), width = x.extent(2);
  parallel_for(on, x.extent(0), [&](std::int64_t b, int) {
    T* const to = y.data() + b * y.stride(0);
    std::fill_n(to, width, T(0));
    for (std::int64_t t = 0; t < tokens; ++t) {
      if (mask && !mask(b, t)) continue;
      const T* const from = &x(b, t, 0);
      for (std::int64_t i = 0; i < width; ++i) to[i] += from[i];
    }
    const T by = token_share<T>(mask, b, tokens);
    for (std::int64_t i = 0; i < width; ++i) to[i] *= by;
  });
}

/// dx from dy: every token that counts gets its share.
template <class T>
void spread_tokens(execution<cpu>& on, const dynamic_view<2, const T, cpu>& dy,
                   const dynamic_view<2, const bool, cpu>& mask, const dynamic_view<3, T, cpu>& dx) {
  const std::int64_t tokens = dx.extent(1), width = dx.extent(2);
  parallel_for(on, dx.extent(0), [&](std::int64_t b, int) {
    const T* const from = dy.data() + b * dy.stride(0);
    const T by = token_share<T>(mask, b, tokens);
    for (std::int64_t t = 0; t < tokens; ++t) {
      const T weight = mask && !mask(b, t) ? T(0) : by;
      T* const to = &dx(b, t, 0);
      for (std::int64_t i = 0; i < width; ++i) to[i] = weight * from[i];
    }
  });
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
