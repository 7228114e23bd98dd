// SPDX-License-Identifier: Apache-2.0
// MD-LRPE: its angles, and that scores depend on where tokens lie to each other only.
#include <doctest/doctest.h>

#include <lightnet/backend/cpu/angles.hpp>
#include <lightnet/core/tensor.hpp>
#include <lightnet/position/md_lrpe.hpp>
#include <lightnet/position/none.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "../oracle/position.hpp"

namespace ln = lightnet;

namespace {

using cosine = ln::md_lrpe;
using halves = ln::md_lrpe_rotate;
using neighbours = ln::basic_md_lrpe<ln::lrpe_form::rotate, ln::lrpe_pairs::neighbours>;

// Shares, widths and what fits, by hand.
static_assert(cosine::width(5) == 10 && halves::width(5) == 5 && ln::no_position::width(5) == 5);
static_assert(cosine::share(7, 2) == 4 && cosine::angles(7, 2) == 7 && halves::share(7, 2) == 1);
static_assert(halves::share(15, 3) == 2 && halves::angles(15, 3) == 6 && halves::angles(8, 3) == 3);
static_assert(cosine::fits(1, 1) && cosine::fits(2, 2) && !cosine::fits(1, 2) && cosine::fits(3, 3));
static_assert(!cosine::fits(2, 3) && !cosine::fits(4, 3) && cosine::fits(5, 3));  // 2 + 2 of 4: nothing for the third
static_assert(halves::fits(4, 2) && !halves::fits(3, 2) && halves::fits(2, 1) && !halves::fits(1, 1));
static_assert(halves::mixes_channels && !cosine::mixes_channels && !ln::no_position::encodes);

template <class Position, int Dims>
struct tables {
  ln::tensor<ln::rank<3>, double> cosine_of, sine_of;
  ln::tensor<ln::rank<2>, double> coordinate;

  tables(const ln::grid<Dims>& where, std::int64_t keys, const ln::dynamic_view<2, const double>& theta = {}) {
    const std::int64_t heads = theta ? theta.extent(0) : 1, angles = Position::angles(keys, Dims);
    cosine_of.resize({{heads, where.size(), angles}});
    sine_of.resize({{heads, where.size(), angles}});
    coordinate.resize({{where.size(), angles}});
    ln::execution<ln::cpu> on{2};
    ln::detail::encode_angles<Position, Dims, double>(on, where, keys, theta, cosine_of.view(), sine_of.view(),
                                                      coordinate.view());
  }

  std::vector<double> encode(const std::vector<double>& x, std::int64_t head, std::int64_t t) const {
    const auto keys = static_cast<std::int64_t>(x.size());
    std::vector<double> y(static_cast<std::size_t>(Position::width(keys)));
    const std::int64_t angles = cosine_of.extent(2), at = (head * cosine_of.extent(1) + t) * angles;
    Position::apply(x.data(), y.data(), cosine_of.data() + at, sine_of.data() + at, keys, angles);
    return y;
  }
};

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (std::size_t n = 0; n < a.size(); ++n) sum += a[n] * b[n];
  return sum;
}

std::vector<double> random_numbers(std::mt19937_64& engine, std::int64_t count) {
  std::vector<double> x;
  std::uniform_real_distribution<double> number(-1, 1);
  for (std::int64_t n = 0; n < count; ++n) x.push_back(number(engine));
  return x;
}

// Every token of a grid with a prefix and an offset, against the oracle; theta the default, shared or one a head.
template <class Position, int Dims>
void check_angles(oracle::encoding encoding, const ln::grid<Dims>& where, std::int64_t keys) {
  std::mt19937_64 engine(4);
  const std::int64_t heads = 3, share = Position::share(keys, Dims);
  oracle::grid same;
  same.prefix = where.prefix;
  same.extents.assign(where.extents.begin(), where.extents.end());
  same.offsets.assign(where.offset.begin(), where.offset.end());
  for (const std::int64_t rows : {0, 1, 3}) {
    const std::vector<double> theta = random_numbers(engine, rows * share);
    const ln::dynamic_view<2, const double> given{rows ? theta.data() : nullptr, {{rows, share}}};
    const tables<Position, Dims> table{where, keys, given};
    const auto angles = oracle::lrpe_angles(same, encoding, heads, keys, {theta.begin(), theta.end()});
    const std::int64_t count = encoding == oracle::encoding::cosine ? keys : keys / 2;
    const std::vector<double> x = random_numbers(engine, keys);
    for (std::int64_t t = 0; t < where.size(); ++t) {
      for (std::int64_t h = 0; h < heads; ++h) {
        const auto first = angles.begin() + (t * heads + h) * count;
        const auto expected = oracle::lrpe(encoding, {x.begin(), x.end()}, {first, first + count});
        const std::vector<double> came = table.encode(x, rows == 3 ? h : 0, t);
        REQUIRE(came.size() == expected.size());
        for (std::size_t n = 0; n < came.size(); ++n) CHECK(std::abs(came[n] - expected[n]) < 1e-12);
        if (t < where.prefix) {  // exempt: turned by nothing
          for (std::size_t n = 0; n < x.size(); ++n) CHECK(came[n] == x[n]);
        }
      }
    }
  }
}

// Two tokens that lie to each other as two others do have the same score; nobody else needs to.
template <class Position, int Dims>
void check_relative(std::int64_t keys) {
  std::mt19937_64 engine(5);
  ln::grid<Dims> here{}, moved{};
  for (std::size_t axis = 0; axis < Dims; ++axis) {
    here.extents[axis] = moved.extents[axis] = 2 + static_cast<std::int64_t>(axis);
    moved.offset[axis] = 3 + 5 * static_cast<std::int64_t>(axis);
  }
  const tables<Position, Dims> one{here, keys}, two{moved, keys};
  const std::vector<double> q = random_numbers(engine, keys), k = random_numbers(engine, keys);
  double largest = 0;
  for (std::int64_t t = 0; t < here.size(); ++t) {
    for (std::int64_t s = 0; s < here.size(); ++s) {
      const double score = dot(one.encode(q, 0, t), one.encode(k, 0, s));
      CHECK(std::abs(score - dot(two.encode(q, 0, t), two.encode(k, 0, s))) < 1e-13);
      CHECK(std::abs(dot(one.encode(q, 0, t), one.encode(q, 0, t)) - dot(q, q)) < 1e-13);  // a length stays
      largest = std::max(largest, std::abs(score - dot(q, k)));
    }
  }
  CHECK(largest > 0.01);
}

// Cosine: the score is sum_i q_i k_i cos(Theta_i difference). Rotate: k turned by the difference, then the product.
template <class Position, int Dims>
void check_score(oracle::encoding encoding, std::int64_t keys) {
  std::mt19937_64 engine(6);
  ln::grid<Dims> where{};
  oracle::grid same;
  for (std::size_t axis = 0; axis < Dims; ++axis) where.extents[axis] = 3;
  same.extents.assign(Dims, 3);
  const tables<Position, Dims> table{where, keys};
  const auto angles = oracle::lrpe_angles(same, encoding, 1, keys);
  const auto count = static_cast<std::int64_t>(angles.size()) / where.size();
  const std::vector<double> q = random_numbers(engine, keys), k = random_numbers(engine, keys);
  for (std::int64_t t = 0; t < where.size(); ++t) {
    for (std::int64_t s = 0; s < where.size(); ++s) {
      std::vector<long double> difference;
      for (std::int64_t a = 0; a < count; ++a) {
        difference.push_back(angles[static_cast<std::size_t>(s * count + a)] -
                             angles[static_cast<std::size_t>(t * count + a)]);
      }
      const auto turned = oracle::lrpe(encoding, {k.begin(), k.end()}, difference);
      long double expected = 0;
      for (std::size_t i = 0; i < q.size(); ++i) expected += q[i] * turned[i];
      CHECK(std::abs(dot(table.encode(q, 0, t), table.encode(k, 0, s)) - static_cast<double>(expected)) < 1e-13);
    }
  }
}

}  // namespace

TEST_CASE("md_lrpe: theta is the authors'") {
  // base^(-2 i / d) for cosine, base^(-2 i / d) over d / 2 pairs for rotate; the same share for every axis.
  for (std::int64_t i = 0; i < 8; ++i) {
    CHECK(cosine::theta(i, 8, 1) ==
          doctest::Approx(std::pow(10000.0, -2.0 * static_cast<double>(i) / 8)).epsilon(1e-15));
  }
  for (std::int64_t i = 0; i < 4; ++i) {
    CHECK(halves::theta(i, 8, 1) ==
          doctest::Approx(std::pow(10000.0, -2.0 * static_cast<double>(i) / 8)).epsilon(1e-15));
  }
  CHECK(cosine::theta(5, 7, 2) == cosine::theta(1, 7, 2));
  CHECK(cosine::theta(1, 7, 2) == doctest::Approx(0.01).epsilon(1e-15));
  CHECK(halves::theta(2, 8, 2) == 1);
}

TEST_CASE("md_lrpe: angles of every token, in every form") {
  check_angles<cosine, 1>(oracle::encoding::cosine, {{7}, 2, {11}}, 5);
  check_angles<cosine, 2>(oracle::encoding::cosine, {{3, 5}, 0, {2, 40}}, 7);
  check_angles<cosine, 3>(oracle::encoding::cosine, {{2, 3, 4}, 1, {1, 0, 9}}, 8);
  check_angles<halves, 1>(oracle::encoding::rotate_halves, {{7}, 2, {11}}, 5);
  check_angles<halves, 2>(oracle::encoding::rotate_halves, {{3, 5}, 0, {2, 40}}, 10);
  check_angles<halves, 3>(oracle::encoding::rotate_halves, {{2, 3, 4}, 1, {1, 0, 9}}, 15);
  check_angles<neighbours, 2>(oracle::encoding::rotate_neighbours, {{3, 5}, 3, {2, 40}}, 11);
}

TEST_CASE("md_lrpe: angles keep their digits at far positions") {
  const tables<cosine, 1> far{{{1}, 0, {65535}}, 16};
  for (std::int64_t i = 0; i < 16; ++i) {
    const long double theta = std::pow(10000.0L, -2.0L * static_cast<long double>(i) / 16.0L);
    CHECK(std::abs(far.cosine_of.data()[i] - static_cast<double>(std::cos(65535 * theta))) < 2e-11);
  }
}

TEST_CASE("md_lrpe: float angles are those of double, rounded, and have the same bits wherever a call begins") {
  constexpr std::int64_t keys = 7, prefix = 2;
  using table = ln::tensor<ln::rank<3>, float>;
  ln::execution<ln::cpu> on{2};
  for (const std::int64_t start : {-37, -16, -1, 0, 5, 16, 65500}) {
    const ln::grid<2> where{{3, 41}, prefix, {start, 2 * start}};
    const tables<cosine, 2> expected{where, keys};
    table cosine_of{{{1, where.size(), keys}}}, sine_of{{{1, where.size(), keys}}};
    ln::detail::encode_angles<cosine, 2, float>(on, where, keys, {}, cosine_of.view(), sine_of.view(), {});
    double worst = 0;
    for (std::int64_t n = 0; n < where.size() * keys; ++n) {
      worst = std::max(worst, std::abs(expected.cosine_of.data()[n] - static_cast<double>(cosine_of.data()[n])));
      worst = std::max(worst, std::abs(expected.sine_of.data()[n] - static_cast<double>(sine_of.data()[n])));
    }
    INFO("start ", start);
    CHECK(worst < 3.1e-8);  // half a unit in the last place of 1, and little more
    for (std::int64_t t = prefix; t < where.size(); t += 11) {
      const auto at = where.coordinates(t);
      table one{{{1, 1, keys}}}, other{{{1, 1, keys}}};
      ln::detail::encode_angles<cosine, 2, float>(on, {{1, 1}, 0, at}, keys, {}, one.view(), other.view(), {});
      for (std::int64_t j = 0; j < keys; ++j) {
        CHECK(one.data()[j] == cosine_of.data()[t * keys + j]);
        CHECK(other.data()[j] == sine_of.data()[t * keys + j]);
      }
      // The same place, said in part by the offset and in part by an origin in memory.
      ln::tensor<ln::rank<1>, std::int64_t> origin{{{2}}};
      origin.data()[0] = at[0] - 3;
      origin.data()[1] = at[1] + 5;
      table moved{{{1, 1, keys}}}, other_moved{{{1, 1, keys}}};
      ln::detail::encode_angles<cosine, 2, float>(on, {{1, 1}, 0, {3, -5}}, keys, {}, moved.view(), other_moved.view(),
                                                  {}, std::as_const(origin).view());
      for (std::int64_t j = 0; j < keys; ++j) {
        CHECK(moved.data()[j] == one.data()[j]);
        CHECK(other_moved.data()[j] == other.data()[j]);
      }
    }
  }
}

TEST_CASE("md_lrpe: scores depend on differences of coordinates") {
  check_relative<cosine, 1>(5);
  check_relative<cosine, 2>(7);
  check_relative<cosine, 3>(8);
  check_relative<halves, 1>(5);
  check_relative<halves, 2>(9);
  check_relative<halves, 3>(13);
  check_relative<neighbours, 2>(9);
  check_score<cosine, 2>(oracle::encoding::cosine, 7);
  check_score<halves, 1>(oracle::encoding::rotate_halves, 5);
  check_score<halves, 3>(oracle::encoding::rotate_halves, 13);
  check_score<neighbours, 2>(oracle::encoding::rotate_neighbours, 9);
}
