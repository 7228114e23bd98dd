// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <lightnet/train/frechet_distance.hpp>
#include <vector>

#include "layer/numbers.hpp"

namespace {

namespace ln = lightnet;
using numbers::list;

double distance(const list<double>& a, const list<double>& b, std::int64_t width) {
  const auto rows = [&](const list<double>& of) {
    return numbers::view_of<2>(of, {static_cast<std::int64_t>(of.size()) / width, width});
  };
  return ln::frechet_distance<double>(rows(a), rows(b));
}

// Rows of x [n, 3] through a matrix, and moved.
list<double> mapped(const list<double>& x, const double (&m)[3][3], double move) {
  list<double> y;
  for (std::size_t r = 0; r < x.size(); r += 3) {
    for (const auto& row : m) y.push_back(row[0] * x[r] + row[1] * x[r + 1] + row[2] * x[r + 2] + move);
  }
  return y;
}

}  // namespace

TEST_CASE("Frechet distance: nothing to itself, symmetric, and what a move and a scale make of it") {
  const list<double> x = numbers::normal(3 * 50, 1), y = numbers::normal(3 * 41, 2, 0.7, 0.3);
  CHECK(std::abs(distance(x, x, 3)) < 1e-12);
  CHECK(distance(x, y, 3) > 0.1);
  CHECK(distance(x, y, 3) == doctest::Approx(distance(y, x, 3)).epsilon(1e-12));
  const double one[3][3] = {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}, half[3][3] = {{0.5, 0, 0}, {0, 0.5, 0}, {0, 0, 0.5}};
  CHECK(distance(x, mapped(x, one, 2), 3) == doctest::Approx(3 * 4).epsilon(1e-12));

  // Half as wide, each variance loses (1 - 1/2)^2 of itself, and the mean half of itself.
  double means = 0, variances = 0;
  for (std::size_t c = 0; c < 3; ++c) {
    double sum = 0, squares = 0;
    for (std::size_t r = c; r < x.size(); r += 3) sum += x[r];
    for (std::size_t r = c; r < x.size(); r += 3) squares += std::pow(x[r] - sum / 50, 2);
    means += std::pow(sum / 50, 2);
    variances += squares / 49;
  }
  CHECK(distance(x, mapped(x, half, 0), 3) == doctest::Approx((means + variances) / 4).epsilon(1e-12));
}

TEST_CASE("Frechet distance: covariances that do not commute, one of them singular") {
  // Of normals with covariances A and B in two dimensions, tr (A B)^1/2 = sqrt(tr A B + 2 sqrt(det A B)).
  const list<double> x{3, 1, -3, -1, 1, 2, -1, -2}, y{1, 0, -1, 0, 2, 2, -2, -2}, line{1, 1, -1, -1};
  const double ab =
      0 + (20 * 10 + 2 * 10 * 8 + 10 * 8) / 9.0;  // A = [[20, 10], [10, 10]] / 3, B = [[10, 8], [8, 8]] / 3
  const double determinants = (20.0 * 10 - 10 * 10) / 9 * (10.0 * 8 - 8 * 8) / 9;
  CHECK(distance(x, y, 2) ==
        doctest::Approx((30 + 18) / 3.0 - 2 * std::sqrt(ab + 2 * std::sqrt(determinants))).epsilon(1e-12));
  // [[2, 2], [2, 2]]: the root of an eigenvalue that is 0 but for rounding has half of the digits.
  const double with_line = 2 * (20 + 10 + 10 + 10) / 3.0;
  CHECK(distance(x, line, 2) == doctest::Approx(30 / 3.0 + 4 - 2 * std::sqrt(with_line)).epsilon(1e-6));
}

TEST_CASE("Frechet distance names what does not fit") {
  const list<double> x(12);
  CHECK(numbers::message_of<ln::shape_error>([&] {
          ln::frechet_distance<double>(numbers::view_of<2>(x, {4, 3}), numbers::view_of<2>(x, {6, 2}));
        }) == "lightnet: frechet_distance: a, b: expected two items or more, as wide as [4, 3], got [6, 2]");
  CHECK_THROWS_AS(ln::frechet_distance<double>(numbers::view_of<2>(x, {1, 12}), numbers::view_of<2>(x, {1, 12})),
                  ln::shape_error);
}
