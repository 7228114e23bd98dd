// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/for_each.cuh>
#include <lightnet/core/half.hpp>
#include <lightnet/core/view.hpp>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

inline constexpr int pooled_lines = 16;  ///< the tokens that a block of the kernels below takes at a time, a warp each

/// The sum of one number a warp, in their order; the whole block calls it, every thread of a column of 32 with its own
/// number, and the threads of the first warp get the sums.
template <class A>
__device__ A sum_of_lines(A x) {
  __shared__ A of_line[pooled_lines][33];
  const unsigned line = threadIdx.x / 32, lane = threadIdx.x % 32;
  __syncthreads();
  of_line[line][lane] = x;
  __syncthreads();
  A total = A(0);
  for (int i = 0; i < pooled_lines; ++i) total += of_line[i][lane];
  return total;
}

// y[b, i] = sum_t x[b, t, i] / sum_t 1 over the tokens t that are not masked. Traffic: x and the mask once, y once. Tile:
// 32 channels of a sequence, each warp takes every 16th token.
template <class T>
__global__ void __launch_bounds__(32 * pooled_lines)
    pool_tokens_kernel(dynamic_view<3, const T, cuda> x, dynamic_view<2, const bool, cuda> mask,
                       dynamic_view<2, T, cuda> y) {
  using sum_type = accumulator<T>;
  const std::int64_t tokens = x.extent(1), width = x.extent(2), tiles = (width + 31) / 32;
  const std::int64_t b = blockIdx.x / tiles, i = blockIdx.x % tiles * 32 + threadIdx.x % 32;
  sum_type sum(0);
  std::int64_t count = 0;
  for (std::int64_t t = threadIdx.x / 32; t < tokens; t += pooled_lines) {
    if (mask && !mask(b, t)) continue;
    ++count;
    if (i < width) sum += static_cast<sum_type>(x(b, t, i));
  }
  sum = sum_of_lines(sum);
  count = sum_of_lines(count);
  if (threadIdx.x >= 32 || i >= width) return;
  y(b, i) = static_cast<T>(count > 0 ? sum * (sum_type(1) / static_cast<sum_type>(count)) : sum_type(0));
}

/// y [B, width], the mean of the tokens of x [B, N, width] that are not masked; of none, zero. mask [B, N] or empty.
template <class T>
void pool_tokens(execution<cuda>& on, const dynamic_view<3, const T, cuda>& x,
                 const dynamic_view<2, const bool, cuda>& mask, const dynamic_view<2, T, cuda>& y) {
  const std::int64_t tiles = (x.extent(2) + 31) / 32;
  launch(on, "pool_tokens", {x.extent(0) * tiles, 32 * pooled_lines}, pool_tokens_kernel<T>, x, mask, y);
}

// shares[b] = 1 / sum_t 1 over the tokens t that are not masked, or 0. Traffic: the mask once. Tile: a sequence.
template <class A>
__global__ void __launch_bounds__(32 * pooled_lines)
    token_shares_kernel(dynamic_view<2, const bool, cuda> mask, A* shares) {
  const std::int64_t b = blockIdx.x;
  std::int64_t count = 0;
  for (std::int64_t t = threadIdx.x; t < mask.extent(1); t += 32 * pooled_lines) count += mask(b, t) ? 1 : 0;
  count = sum_of_lines(count);
  for (int offset = 16; offset > 0; offset /= 2) count += __shfl_down_sync(~0U, count, offset);
  if (threadIdx.x == 0) shares[b] = count > 0 ? A(1) / static_cast<A>(count) : A(0);
}

template <class T>
struct spread_row {
  using sum_type = accumulator<T>;
  dynamic_view<2, const T, cuda> dy;
  dynamic_view<2, const bool, cuda> mask;
  dynamic_view<3, T, cuda> dx;
  const sum_type* shares;  // [B] where there is a mask
  sum_type share_of_all;

  __device__ void operator()(std::int64_t row, std::int64_t first, std::int64_t last) const {
    const std::int64_t b = row / dx.extent(1), t = row % dx.extent(1);
    const sum_type weight = !mask ? share_of_all : (mask(b, t) ? shares[b] : sum_type(0));
    for (std::int64_t i = first; i < last; ++i) {
      dx(b, t, i) = static_cast<T>(weight * static_cast<sum_type>(dy(b, i)));
    }
  }
};

/// dx from dy: every token that counts gets its share.
template <class T>
void spread_tokens(execution<cuda>& on, const dynamic_view<2, const T, cuda>& dy,
                   const dynamic_view<2, const bool, cuda>& mask, const dynamic_view<3, T, cuda>& dx) {
  using sum_type = accumulator<T>;
  const std::int64_t batch = dx.extent(0), tokens = dx.extent(1);
  if (dx.size() == 0) return;
  execution<cuda>::scope scratch{on};
  sum_type* shares = nullptr;
  if (mask) {
    shares = scratch.take<sum_type>(batch);
    launch(on, "spread_tokens", {batch, 32 * pooled_lines}, token_shares_kernel<sum_type>, mask, shares);
  }
  const spread_row<T> body{dy, mask, dx, shares, sum_type(1) / static_cast<sum_type>(tokens)};
  for_each_row(on, "spread_tokens", batch * tokens, dx.extent(2), body);
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
