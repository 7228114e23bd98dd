// SPDX-License-Identifier: Apache-2.0
// MD-LRPE one element at a time, as a GPU takes it, is MD-LRPE a row at a time.
#include <lightnet/position/md_lrpe.hpp>

#include <doctest/doctest.h>

#include "../layer/numbers.hpp"

namespace {

namespace ln = lightnet;
using numbers::list;

template <class Position>
void check_elements(std::int64_t keys, std::int64_t dims) {
  CAPTURE(keys);
  CAPTURE(dims);
  const std::int64_t width = Position::width(keys), angles = Position::angles(keys, dims);
  const list<double> x = numbers::normal(keys, 1), dy = numbers::normal(width, 2);
  list<double> cosine, sine;
  for (const double angle : numbers::normal(angles, 3)) {
    cosine.push_back(std::cos(angle));
    sine.push_back(std::sin(angle));
  }
  list<double> y = numbers::unwritten(width), dx = numbers::unwritten(keys), dangle(static_cast<std::size_t>(angles));
  Position::apply(x.data(), y.data(), cosine.data(), sine.data(), keys, angles);
  Position::pull(x.data(), dy.data(), dx.data(), dangle.data(), cosine.data(), sine.data(), keys, angles);
  const auto same = [](double got, double expected) { CHECK(got == doctest::Approx(expected).epsilon(1e-14)); };
  for (std::int64_t i = 0; i < width; ++i) {
    same(Position::encoded(x.data(), i, cosine.data(), sine.data(), keys, angles), y[static_cast<std::size_t>(i)]);
  }
  for (std::int64_t i = 0; i < keys; ++i) {
    same(Position::decoded(dy.data(), i, cosine.data(), sine.data(), keys, angles), dx[static_cast<std::size_t>(i)]);
  }
  for (std::int64_t j = 0; j < angles; ++j) {
    same(Position::angle_gradient(x.data(), dy.data(), j, cosine.data(), sine.data(), keys, angles),
         dangle[static_cast<std::size_t>(j)]);
  }
}

}  // namespace

TEST_CASE_TEMPLATE("MD-LRPE an element at a time is MD-LRPE a row at a time", Position, ln::md_lrpe, ln::md_lrpe_rotate,
                   ln::basic_md_lrpe<ln::lrpe_form::rotate, ln::lrpe_pairs::neighbours>) {
  for (const std::int64_t keys : {6, 7, 13, 24}) {
    for (const std::int64_t dims : {1, 2, 3}) {
      if (Position::fits(keys, dims)) check_elements<Position>(keys, dims);
    }
  }
}
