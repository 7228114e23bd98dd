// SPDX-License-Identifier: Apache-2.0

// What the processors can do, beside what memory can: a product of large matrices, and multiply-adds in registers.

#include "cuda/row.cuh"

#include <lightnet/backend/gemm.hpp>

#include <memory>

namespace bench {
namespace {

// Independent multiply-adds of float, and nothing else.
__global__ void __launch_bounds__(multiply_adds::threads) multiply_adds_kernel(float a, float b, float* never) {
  float x[multiply_adds::chains];
#pragma unroll
  for (int i = 0; i < multiply_adds::chains; ++i) x[i] = static_cast<float>(threadIdx.x + i);
#pragma unroll 4
  for (int turn = 0; turn < multiply_adds::turns; ++turn) {
#pragma unroll
    for (int i = 0; i < multiply_adds::chains; ++i) x[i] = fmaf(x[i], a, b);
  }
  float sum = 0;
#pragma unroll
  for (int i = 0; i < multiply_adds::chains; ++i) sum += x[i];
  if (sum < 0) *never = sum;
}

}  // namespace

gpu_call multiply_adds::prepare() {
  const auto never = std::make_shared<ln::tensor<ln::rank<1>, float, ln::cuda>>(ln::rank<1>{{1}});
  return [never](ln::execution<ln::cuda>& on) {
    multiply_adds_kernel<<<blocks, threads, 0, on.stream()>>>(0.5F, 0.5F, never->data());
  };
}

gpu_call matrix_product::prepare() {
  using matrix = ln::tensor<ln::rank<2>, ln::bfloat16, ln::cuda>;
  const auto a = std::make_shared<matrix>(normal<ln::bfloat16>(1, n, n));
  const auto b = std::make_shared<matrix>(normal<ln::bfloat16>(2, n, n));
  const auto c = std::make_shared<matrix>(a->view().extents());
  return [a, b, c](ln::execution<ln::cuda>& on) {
    ln::detail::gemm<ln::bfloat16>(on, a->view(), b->view(), c->view(), false);
  };
}

void add_limits() {
  constexpr auto n = static_cast<double>(matrix_product::n);
  add({"matrix_product/bfloat16/n8192", 3 * n * n * sizeof(ln::bfloat16), matrix_product::work,
       matrix_product::prepare});
  add({"multiply_adds/float", sizeof(float), multiply_adds::work, multiply_adds::prepare});
}

}  // namespace bench
