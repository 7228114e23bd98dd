// SPDX-License-Identifier: Apache-2.0
// Sums of gradients that come in groups: the bits of all at once, in memory that grows with the logarithm of their number.
#include <doctest/doctest.h>

#include <lightnet/train/gradient_sum.hpp>
#include <vector>

#include "layer/numbers.hpp"

namespace {

namespace ln = lightnet;
using numbers::list;

constexpr std::int64_t size = 37;

template <class T>
list<T> gradient(std::int64_t part) {
  return numbers::cast<T>(numbers::normal(size, static_cast<std::uint64_t>(part) + 1));
}

/// The sum, in groups.
template <class T>
list<T> summed(ln::detail::gradient_sum<T, ln::cpu>& sum, std::int64_t parts, std::int64_t group) {
  ln::execution<ln::cpu> on{2};
  list<T> to = numbers::unwritten<T>(size);
  sum.begin(on, parts, group, size);
  for (std::int64_t first = 0; first < parts; first += group) {
    const std::int64_t count = std::min(group, parts - first);
    for (std::int64_t i = 0; i < count; ++i) std::ranges::copy(gradient<T>(first + i), sum.place(i));
    sum.add(on, count, first + count == parts, to.data());
  }
  return to;
}

}  // namespace

TEST_CASE_TEMPLATE("gradient_sum: how many come at a time changes no bit", T, double, float, ln::bfloat16) {
  ln::detail::gradient_sum<T, ln::cpu> used;
  for (std::int64_t parts = 1; parts <= 37; ++parts) {
    CAPTURE(parts);
    ln::detail::gradient_sum<T, ln::cpu> fresh;
    const list<T> expected = summed(fresh, parts, 64);
    for (const std::int64_t group : {1, 2, 4, 8, 16}) {
      CAPTURE(group);
      CHECK(numbers::same_bits(summed(used, parts, group), expected));
    }
    for (std::size_t j = 0; j < expected.size(); ++j) {
      double sum = 0, unit = 0;
      for (std::int64_t part = 0; part < parts; ++part) {
        const auto number = static_cast<double>(gradient<T>(part)[j]);
        sum += number;
        unit += std::abs(number);
      }
      const double rounding = std::is_same_v<T, double> ? 1e-15 : std::is_same_v<T, float> ? 1e-6 : 4e-3;
      CHECK(std::abs(static_cast<double>(expected[j]) - sum) <= rounding * unit);
    }
  }
}

TEST_CASE("gradient_sum: one that was not finished leaves nothing behind") {
  ln::execution<ln::cpu> on{1};
  ln::detail::gradient_sum<double, ln::cpu> sum, fresh;
  sum.begin(on, 9, 1, size);
  for (int part = 0; part < 3; ++part) {
    std::fill_n(sum.place(0), size, 1.0);
    sum.add(on, 1, false, nullptr);
  }
  CHECK(summed(sum, 7, 2) == summed(fresh, 7, 2));
}

TEST_CASE("gradient_sum: memory moves where it has to grow, which a logarithm seldom does") {
  ln::execution<ln::cpu> on{1};
  ln::detail::gradient_sum<double, ln::cpu> sum;
  CHECK(sum.begin(on, 3, 1, size));
  int moves = 0;
  for (std::int64_t parts = 4; parts <= 1024; ++parts) moves += sum.begin(on, parts, 1, size) ? 1 : 0;
  CHECK(moves == 8);
  CHECK_FALSE(sum.begin(on, 5, 1, size));
  CHECK(sum.begin(on, 5, 1, size + 1));
}
