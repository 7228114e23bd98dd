// SPDX-License-Identifier: Apache-2.0
#include "products.hpp"

namespace {
namespace ln = lightnet;
}

TEST_CASE_TEMPLATE("product_of is what makes its rows, the product and what comes then", T, double, ln::bfloat16) {
  ln::execution<ln::cpu> on{1};
  for (const std::int64_t rows : {0, 1, 5}) {
    products::check<24, 3, 20, T>(on, rows, false);
    products::check<7, 1, 9, T>(on, rows, false);
  }
}
