// SPDX-License-Identifier: Apache-2.0
// One row, whose product one kernel does with all around it, and what that refuses: the bits of the same one after the other.
#include <lightnet/backend/cuda/graph.cuh>

#include "products.hpp"

namespace {

namespace ln = lightnet;
using ln::cuda;

template <class T>
void check(ln::execution<cuda>& on) {
  products::check<8, 1, 12, T>(on, 1, true);
  products::check<768, 1, 48, T>(on, 1, true);
  products::check<1032, 1, 1500, T>(on, 1, true);  // a row that a block sums up
  products::check<2064, 2, 37, T>(on, 1, true);
  products::check<1536, 12, 9002, T>(on, 1, true);  // more parts than a block has warps, more rows than fit at once
  products::check<1031, 1, 40, T>(on, 1, false);
  products::check<768, 1, 48, T>(on, 1, false, 1);
  products::check<768, 6, 48, T>(on, 2, false);
}

}  // namespace

TEST_CASE_TEMPLATE("product_of on the GPU is what makes its rows, the product and what comes then", T, float, double,
                   ln::bfloat16, ln::float16) {
  const ln::cuda_stream stream;
  ln::execution<cuda> on{stream.get()};
  check<T>(on);
  on.synchronize();
  const ln::execution<cuda>::constant_weights promise{on};
  check<T>(on);
}
