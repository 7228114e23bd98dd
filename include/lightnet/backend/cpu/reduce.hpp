// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/parallel.hpp>
#include <lightnet/core/view.hpp>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Adds what every sequence gave, in the order of the batch: to [H] from shares [B, H].
template <class T>
void sum_shares(execution<cpu>&, const dynamic_view<2, T, cpu>& shares, const dynamic_view<1, T, cpu>& to) {
  for (std::int64_t h = 0; h < to.extent(0); ++h) {
    T sum = T(0);
    for (std::int64_t b = 0; b < shares.extent(0); ++b) sum += shares(b, h);
    to(h) = sum;
  }
}

/// The same for [1 or H, share] from [B, H, share]: heads that share their angles are added too.
template <class T>
void sum_shares(execution<cpu>&, const dynamic_view<3, T, cpu>& shares, const dynamic_view<2, T, cpu>& to) {
  const bool per_head = to.extent(0) == shares.extent(1);
  for (std::int64_t row = 0; row < to.extent(0); ++row) {
    for (std::int64_t j = 0; j < to.extent(1); ++j) {
      T sum = T(0);
      for (std::int64_t b = 0; b < shares.extent(0); ++b) {
        for (std::int64_t h = 0; h < shares.extent(1); ++h) {
          if (!per_head || h == row) sum += shares(b, h, j);
        }
      }
      to(row, j) = sum;
    }
  }
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
