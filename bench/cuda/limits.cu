// SPDX-License-Identifier: Apache-2.0

// What the matrix units can do, beside what memory can: a product of large matrices.

#include "cuda/row.cuh"

#include <lightnet/backend/gemm.hpp>

#include <memory>

namespace bench {

void add_limits() {
  constexpr std::int64_t n = 8192;
  constexpr double elements = static_cast<double>(n) * n;
  add({"matrix_product/bfloat16/n8192", 3 * elements * sizeof(ln::bfloat16), 2 * elements * n, [] {
         using matrix = ln::tensor<ln::rank<2>, ln::bfloat16, ln::cuda>;
         const auto a = std::make_shared<matrix>(normal<ln::bfloat16>(1, n, n));
         const auto b = std::make_shared<matrix>(normal<ln::bfloat16>(2, n, n));
         const auto c = std::make_shared<matrix>(a->view().extents());
         return [a, b, c](ln::execution<ln::cuda>& on) {
           ln::detail::gemm<ln::bfloat16>(on, a->view(), b->view(), c->view(), false);
         };
       }});
}

}  // namespace bench
