// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <lightnet/core/decimal.hpp>
#include <limits>

using lightnet::detail::decimal;

TEST_CASE("decimal: the shortest text that reads back as the same number") {
  CHECK(decimal(0.1) == "0.1");
  CHECK(decimal(0.1F) == "0.1");
  CHECK(decimal(1.0) == "1");
  CHECK(decimal(-2.5) == "-2.5");
  CHECK(decimal(1e-8) == "1e-08");
  CHECK(decimal(static_cast<double>(NAN)) == "nan");
  CHECK(decimal(-static_cast<double>(INFINITY)) == "-inf");
  for (const double value : {1.0 / 3, -std::numeric_limits<double>::denorm_min(), -std::numeric_limits<double>::max(),
                             std::nextafter(0.1, 1.0)}) {
    CHECK(std::strtod(decimal(value).c_str(), nullptr) == value);
  }
}
