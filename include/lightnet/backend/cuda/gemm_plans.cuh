// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/status.cuh>

#include <cublasLt.h>

#include <array>
#include <cstdint>
#include <map>
#include <string>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Throws device_error, with the name of the operation, where a call of cuBLASLt failed.
inline void check_blas(const char* operation, const char* call, cublasStatus_t status) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw device_error(operation, call, "success", cublasLtGetStatusName(status));
}

/// The library's view of a matrix: columns one after the other, `leading` elements apart, or the other way round.
struct blas_matrix {
  cudaDataType_t type;
  std::int64_t rows, columns, leading;
  bool transposed = false;        ///< [rows, columns] is what the product sees, memory holds [columns, rows]
  std::int64_t batch_stride = 0;  ///< elements
  std::int64_t alignment = 0;     ///< bytes
};

/// A product C = A B that the library is asked for: everything that decides how it is done.
struct gemm_question {
  cublasComputeType_t compute;
  cudaDataType_t scale;
  std::int64_t batch;
  blas_matrix a, b, c;
  bool with_bias = false;  ///< whether a vector is added to every column of C

  std::array<std::int64_t, 25> key() const noexcept {
    const auto of = [](const blas_matrix& m) {
      return std::array<std::int64_t, 7>{m.type,       m.rows,         m.columns,  m.leading,
                                         m.transposed, m.batch_stride, m.alignment};
    };
    const auto of_a = of(a), of_b = of(b), of_c = of(c);
    std::array<std::int64_t, 25> all{compute, scale, batch};
    all.back() = with_bias;
    for (std::size_t i = 0; i < of_a.size(); ++i) {
      all[3 + i] = of_a[i];
      all[3 + of_a.size() + i] = of_b[i];
      all[3 + 2 * of_a.size() + i] = of_c[i];
    }
    return all;
  }
};

/// How a product is done: what the library's heuristic chose when it was asked first, and never again, so that a product
/// has the same bits from call to call. Of the algorithms that split the sum over blocks, those that add its parts in a step of
/// their own are as good as any; others are taken only where there are none.
struct gemm_plan {
  static constexpr std::size_t workspace = std::size_t{32} << 20;
  static constexpr std::int64_t bias_alignment = 16;  ///< bytes

  cublasLtMatmulDescOpaque_t product{};
  cublasLtMatrixLayoutOpaque_t a{}, b{}, c{};
  cublasLtMatmulAlgo_t algorithm{};
  bool exists = false;  ///< the library may know no way for matrices at odd addresses

  gemm_plan(cublasLtHandle_t blas, const gemm_question& question) {
    check_blas("gemm", "cublasLtMatmulDescInit", cublasLtMatmulDescInit(&product, question.compute, question.scale));
    transpose(CUBLASLT_MATMUL_DESC_TRANSA, question.a.transposed);
    transpose(CUBLASLT_MATMUL_DESC_TRANSB, question.b.transposed);
    if (question.with_bias) {
      set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
      add_bias(reinterpret_cast<const void*>(bias_alignment));  // the heuristic looks at the alignment of the address
    }
    describe(a, question.a, question.batch);
    describe(b, question.b, question.batch);
    describe(c, question.c, question.batch);
    cublasLtMatmulPreferenceOpaque_t wish{};
    check_blas("gemm", "cublasLtMatmulPreferenceInit", cublasLtMatmulPreferenceInit(&wish));
    prefer(wish, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{workspace});
    prefer(wish, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, static_cast<std::uint32_t>(question.a.alignment));
    prefer(wish, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, static_cast<std::uint32_t>(question.b.alignment));
    prefer(wish, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, static_cast<std::uint32_t>(question.c.alignment));
    prefer(wish, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, static_cast<std::uint32_t>(question.c.alignment));
    for (const cublasLtReductionScheme_t scheme :
         {CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE, CUBLASLT_REDUCTION_SCHEME_MASK}) {
      prefer(wish, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, static_cast<std::uint32_t>(scheme));
      if (choose(blas, wish)) return;
    }
  }

  /// The vector that the next product adds.
  void add_bias(const void* bias) { set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias); }

 private:
  bool choose(cublasLtHandle_t blas, cublasLtMatmulPreferenceOpaque_t& wish) {
    cublasLtMatmulHeuristicResult_t found{};
    int count = 0;
    const cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(blas, &product, &a, &b, &c, &c, &wish, 1, &found, &count);
    if (status != CUBLAS_STATUS_NOT_SUPPORTED) check_blas("gemm", "cublasLtMatmulAlgoGetHeuristic", status);
    exists = status == CUBLAS_STATUS_SUCCESS && count > 0 && found.state == CUBLAS_STATUS_SUCCESS;
    algorithm = found.algo;
    return exists;
  }

  void transpose(cublasLtMatmulDescAttributes_t which, bool transposed) {
    set(which, transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
  }

  template <class T>
  void set(cublasLtMatmulDescAttributes_t which, const T& value) {
    check_blas("gemm", "cublasLtMatmulDescSetAttribute",
               cublasLtMatmulDescSetAttribute(&product, which, &value, sizeof value));
  }

  static void describe(cublasLtMatrixLayoutOpaque_t& layout, const blas_matrix& m, std::int64_t batch) {
    const std::int64_t rows = m.transposed ? m.columns : m.rows, columns = m.transposed ? m.rows : m.columns;
    check_blas("gemm", "cublasLtMatrixLayoutInit",
               cublasLtMatrixLayoutInit(&layout, m.type, static_cast<std::uint64_t>(rows),
                                        static_cast<std::uint64_t>(columns), m.leading));
    if (batch == 1) return;
    const auto count = static_cast<std::int32_t>(batch);
    check_blas("gemm", "cublasLtMatrixLayoutSetAttribute",
               cublasLtMatrixLayoutSetAttribute(&layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count));
    check_blas("gemm", "cublasLtMatrixLayoutSetAttribute",
               cublasLtMatrixLayoutSetAttribute(&layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &m.batch_stride,
                                                sizeof m.batch_stride));
  }

  template <class T>
  static void prefer(cublasLtMatmulPreferenceOpaque_t& wish, cublasLtMatmulPreferenceAttributes_t which,
                     const T& value) {
    check_blas("gemm", "cublasLtMatmulPreferenceSetAttribute",
               cublasLtMatmulPreferenceSetAttribute(&wish, which, &value, sizeof value));
  }
};

/// The library of matrix products, opened by the first that asks, and the plans of one execution.
class gemm_plans {
 public:
  gemm_plans() = default;
  gemm_plans(const gemm_plans&) = delete;
  gemm_plans& operator=(const gemm_plans&) = delete;
  ~gemm_plans() {
    if (blas_) cublasLtDestroy(blas_);
  }

  cublasLtHandle_t blas() {
    if (!blas_) check_blas("execution", "cublasLtCreate", cublasLtCreate(&blas_));
    return blas_;
  }

  gemm_plan& plan(const gemm_question& question) {
    const auto key = question.key();
    const auto found = plans_.find(key);
    if (found != plans_.end()) return found->second;
    return plans_.emplace(key, gemm_plan{blas(), question}).first->second;
  }

 private:
  cublasLtHandle_t blas_ = nullptr;
  std::map<std::array<std::int64_t, 25>, gemm_plan> plans_;
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
