// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/launch.cuh>
#include <lightnet/core/bits.hpp>
#include <lightnet/core/half.hpp>
#include <lightnet/core/math.hpp>
#include <lightnet/core/view.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>

// c_n = sum_k x_k w_nk + start_n: one row times the transpose of a matrix, such as a layer's weights. Least traffic: w once.
// Tile: some rows of w a block, whose warps share a row where it is long; a thread has two times 16 bytes of four rows on their
// way, and asks for the next ones before it adds up what these gave. x lies in shared memory, where every block makes it anew.
// Launched ahead: the first rows of w are on their way before x is there, and where w is constant before the kernels that make
// x have ended.

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

template <class T>
struct row_product {
  using A = accumulator<T>;
  static constexpr int lanes = 32, warps = 8, threads = warps * lanes, rows = 4, pieces = 2;
  static constexpr int blocks_of_processor = 2, usual_blocks = 264;  // of a GPU with 132 processors
  static constexpr int width = 16 / static_cast<int>(sizeof(T));
  static constexpr std::int64_t longest = 96 * 1024 / static_cast<std::int64_t>(sizeof(T));  // of x, in shared memory
  static constexpr std::int64_t most_rows = std::int64_t{1} << 30;
  struct alignas(16) piece {
    T values[width];
  };

  const T* w;             // [n, k]
  std::int64_t w_stride;  // from row to row
  T* c;                   // [n]
  std::int64_t n, k;
  int split;  // how many warps share a row

  /// Of matrices that takes() accepts.
  static row_product of(const dynamic_view<2, const T, cuda>& b, const dynamic_view<2, T, cuda>& product) noexcept {
    const std::int64_t n = product.extent(1), k = b.extent(0);
    return {b.data(), b.stride(1), product.data(), n, k, best_split(n, k)};
  }
  static bool whole(const T* at) noexcept { return reinterpret_cast<std::uintptr_t>(at) % sizeof(piece) == 0; }
  /// Whether addresses and distances are whole pieces, and x fits.
  static bool takes(const dynamic_view<2, const T, cuda>& b, const dynamic_view<2, T, cuda>& product) noexcept {
    return product.extent(0) == 1 && b.stride(0) == 1 && product.stride(1) == 1 && b.extent(0) % width == 0 &&
           b.stride(1) % width == 0 && whole(b.data()) && b.extent(0) <= longest && product.extent(1) <= most_rows;
  }
  /// How often a thread loads its pieces of a row that as many warps share.
  static LIGHTNET_HOST_DEVICE std::int64_t turns(std::int64_t k, int split) noexcept {
    const std::int64_t at_once = std::int64_t{split} * pieces * lanes * width;
    return (k + at_once - 1) / at_once;
  }
  /// The way to share rows that takes the fewest turns: the order of a sum depends on n and k alone.
  static int best_split(std::int64_t n, std::int64_t k) noexcept {
    int best = 0;
    std::int64_t fewest = 0;
    for (int split = warps; split >= 1; split /= 2) {
      const std::int64_t at_once = std::int64_t{usual_blocks} * (warps / split) * rows;
      const std::int64_t count = (n + at_once - 1) / at_once * turns(k, split);
      if (best != 0 && count >= fewest) continue;
      best = split;
      fewest = count;
    }
    return best;
  }

  /// Rows of w that a block takes at a time.
  LIGHTNET_HOST_DEVICE int rows_at_once() const noexcept { return warps / split * rows; }
  launch_shape shape(int processors) const noexcept {
    const std::int64_t all = (n + rows_at_once() - 1) / rows_at_once();
    return {std::min<std::int64_t>(all, std::int64_t{processors} * blocks_of_processor), threads,
            static_cast<std::size_t>(k) * sizeof(T)};
  }
};

/// x in memory, from a multiple of 16 bytes on.
template <class T>
struct given_row {
  using piece = typename row_product<T>::piece;
  const T* x;
  static bool takes(const dynamic_view<2, const T, cuda>& a) noexcept {
    return a.stride(1) == 1 && row_product<T>::whole(a.data());
  }
  __device__ void prepare() const noexcept {}
  __device__ void write(T* to, std::int64_t k) const noexcept {
    const int length = static_cast<int>(k / row_product<T>::width);
#pragma unroll 4
    for (int i = static_cast<int>(threadIdx.x); i < length; i += row_product<T>::threads) {
      reinterpret_cast<piece*>(to)[i] = reinterpret_cast<const piece*>(x)[i];
    }
  }
};

/// What a sum starts with: a number of a row, which may be c, or nothing.
template <class T>
struct plus_row {
  static constexpr int parts = 1;
  const T* row;
  __device__ accumulator<T> start(int n) const noexcept {
    return row ? static_cast<accumulator<T>>(row[n]) : accumulator<T>(0);
  }
  __device__ void go_on(int, const T&) const noexcept {}
};

// `row` writes x to shared memory; `then` says what a sum starts with and goes on with what it gave: with one number, or with two
// that lie half a row of c apart, whose rows of w a block then takes together.
template <bool ConstantWeights, class T, class Row, class Then, class... Operand>
__global__ void __launch_bounds__(row_product<T>::threads, 4)
    row_product_kernel(row_product<T> of, Row row, Then then, Operand... operands) {
  using product = row_product<T>;
  using piece = typename product::piece;
  using A = typename product::A;
  constexpr int rows = product::rows, pieces = product::pieces, width = product::width, lanes = product::lanes;
  constexpr int warps = product::warps;
  extern __shared__ __align__(16) unsigned char shared_memory[];
  __shared__ A partial[2][warps][rows];  // of two turns, so that one barrier keeps them apart
  auto* const x = reinterpret_cast<piece*>(shared_memory);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % lanes, warp = thread / lanes;
  const int split = of.split, at_once = of.rows_at_once(), length = static_cast<int>(of.k / width);  // in pieces
  const int n = static_cast<int>(of.n), stride = static_cast<int>(gridDim.x) * at_once;
  constexpr int pair = rows / Then::parts;  // rows of a thread that lie side by side
  const auto row_of_w = [&](int i) {
    return Then::parts == 1 ? i : i / rows * pair + i % pair + i % rows / pair * (n / 2);
  };
  int first = static_cast<int>(blockIdx.x) * at_once;  // of the block's rows
  uint4 w[rows][pieces];                               // pieces
  A sum[rows] = {};
  const int begin = warp % split * lanes + lane, step = split * lanes;  // of a thread's pieces
  // What is not there reads what is there instead, for a branch would wait for the load before it.
  const auto load = [&](int of_block, int at) {
    const int of_warp = of_block + warp / split * rows;
    LIGHTNET_UNROLL
    for (int r = 0; r < rows; ++r) {
      const auto* const from = reinterpret_cast<const uint4*>(of.w + min(row_of_w(of_warp + r), n - 1) * of.w_stride);
      LIGHTNET_UNROLL
      for (int p = 0; p < pieces; ++p) w[r][p] = from[min(at + p * step, length - 1)];
    }
  };
  if constexpr (ConstantWeights) load(first, begin);
  row.prepare(operands...);
  wait_for_earlier_kernels();
  if constexpr (!ConstantWeights) load(first, begin);
  row.write(reinterpret_cast<T*>(shared_memory), of.k, operands...);
  __syncthreads();
#pragma unroll 1
  for (int parity = 0; first < n; first += stride, parity ^= 1) {
#pragma unroll 1
    for (int at = begin; at - begin < length; at += pieces * step) {
      LIGHTNET_UNROLL
      for (int p = 0; p < pieces; ++p) {
        if (at + p * step >= length) continue;
        const piece by = x[at + p * step];
        LIGHTNET_UNROLL
        for (int r = 0; r < rows; ++r) {
          const auto with = bits_as<piece>(w[r][p]);
          LIGHTNET_UNROLL
          for (int v = 0; v < width; ++v) {
            sum[r] = multiply_add(static_cast<A>(with.values[v]), static_cast<A>(by.values[v]), sum[r]);
          }
        }
      }
      const bool last = at - begin + pieces * step >= length;
      if (!last || first + stride < n) load(last ? first + stride : first, last ? begin : at + pieces * step);
    }
    if (first + stride >= n) let_next_kernel_begin();  // not before, for its blocks would lie unevenly beside these
    const bool ends = thread < at_once && first + thread < n;
    const int place = row_of_w(first + thread);
    const A start = ends ? then.start(place) : A(0);
    LIGHTNET_UNROLL
    for (int r = 0; r < rows; ++r) {
      for (int distance = lanes / 2; distance > 0; distance /= 2) sum[r] += __shfl_xor_sync(~0U, sum[r], distance);
      if (lane == 0) partial[parity][warp][r] = sum[r];
      sum[r] = A(0);
    }
    __syncthreads();
    const auto rounded = [&](int i, A all) {
#pragma unroll 1
      for (int share = 0; share < split; ++share) all += partial[parity][i / rows * split + share][i % rows];
      return static_cast<T>(all);
    };
    if (!ends) continue;
    const T number = rounded(thread, start);
    of.c[place] = number;
    if constexpr (Then::parts == 1) {
      then.go_on(place, number);
    } else {
      if (thread % rows < pair) then.go_on(place, number, rounded(thread + pair, A(0)));
    }
  }
}

template <class T, class Row, class Then, class... Operand>
void launch_row_product(execution<cuda>& on, const row_product<T>& of, const Row& row, const Then& then,
                        const Operand&... operands) {
  launch_ahead(on, "gemm", of.shape(on.processors()),
               on.weights_are_constant() ? row_product_kernel<true, T, Row, Then, Operand...>
                                         : row_product_kernel<false, T, Row, Then, Operand...>,
               of, row, then, operands...);
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
