// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/launch.cuh>
#include <lightnet/core/half.hpp>
#include <lightnet/core/math.hpp>
#include <lightnet/core/view.hpp>

#include <algorithm>
#include <cstdint>

// c_n (+)= sum_k x_k w_nk: one row times the transpose of a matrix, such as a layer's weights. Least traffic: w once. Tile: two
// rows of w a warp, of each 16 bytes a thread, four times before the first are used; x comes from a cache.

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

template <class T>
struct row_product {
  using A = accumulator<T>;
  static constexpr int lanes = 32, warps = 4, threads = warps * lanes, rows = 2, ahead = 4;
  static constexpr int width = 16 / static_cast<int>(sizeof(T));
  struct alignas(16) piece {
    T values[width];
  };

  const T* x;             // [k]
  const T* w;             // [n, k]
  std::int64_t w_stride;  // from row to row
  T* c;                   // [n]
  std::int64_t n, k;
  bool accumulate;

  static std::int64_t blocks(std::int64_t n) noexcept { return (n + warps * rows - 1) / (warps * rows); }

  /// Whether addresses and distances are whole pieces.
  static bool takes(const dynamic_view<2, const T, cuda>& a, const dynamic_view<2, const T, cuda>& b,
                    const dynamic_view<2, T, cuda>& product) noexcept {
    const auto whole = [](const T* at) { return reinterpret_cast<std::uintptr_t>(at) % sizeof(piece) == 0; };
    return a.extent(0) == 1 && a.stride(1) == 1 && b.stride(0) == 1 && product.stride(1) == 1 &&
           a.extent(1) % width == 0 && b.stride(1) % width == 0 && whole(a.data()) && whole(b.data());
  }
};

template <class T>
__global__ void __launch_bounds__(row_product<T>::threads) row_product_kernel(row_product<T> of) {
  using product = row_product<T>;
  using piece = typename product::piece;
  using A = typename product::A;
  constexpr int rows = product::rows, ahead = product::ahead, width = product::width, lanes = product::lanes;
  const int lane = static_cast<int>(threadIdx.x) % lanes, warp = static_cast<int>(threadIdx.x) / lanes;
  const std::int64_t first = (static_cast<std::int64_t>(blockIdx.x) * product::warps + warp) * rows;
  if (first >= of.n) return;
  const T* row[rows];
  LIGHTNET_UNROLL
  for (int r = 0; r < rows; ++r) row[r] = of.w + min(first + r, of.n - 1) * of.w_stride;
  A sum[rows] = {};
  for (std::int64_t start = lane * width; start < of.k; start += ahead * lanes * width) {
    piece x[ahead] = {}, w[rows][ahead] = {};
    LIGHTNET_UNROLL
    for (int i = 0; i < ahead; ++i) {
      const std::int64_t at = start + i * lanes * width;
      if (at >= of.k) continue;
      x[i] = *reinterpret_cast<const piece*>(of.x + at);
      LIGHTNET_UNROLL
      for (int r = 0; r < rows; ++r) w[r][i] = *reinterpret_cast<const piece*>(row[r] + at);
    }
    LIGHTNET_UNROLL
    for (int i = 0; i < ahead; ++i) {
      if (start + i * lanes * width >= of.k) continue;
      LIGHTNET_UNROLL
      for (int v = 0; v < width; ++v) {
        const A factor = static_cast<A>(x[i].values[v]);
        LIGHTNET_UNROLL
        for (int r = 0; r < rows; ++r) sum[r] = multiply_add(static_cast<A>(w[r][i].values[v]), factor, sum[r]);
      }
    }
  }
  LIGHTNET_UNROLL
  for (int r = 0; r < rows; ++r) {
    for (int distance = lanes / 2; distance > 0; distance /= 2) sum[r] += __shfl_xor_sync(~0U, sum[r], distance);
    if (lane != r || first + r >= of.n) continue;
    T& to = of.c[first + r];
    to = static_cast<T>(of.accumulate ? static_cast<A>(to) + sum[r] : sum[r]);
  }
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
