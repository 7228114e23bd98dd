// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/eigen.hpp>
#include <lightnet/backend/cpu/map.hpp>
#include <lightnet/backend/cpu/product.hpp>
#include <lightnet/core/half.hpp>
#include <lightnet/core/view.hpp>

#include <algorithm>
#include <type_traits>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// The same matrix with its axes exchanged.
template <class T, class Device>
dynamic_view<2, T, Device> transposed(const dynamic_view<2, T, Device>& m) {
  return {m.data(), {{m.extent(1), m.extent(0)}}, {m.stride(1), m.stride(0)}};
}

template <class T, int Order>
using eigen_matrix = Eigen::Map<const Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Order>, 0, Eigen::OuterStride<>>;

/// One product on this thread, C[m, n] (+)= A B; rows of C are dense, A and B are dense along one of their axes.
template <class T>
void gemm_block(const dynamic_view<2, const T, cpu>& a, const dynamic_view<2, const T, cpu>& b,
                const dynamic_view<2, T, cpu>& c, bool accumulate) {
  using row_major = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  Eigen::Map<row_major, 0, Eigen::OuterStride<>> to(c.data(), c.extent(0), c.extent(1),
                                                    Eigen::OuterStride<>(c.stride(0)));
  // Eigen would clear its result too, but a strided one element by element.
  for (std::int64_t r = 0; r < c.extent(0) && !accumulate; ++r) std::fill_n(&c(r, 0), c.extent(1), T(0));
  const auto product = [&](const auto& left, const auto& right) { to.noalias() += left * right; };
  const auto with_left = [&](const auto& left) {
    if (b.stride(1) == 1 || b.extent(1) == 1) {
      product(left,
              eigen_matrix<T, Eigen::RowMajor>(b.data(), b.extent(0), b.extent(1), Eigen::OuterStride<>(b.stride(0))));
    } else {
      product(left,
              eigen_matrix<T, Eigen::ColMajor>(b.data(), b.extent(0), b.extent(1), Eigen::OuterStride<>(b.stride(1))));
    }
  };
  if (a.stride(1) == 1 || a.extent(1) == 1) {
    with_left(eigen_matrix<T, Eigen::RowMajor>(a.data(), a.extent(0), a.extent(1), Eigen::OuterStride<>(a.stride(0))));
  } else {
    with_left(eigen_matrix<T, Eigen::ColMajor>(a.data(), a.extent(0), a.extent(1), Eigen::OuterStride<>(a.stride(1))));
  }
}

/// C[m, n] (+)= A[m, k] B[k, n] for a few rows, several, and columns of B that are dense, as those of a layer's weights are.
/// Vectors lie along the rows of C, so that B passes through memory and registers once; A is turned round, and padded with rows
/// of zeros. The bits of a row do not depend on the others.
template <class T>
void gemm_of_few_rows(execution<cpu>& on, const dynamic_view<2, const T, cpu>& a,
                      const dynamic_view<2, const T, cpu>& b, const dynamic_view<2, T, cpu>& c, bool accumulate) {
  constexpr std::int64_t strips = 4, depth_block = 64;
  const std::int64_t m = c.extent(0), n = c.extent(1), k = a.extent(1), padded = whole_lanes<T>(m);
  const std::int64_t strip = padded > lane_count<T> ? block_rows<2> : block_rows<1>, block = strips * strip;
  execution<cpu>::scope scratch{on};
  const tile<T> turned{scratch.take<T>(k * padded), padded};  // [k, padded]
  parallel_for(on, block_range::blocks(depth_block, k), [&](std::int64_t index, int) {
    const block_range part{index, depth_block, k};
    for (std::int64_t s = part.first; s < part.last; ++s) {
      for (std::int64_t r = 0; r < m; ++r) turned.row(s)[r] = a(r, s);
      std::fill(turned.row(s) + m, turned.row(s) + padded, T(0));
    }
  });
  T* const products = scratch.take<T>(on.threads() * block * padded);
  parallel_for(on, block_range::blocks(block, n), [&](std::int64_t index, int thread) {
    const block_range part{index, block, n};
    const tile<T> product{products + thread * block * padded, padded};  // [block, padded]
    for (std::int64_t j = part.first; j < part.last; j += strip) {
      const factors<T> terms{b.data() + j * b.stride(1), b.stride(1), 1, turned.data, padded, k};
      multiply(destination<T>::in(product.from(j - part.first)), std::min(strip, part.last - j), padded, terms);
    }
    for (std::int64_t r = 0; r < m; ++r) {
      for (std::int64_t j = part.first; j < part.last; ++j) {
        const T sum = product.row(j - part.first)[r];
        c(r, j) = accumulate ? c(r, j) + sum : sum;
      }
    }
  });
}

/// The same for one row, in blocks of columns: a product of a matrix and a vector, as fast as the threads read B.
template <class T>
void gemm_of_one_row(execution<cpu>& on, const dynamic_view<2, const T, cpu>& a, const dynamic_view<2, const T, cpu>& b,
                     const dynamic_view<2, T, cpu>& c, bool accumulate) {
  constexpr std::int64_t block = 64;
  const std::int64_t n = c.extent(1);
  parallel_for(on, block_range::blocks(block, n), [&](std::int64_t index, int) {
    const block_range part{index, block, n};
    const std::int64_t count = part.last - part.first;
    gemm_block<T>(a, b.slice(1, part.first, count), c.slice(1, part.first, count), accumulate);
  });
}

/// C[m, n] (+)= A[m, k] B[k, n] on fixed blocks, so that the bits do not depend on the number of threads: of columns of C
/// where it has few rows and those of B are dense, else, by Eigen's serial product, of rows of C or, where C is small and the
/// sum long, segments of k, added pairwise.
template <class T>
void gemm(execution<cpu>& on, const dynamic_view<2, const T, cpu>& a, const dynamic_view<2, const T, cpu>& b,
          const dynamic_view<2, T, cpu>& c, bool accumulate) {
  constexpr std::int64_t few = 64, row_block = 256, depth = 512, small = std::int64_t{1} << 17;
  const std::int64_t m = c.extent(0), n = c.extent(1), k = a.extent(1);
  if (m <= few && b.stride(0) == 1) {
    return m == 1 ? gemm_of_one_row<T>(on, a, b, c, accumulate) : gemm_of_few_rows<T>(on, a, b, c, accumulate);
  }
  if (k <= 2 * depth || m * n > small) {
    parallel_for(on, block_range::blocks(row_block, m), [&](std::int64_t index, int) {
      const block_range part{index, row_block, m};
      gemm_block<T>(a.slice(0, part.first, part.last - part.first), b, c.slice(0, part.first, part.last - part.first),
                    accumulate);
    });
    return;
  }
  const std::int64_t segments = block_range::blocks(depth, k);
  execution<cpu>::scope scratch{on};
  T* const parts = scratch.take<T>(segments * m * n);
  parallel_for(on, segments, [&](std::int64_t index, int) {
    const block_range part{index, depth, k};
    gemm_block<T>(a.slice(1, part.first, part.last - part.first), b.slice(0, part.first, part.last - part.first),
                  {parts + index * m * n, {{m, n}}}, false);
  });
  for (std::int64_t step = 1; step < segments; step *= 2) {
    for (std::int64_t i = 0; i + step < segments; i += 2 * step) {
      T* const to = parts + i * m * n;
      const T* const other = parts + (i + step) * m * n;
      for (std::int64_t j = 0; j < m * n; ++j) to[j] += other[j];
    }
  }
  for (std::int64_t r = 0; r < m; ++r) {
    T* const to = c.data() + r * c.stride(0);
    for (std::int64_t j = 0; j < n; ++j) to[j] = accumulate ? to[j] + parts[r * n + j] : parts[r * n + j];
  }
}

/// C = A B + bias, the bias [n] in every row.
template <class T>
void gemm_with_bias(execution<cpu>& on, const dynamic_view<2, const T, cpu>& a, const dynamic_view<2, const T, cpu>& b,
                    const T* bias, const dynamic_view<2, T, cpu>& c) {
  gemm<T>(on, a, b, c, false);
  map(on, c.extent(0), c.extent(1), add_number{}, c, by_column{bias});
}

/// C = A B, or A B + start where that is given, of types of two bytes: multiplied and added in float, each number of C
/// rounded once.
template <class T, class Start>
void gemm_in_float(execution<cpu>& on, const dynamic_view<2, const T, cpu>& a, const dynamic_view<2, const T, cpu>& b,
                   const dynamic_view<2, T, cpu>& c, const Start* start) {
  const std::int64_t m = c.extent(0), n = c.extent(1);
  execution<cpu>::scope scratch{on};
  const auto wide = [&](const dynamic_view<2, const T, cpu>& of) {
    const bool by_rows = of.stride(1) == 1 || of.extent(1) == 1;
    return by_rows ? widened(on, scratch, of) : transposed(widened(on, scratch, transposed(of)));
  };
  const dynamic_view<2, float, cpu> product{scratch.take<float>(m * n), {{m, n}}};
  if (start) map(on, m, n, convert_number{}, product, *start);
  gemm<float>(on, wide(a), wide(b), product, start != nullptr);
  map(on, m, n, convert_number{}, c, product);
}

template <class T>
  requires(!std::is_same_v<T, accumulator<T>>)
void gemm(execution<cpu>& on, const dynamic_view<2, const T, cpu>& a, const dynamic_view<2, const T, cpu>& b,
          const dynamic_view<2, T, cpu>& c, bool accumulate) {
  gemm_in_float(on, a, b, c, accumulate ? &c : nullptr);
}

template <class T>
  requires(!std::is_same_v<T, accumulator<T>>)
void gemm_with_bias(execution<cpu>& on, const dynamic_view<2, const T, cpu>& a, const dynamic_view<2, const T, cpu>& b,
                    const T* bias, const dynamic_view<2, T, cpu>& c) {
  const by_column<const T> every_row{bias};
  gemm_in_float(on, a, b, c, &every_row);
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
