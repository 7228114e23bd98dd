// SPDX-License-Identifier: Apache-2.0
// How far a result is from the oracle's, in units of the rounding error that its terms allow.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <stdexcept>
#include <vector>

namespace oracle {

constexpr double float_epsilon = 0x1p-24;
constexpr double double_epsilon = 0x1p-53;
constexpr double bfloat16_epsilon = 0x1p-8;

// The largest |got - expected| / (epsilon * unit); infinite for a number that is not finite, and for a difference where
// the unit is 0.
template <class Got, class Expected>
double error_in_units(const std::vector<Got>& got, const std::vector<Expected>& expected,
                      const std::vector<double>& unit, double epsilon) {
  if (got.size() != expected.size() || got.size() != unit.size())
    throw std::invalid_argument("error_in_units: the sizes differ");
  double worst = 0;
  for (std::size_t n = 0; n < got.size(); ++n) {
    const auto difference = std::abs(static_cast<long double>(got[n]) - static_cast<long double>(expected[n]));
    if (difference == 0) continue;
    const auto error = static_cast<double>(difference / (static_cast<long double>(epsilon) * unit[n]));
    worst = std::isfinite(error) ? std::max(worst, error) : std::numeric_limits<double>::infinity();
  }
  return worst;
}

}  // namespace oracle
