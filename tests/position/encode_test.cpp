// SPDX-License-Identifier: Apache-2.0
// encode, MD-LRPE by itself, on the CPU.
#include "encode.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <utility>

namespace ln = lightnet;

TEST_CASE_TEMPLATE("encode is MD-LRPE on the CPU", T, float, double, ln::bfloat16, ln::float16) {
  encoding::check_all<ln::md_lrpe, T, ln::cpu>();
  encoding::check_all<ln::md_lrpe_rotate, T, ln::cpu>();
  encoding::check_all<encoding::neighbours, T, ln::cpu>();
}

TEST_CASE("an encoding that outgrows the caches has the bits that that of each head has alone") {
  constexpr std::int64_t tokens = 4099, heads = 3, channels = 90;  // 8 MiB encoded
  const numbers::list<float> numbers_of_x = numbers::cast<float>(numbers::normal(tokens * heads * channels, 1));
  ln::tensor<ln::rank<4>, float> x{{{1, tokens, heads, channels}}}, y{{{1, tokens, heads, 2 * channels}}};
  std::fill_n(y.data(), y.size(), std::numeric_limits<float>::quiet_NaN());
  ln::tensor<ln::rank<4>, float> alone = y;
  std::copy(numbers_of_x.begin(), numbers_of_x.end(), x.data());
  ln::execution<ln::cpu> on(2);
  const auto encode = [&](std::int64_t first, std::int64_t count, ln::tensor<ln::rank<4>, float>& to) {
    ln::encode<ln::md_lrpe>(on, {.x = std::as_const(x).view().slice(2, first, count)},
                            {.y = to.view().slice(2, first, count)});
  };
  encode(0, heads, y);
  for (std::int64_t h = 0; h < heads; ++h) encode(h, 1, alone);
  CHECK(std::equal(y.data(), y.data() + tokens * heads * 2 * channels, alone.data()));
}
