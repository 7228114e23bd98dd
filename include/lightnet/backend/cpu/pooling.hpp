// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/parallel.hpp>
#include <lightnet/core/half.hpp>
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
/// channels lie densely. Sums of types of two bytes are in float.
template <class T>
void pool_tokens(execution<cpu>& on, const dynamic_view<3, const T, cpu>& x,
                 const dynamic_view<2, const bool, cpu>& mask, const dynamic_view<2, T, cpu>& y) {
  using sum_type = accumulator<T>;
  const std::int64_t tokens = x.extent(1), width = x.extent(2);
  execution<cpu>::scope scratch{on};
  sum_type* const sums_of_all = scratch.take<sum_type>(x.extent(0) * width);
  parallel_for(on, x.extent(0), [&](std::int64_t b, int) {
    sum_type* const sum = sums_of_all + b * width;
    std::fill_n(sum, width, sum_type(0));
    for (std::int64_t t = 0; t < tokens; ++t) {
      if (mask && !mask(b, t)) continue;
      const T* const from = &x(b, t, 0);
      for (std::int64_t i = 0; i < width; ++i) sum[i] += from[i];
    }
    const auto by = token_share<sum_type>(mask, b, tokens);
    T* const to = y.data() + b * y.stride(0);
    for (std::int64_t i = 0; i < width; ++i) to[i] = static_cast<T>(sum[i] * by);
  });
}

/// dx from dy: every token that counts gets its share.
template <class T>
void spread_tokens(execution<cpu>& on, const dynamic_view<2, const T, cpu>& dy,
                   const dynamic_view<2, const bool, cpu>& mask, const dynamic_view<3, T, cpu>& dx) {
  const std::int64_t tokens = dx.extent(1), width = dx.extent(2);
  parallel_for(on, dx.extent(0), [&](std::int64_t b, int) {
    const T* const from = dy.data() + b * dy.stride(0);
    const auto by = token_share<accumulator<T>>(mask, b, tokens);
    for (std::int64_t t = 0; t < tokens; ++t) {
      const auto weight = mask && !mask(b, t) ? accumulator<T>(0) : by;
      T* const to = &dx(b, t, 0);
      for (std::int64_t i = 0; i < width; ++i) to[i] = static_cast<T>(weight * from[i]);
    }
  });
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
