// SPDX-License-Identifier: Apache-2.0
// (z, S) to (m, Z, U) and back, and that a scan may start from either.

#include <lightnet/recurrence.hpp>

#include <doctest/doctest.h>

#include <limits>

namespace ln = lightnet;

namespace {
constexpr std::int64_t batch = 2, heads = 3, keys = 4, values = 5;
constexpr double infinity = std::numeric_limits<double>::infinity(),
                 not_a_number = std::numeric_limits<double>::quiet_NaN();

ln::tensor<ln::rank<3>, double> logarithms() {
  ln::tensor<ln::rank<3>, double> z({{batch, heads, keys}});
  for (std::int64_t i = 0; i < z.size(); ++i)
    z.data()[i] = 37.5 * std::sin(static_cast<double>(i)) + 1e3 * static_cast<double>(i % 2);
  z.data()[7] = -infinity;
  return z;
}
}  // namespace

TEST_CASE("convert_state: there and back, an empty channel whatever lies there") {
  const auto z = logarithms();
  ln::tensor<ln::rank<4>, double> s({{batch, heads, 2 * keys, values}}), s_back(s);
  for (std::int64_t i = 0; i < s.size(); ++i) s.data()[i] = std::cos(static_cast<double>(i));
  ln::tensor<ln::rank<3>, double> z_back({{batch, heads, keys}});
  for (std::int64_t j = 0; j < values; ++j) s.view()(0, 1, 3, j) = not_a_number;  // channel 7 = (0, 1, 3) is empty
  ln::state_tensors<ln::additive, double> state(batch, heads, keys, 2 * keys, values);
  ln::state_from_logarithm<double>(z.view(), s.view(), state.view());
  CHECK(state.view().exponent(0, 1, 3) == ln::empty_exponent);
  CHECK(state.view().normaliser(0, 1, 3) == 0);
  CHECK(state.view().sum(0, 1, 3, 2) == 0);
  ln::logarithm_of_state<double>(state.view(), z_back.view(), s_back.view());
  for (std::int64_t i = 0; i < z.size(); ++i) {
    if (i == 7) {
      CHECK(z_back.data()[i] == -infinity);
    } else {
      CHECK(std::abs(z_back.data()[i] - z.data()[i]) <= 1e-15 * (1 + std::abs(z.data()[i])));
    }
  }
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t h = 0; h < heads; ++h) {
      for (std::int64_t i = 0; i < 2 * keys; ++i) {
        for (std::int64_t j = 0; j < values; ++j) {
          const bool empty = b == 0 && h == 1 && i % keys == 3;
          const double expected = empty ? 0 : s.view()(b, h, i, j);
          CHECK(std::abs(s_back.view()(b, h, i, j) - expected) <= 1e-15);
        }
      }
    }
  }
}

TEST_CASE("convert_state: extents that do not fit are named") {
  const auto z = logarithms();
  const ln::tensor<ln::rank<4>, double> s({{batch, heads, keys, values + 1}});
  ln::state_tensors<ln::additive, double> state(batch, heads, keys, keys, values);
  CHECK_THROWS_WITH_AS(ln::state_from_logarithm<double>(z.view(), s.view(), state.view()),
                       doctest::Contains("state_from_logarithm: s: expected extents [2, 3, 4, 5]"), ln::shape_error);
  CHECK_THROWS_AS(ln::state_from_logarithm<double>({}, s.view(), state.view()), ln::device_error);
}
