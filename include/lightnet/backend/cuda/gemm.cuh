// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/map.cuh>
#include <lightnet/backend/cuda/row_product.cuh>
#include <lightnet/core/half.hpp>

#include <bit>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

template <class T>
struct blas_type;
template <>
struct blas_type<float> {
  static constexpr cudaDataType_t value = CUDA_R_32F;
};
template <>
struct blas_type<double> {
  static constexpr cudaDataType_t value = CUDA_R_64F;
};
template <>
struct blas_type<bfloat16> {
  static constexpr cudaDataType_t value = CUDA_R_16BF;
};
template <>
struct blas_type<float16> {
  static constexpr cudaDataType_t value = CUDA_R_16F;
};

/// The largest power of two that divides an address or a distance in bytes, 16 at most.
inline std::int64_t alignment_of(std::uint64_t bytes) noexcept {
  return std::int64_t{1} << std::countr_zero(bytes | 16);
}

/// A matrix of a view as the library sees it, who takes the rows of ours for its columns: transposed where ours is dense
/// along its first axis. An axis of one element has any stride.
template <class T>
blas_matrix blas_matrix_of(const dynamic_view<2, T, cuda>& m, std::int64_t batch_stride = 0) {
  using value = std::remove_const_t<T>;
  const bool by_rows = m.stride(1) == 1 || m.extent(1) == 1;
  const std::size_t dense = by_rows ? 1 : 0;
  // The leading dimension of a matrix with one row or column is never used, but is checked.
  const std::int64_t leading = m.extent(1 - dense) == 1 ? m.extent(dense) : m.stride(1 - dense);
  blas_matrix as{blas_type<value>::value, m.extent(1), m.extent(0), leading, !by_rows, batch_stride};
  const auto bytes = [](std::int64_t elements) { return static_cast<std::uint64_t>(elements) * sizeof(T); };
  as.alignment = alignment_of(reinterpret_cast<std::uintptr_t>(m.data()) | bytes(leading) | bytes(batch_stride));
  return as;
}

/// Whether the library takes these strides: it wants rows, or columns, one after the other.
template <class T>
bool takes_strides(const dynamic_view<2, T, cuda>& m) {
  const bool by_rows = m.stride(1) == 1 || m.extent(1) == 1, by_columns = m.stride(0) == 1 || m.extent(0) == 1;
  return (by_rows && (m.extent(0) == 1 || m.stride(0) >= m.extent(1))) ||
         (by_columns && !by_rows && (m.extent(1) == 1 || m.stride(1) >= m.extent(0)));
}

template <class T>
struct copy_matrix {
  const T* from;
  std::int64_t from_row, from_column;
  T* to;
  std::int64_t to_row, to_column, columns;
  __device__ void operator()(std::int64_t i) const noexcept {
    const divided at{i, columns};
    to[at.quotient * to_row + at.rest * to_column] = from[at.quotient * from_row + at.rest * from_column];
  }
};

/// to = from, whatever their strides.
template <class T>
void copy_any(execution<cuda>& on, const dynamic_view<2, const T, cuda>& from, const dynamic_view<2, T, cuda>& to) {
  for_each(
      on, "gemm", to.size(),
      copy_matrix<T>{from.data(), from.stride(0), from.stride(1), to.data(), to.stride(0), to.stride(1), to.extent(1)});
}

/// A matrix in scratch memory whose rows start at multiples of 16 bytes.
template <class T>
dynamic_view<2, T, cuda> aligned_matrix(execution<cuda>::scope& scratch, std::int64_t rows, std::int64_t columns) {
  constexpr std::int64_t step = 16 / sizeof(T);
  const std::int64_t stride = (columns + step - 1) / step * step;
  return {scratch.take<T>(rows * stride), {{rows, columns}}, {stride, 1}};
}

/// How often one call multiplies, and how far apart the matrices of two products lie.
struct gemm_batch {
  std::int64_t count = 1, a = 0, b = 0, c = 0;
};

/// C (+)= A B by the library, which sees C^T = B^T A^T; with a bias, [n] and aligned, that is added to every row. Returns
/// false, and does nothing, where it knows no way.
template <class T, class To>
bool library_gemm(execution<cuda>& on, const dynamic_view<2, const T, cuda>& a, const dynamic_view<2, const T, cuda>& b,
                  const dynamic_view<2, To, cuda>& c, bool accumulate, const gemm_batch& batch = {},
                  const To* bias = nullptr) {
  using scalar = accumulator<T>;
  gemm_question question{
      CUBLAS_COMPUTE_32F,         blas_type<scalar>::value,   batch.count,    blas_matrix_of(b, batch.b),
      blas_matrix_of(a, batch.a), blas_matrix_of(c, batch.c), bias != nullptr};
  if constexpr (std::is_same_v<T, double>) question.compute = CUBLAS_COMPUTE_64F;
  if constexpr (std::is_same_v<T, float>) {
    if (on.allow_tf32) question.compute = CUBLAS_COMPUTE_32F_FAST_TF32;
  }
  gemm_plan& plan = on.plans().plan(question);
  if (!plan.exists) return false;
  if (bias) plan.add_bias(bias);
  execution<cuda>::scope scratch{on};
  std::byte* const workspace = scratch.take<std::byte>(static_cast<std::int64_t>(gemm_plan::workspace));
  const scalar one = 1, before = accumulate ? scalar(1) : scalar(0);
  check_blas("gemm", "cublasLtMatmul",
             cublasLtMatmul(on.blas(), &plan.product, &one, b.data(), &plan.a, a.data(), &plan.b, &before, c.data(),
                            &plan.c, c.data(), &plan.c, &plan.algorithm, workspace, gemm_plan::workspace, on.stream()));
  return true;
}

/// Whether the library takes these matrices.
template <class T, class To>
bool takes_strides(const dynamic_view<2, const T, cuda>& a, const dynamic_view<2, const T, cuda>& b,
                   const dynamic_view<2, To, cuda>& c) {
  const bool dense_rows = c.stride(1) == 1 || c.extent(1) == 1;
  return takes_strides(a) && takes_strides(b) && takes_strides(c) && dense_rows;
}

/// A product of a few rows, such as the next token of several texts: reading B is all that takes time.
inline bool few_rows(std::int64_t m) noexcept { return m <= 128; }

/// C = A B, with rows of C at whole multiples of 16 bytes: for anything else the library has kernels that read B at a fifth of
/// the rate. What columns are left over are a product of their own. A few rows are cheaper to copy than B is to read slowly.
template <class T, class To>
bool aligned_gemm(execution<cuda>& on, const dynamic_view<2, const T, cuda>& a, const dynamic_view<2, const T, cuda>& b,
                  const dynamic_view<2, To, cuda>& c) {
  constexpr std::int64_t step = 16 / sizeof(To), many = 1024;  // columns
  const std::int64_t m = c.extent(0), n = c.extent(1), whole = n / step * step;
  const bool aligned = whole == n && blas_matrix_of(c).alignment == 16;
  if (aligned || !few_rows(m) || n < many || c.stride(1) != 1) return library_gemm(on, a, b, c, false);
  execution<cuda>::scope scratch{on};
  const auto product = aligned_matrix<To>(scratch, m, n);
  const auto multiply = [&](std::int64_t first, std::int64_t count) {
    return library_gemm(on, a, b.slice(1, first, count), product.slice(1, first, count), false);
  };
  if (!multiply(0, whole) || (whole < n && !multiply(whole, n - whole))) return false;
  map(on, m, n, convert_number{}, c, dynamic_view<2, const To, cuda>{product});
  return true;
}

/// The same for any strides and addresses: what the library does not take goes through copies.
template <class T, class To>
void any_gemm(execution<cuda>& on, const dynamic_view<2, const T, cuda>& a, const dynamic_view<2, const T, cuda>& b,
              const dynamic_view<2, To, cuda>& c, bool accumulate) {
  if (takes_strides(a, b, c) && (accumulate ? library_gemm(on, a, b, c, true) : aligned_gemm(on, a, b, c))) return;
  execution<cuda>::scope scratch{on};
  const auto left = aligned_matrix<T>(scratch, a.extent(0), a.extent(1));
  const auto right = aligned_matrix<T>(scratch, b.extent(0), b.extent(1));
  const auto product = aligned_matrix<To>(scratch, c.extent(0), c.extent(1));
  copy_any<T>(on, a, left);
  copy_any<T>(on, b, right);
  if (accumulate) copy_any<To>(on, c, product);
  if (!library_gemm<T, To>(on, left, right, product, accumulate)) {
    throw device_error("gemm", "cublasLtMatmulAlgoGetHeuristic", "an algorithm", "none");
  }
  copy_any<To>(on, product, c);
}

/// Adds the products over segments of k, in their order.
template <class T>
struct add_segments {
  const accumulator<T>* parts;
  std::int64_t segments, size, columns;
  T* to;
  std::int64_t row_stride, column_stride;
  bool accumulate;
  __device__ void operator()(std::int64_t i) const noexcept {
    const divided at{i, columns};
    T& place = to[at.quotient * row_stride + at.rest * column_stride];
    accumulator<T> sum = accumulate ? static_cast<accumulator<T>>(place) : accumulator<T>(0);
#pragma unroll 8
    for (std::int64_t s = 0; s < segments; ++s) sum += parts[s * size + i];
    place = static_cast<T>(sum);
  }
};

template <class T>
struct clear_row {
  LIGHTNET_HOST_DEVICE void operator()(T& x) const noexcept { x = static_cast<T>(0.0F); }
};

/// How the sum over k is cut into segments, where C is small and the sum long. The library cuts by itself the sums of a layer
/// for a few rows, which are less long.
struct gemm_segments {
  static constexpr std::int64_t shortest = 1024, most = 64, small = std::int64_t{1} << 19;
  static bool help(std::int64_t m, std::int64_t n, std::int64_t k) noexcept {
    const bool of_a_layer = few_rows(m) && n >= shortest && k <= 16 * shortest;
    return k >= 4 * shortest && m * n <= small && !of_a_layer;
  }
};

/// C[m, n] (+)= A[m, k] B[k, n] by cuBLASLt, which rounds products of float to tf32 only where `on.allow_tf32` says so; sums
/// of 16-bit types are in float. A and B are dense along one of their axes, rows of C are dense. One row times dense columns
/// goes through a kernel of our own, which reads them as fast as memory gives them. Where C is small and the
/// sum long, segments of k of a length that k decides are multiplied side by side and added in their order. The same product has
/// the same bits in every call; the algorithm, and with it the last bits, depends on the number of rows and the
/// alignment as well, for cuBLASLt has no kernel that suits all.
template <class T>
void gemm(execution<cuda>& on, const dynamic_view<2, const T, cuda>& a, const dynamic_view<2, const T, cuda>& b,
          const dynamic_view<2, T, cuda>& c, bool accumulate) {
  using cut = gemm_segments;
  const std::int64_t m = c.extent(0), n = c.extent(1), k = a.extent(1);
  if (m == 0 || n == 0) return;
  if (k == 0) {
    if (!accumulate) map(on, m, n, clear_row<T>{}, c);
    return;
  }
  if (row_product<T>::takes(b, c) && given_row<T>::takes(a)) {
    launch_row_product(on, row_product<T>::of(b, c), given_row<T>{a.data()},
                       plus_row<T>{accumulate ? c.data() : nullptr});
    return;
  }
  using sum = accumulator<T>;
  const auto add_parts = [&](const sum* parts, std::int64_t segments) {
    for_each(on, "gemm", m * n,
             add_segments<T>{parts, segments, m * n, n, c.data(), c.stride(0), c.stride(1), accumulate});
  };
  if (!cut::help(m, n, k) || !takes_strides(a) || !takes_strides(b)) {
    if (!accumulate || std::is_same_v<T, sum>) return any_gemm<T, T>(on, a, b, c, accumulate);
    // The library would round the product before it adds it.
    execution<cuda>::scope scratch{on};
    const dynamic_view<2, sum, cuda> product{scratch.take<sum>(m * n), {{m, n}}};
    any_gemm<T, sum>(on, a, b, product, false);
    return add_parts(product.data(), 1);
  }
  const std::int64_t depth = (k + cut::shortest * cut::most - 1) / (cut::shortest * cut::most) * cut::shortest;
  const std::int64_t whole = k / depth, segments = (k + depth - 1) / depth, done = whole * depth;
  execution<cuda>::scope scratch{on};
  sum* const parts = scratch.take<sum>(segments * m * n);
  const auto part = [&](std::int64_t s) { return dynamic_view<2, sum, cuda>{parts + s * m * n, {{m, n}}}; };
  const gemm_batch batch{whole, depth * a.stride(1), depth * b.stride(0), m * n};
  if (!library_gemm<T, sum>(on, a.slice(1, 0, depth), b.slice(0, 0, depth), part(0), false, batch)) {
    for (std::int64_t s = 0; s < whole; ++s) {
      any_gemm<T, sum>(on, a.slice(1, s * depth, depth), b.slice(0, s * depth, depth), part(s), false);
    }
  }
  if (whole < segments) {
    any_gemm<T, sum>(on, a.slice(1, done, k - done), b.slice(0, done, k - done), part(whole), false);
  }
  add_parts(parts, segments);
}

/// C = A B + bias, the bias [n] in every row: in one call of the library where it can, which adds before it rounds, else by
/// gemm and a pass over C. Double takes the pass, for the library promises nothing there.
template <class T>
void gemm_with_bias(execution<cuda>& on, const dynamic_view<2, const T, cuda>& a,
                    const dynamic_view<2, const T, cuda>& b, const T* bias, const dynamic_view<2, T, cuda>& c) {
  const std::int64_t m = c.extent(0), n = c.extent(1), k = a.extent(1);
  if constexpr (!std::is_same_v<T, double>) {
    const bool aligned = reinterpret_cast<std::uintptr_t>(bias) % gemm_plan::bias_alignment == 0;
    const bool whole = m > 0 && n > 0 && k > 0 && !gemm_segments::help(m, n, k);
    if (aligned && whole && takes_strides(a, b, c) && library_gemm(on, a, b, c, false, {}, bias)) return;
  }
  gemm<T>(on, a, b, c, false);
  map(on, m, n, add_number{}, c, by_column{bias});
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
