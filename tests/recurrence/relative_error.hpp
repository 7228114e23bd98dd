// SPDX-License-Identifier: Apache-2.0
// How far gradients are apart, as tests of several kinds measure it.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "question.hpp"

namespace cases {

// The largest |a - b| over the largest |b| or, where that is larger, over `scale`: what b is a sum of may cancel. Infinite
// where a difference is no number.
inline double relative_error(const numbers& a, const numbers& b, double scale = 0) {
  REQUIRE(a.size() == b.size());
  double difference = 0;
  for (std::size_t n = 0; n < a.size(); ++n) {
    const double apart = std::abs(a[n] - b[n]);
    difference = std::isfinite(apart) ? std::max(difference, apart) : inf;
    scale = std::max(scale, std::abs(b[n]));
  }
  return difference == 0 ? 0 : difference / scale;
}

// The largest of x times its gradient, which the gradients of logits and of theta are sums of.
inline double largest_product(const numbers& x, const numbers& dx) {
  double largest = 0;
  for (std::size_t n = 0; n < std::min(x.size(), dx.size()); ++n) largest = std::max(largest, std::abs(x[n] * dx[n]));
  return largest;
}

}  // namespace cases
