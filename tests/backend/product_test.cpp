// SPDX-License-Identifier: Apache-2.0
// The small products under every recurrence, against sums in long double, and what keeps their bits.
#include <doctest/doctest.h>

#include <lightnet/backend/cpu/product.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

namespace {

namespace detail = lightnet::detail;

/// A tile of random numbers, its rows whole registers; what pads them would spoil any sum.
template <class T>
struct matrix {
  std::int64_t stride;
  std::vector<T> numbers;

  matrix(std::mt19937_64& engine, std::int64_t rows, std::int64_t columns)
      : stride{detail::whole_lanes<T>(columns)}, numbers(static_cast<std::size_t>(rows * stride)) {
    std::normal_distribution<double> normal;
    for (T& x : numbers) x = static_cast<T>(normal(engine));
  }
  detail::tile<T> tile() { return {numbers.data(), stride}; }
  T at(std::int64_t i, std::int64_t j) const { return numbers[static_cast<std::size_t>(i * stride + j)]; }
};

/// Whether every number is the sum of the terms, in roundings of the sum of their magnitudes.
template <class T, class Terms>
void check_sums(const matrix<T>& came, std::int64_t rows, std::int64_t columns, const Terms& terms) {
  double worst = 0;
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < columns; ++j) {
      long double sum = 0, size = 0;
      terms(i, j, [&](long double term) {
        sum += term;
        size += std::abs(term);
      });
      const long double unit = size * std::numeric_limits<T>::epsilon() / 2;
      if (unit > 0) worst = std::max(worst, static_cast<double>(std::abs(came.at(i, j) - sum) / unit));
      if (size == 0) CHECK(came.at(i, j) == 0);
    }
  }
  CHECK(worst < 16);  // chains of up to 128; a wrong term gives millions
}

template <class T>
void check_products() {
  std::mt19937_64 engine{1};
  for (const std::int64_t m : {1, 3, 8, 16, 31, 64}) {
    for (const std::int64_t depth : {1, 7, 64, 65, 130}) {
      const std::int64_t n = 40, columns = detail::whole_lanes<T>(n);
      matrix<T> a(engine, m, depth), turned(engine, depth, m), b(engine, depth, n), more(engine, m, 70);
      matrix<T> right(engine, 70, n), to(engine, m, n);
      INFO("m ", m, ", depth ", depth);
      const matrix<T> before = to;
      using factors = detail::factors<T>;
      using destination = detail::destination<T>;
      detail::multiply(destination::onto(to.tile()), m, columns, factors::of(a.tile(), b.tile(), depth));
      check_sums(to, m, n, [&](auto i, auto j, auto add) {
        add(before.at(i, j));
        for (std::int64_t s = 0; s < depth; ++s) add(static_cast<long double>(a.at(i, s)) * b.at(s, j));
      });
      detail::multiply(destination::in(to.tile()), m, columns, factors::transposed(turned.tile(), b.tile(), depth),
                       factors::of(more.tile(), right.tile(), 70));
      check_sums(to, m, n, [&](auto i, auto j, auto add) {
        for (std::int64_t s = 0; s < depth; ++s) add(static_cast<long double>(turned.at(s, i)) * b.at(s, j));
        for (std::int64_t s = 0; s < 70; ++s) add(static_cast<long double>(more.at(i, s)) * right.at(s, j));
      });
      // A row has the same bits alone, and terms of zero at the end of either product change none.
      matrix<T> alone(engine, 1, n), longer(engine, depth + 9, m), longer_b(engine, depth + 9, n);
      std::fill(longer.numbers.begin(), longer.numbers.end(), T(0));
      std::copy(turned.numbers.begin(), turned.numbers.end(), longer.numbers.begin());
      std::copy(b.numbers.begin(), b.numbers.end(), longer_b.numbers.begin());
      const std::int64_t row = m / 2;
      const auto part = factors::transposed(longer.tile(), longer_b.tile(), depth + 9).part(row, 0);
      detail::multiply(destination::in(alone.tile()), 1, columns, part,
                       factors::of(more.tile().from(row), right.tile(), 70));
      for (std::int64_t j = 0; j < n; ++j) CHECK(alone.at(0, j) == to.at(row, j));
    }
  }
}

template <class T>
void check_next_states() {
  std::mt19937_64 engine{2};
  const std::int64_t m = 21, n = 33, depth = 30, columns = detail::whole_lanes<T>(n);
  matrix<T> a(engine, m, depth), b(engine, depth, n), old(engine, m, n), to(engine, m, n);
  matrix<T> keep(engine, 1, 64), gain(engine, 1, 64);
  const auto product = detail::factors<T>::of(a.tile(), b.tile(), depth);
  const auto check = [&](auto factor) {
    check_sums(to, m, n, [&](auto i, auto j, auto add) {
      add(static_cast<long double>(keep.at(0, factor(i, j))) * old.at(i, j));
      for (std::int64_t s = 0; s < depth; ++s) {
        add(static_cast<long double>(gain.at(0, factor(i, j))) * a.at(i, s) * b.at(s, j));
      }
    });
  };
  detail::multiply(detail::next_state<detail::scaling::rows, T>{to.numbers.data(), old.numbers.data(), to.stride,
                                                                keep.numbers.data(), gain.numbers.data()},
                   m, columns, product);
  check([](auto i, auto) { return i; });
  detail::multiply(detail::next_state<detail::scaling::columns, T>{to.numbers.data(), old.numbers.data(), to.stride,
                                                                   keep.numbers.data(), gain.numbers.data()},
                   m, columns, product);
  check([](auto, auto j) { return j; });
}

/// Triangles of `rows` rows, made in runs that begin at `cuts`, and what is multiplied by them.
template <class T>
void check_triangles(std::int64_t rows, const std::vector<std::int64_t>& cuts) {
  std::mt19937_64 engine{3};
  const std::int64_t depth = 20, n = 25, columns = detail::whole_lanes<T>(n);
  matrix<T> left(engine, rows, depth), right(engine, depth, rows), v(engine, rows, n), more(engine, rows, depth);
  matrix<T> u(engine, depth, n), scores(engine, rows, rows), o(engine, rows, n), turned(engine, rows, n);
  std::fill(scores.numbers.begin(), scores.numbers.end(), T(0));
  std::fill(turned.numbers.begin(), turned.numbers.end(), T(0));
  const detail::nothing_between nothing;
  for (std::size_t c = 0; c < cuts.size(); ++c) {
    const std::int64_t start = cuts[c], last = (c + 1 < cuts.size() ? cuts[c + 1] : rows) - 1;
    detail::lower_triangle(left.tile(), right.tile(), scores.tile(), depth, start, last);
    detail::multiply_triangle(scores.tile(), v.tile(), detail::destination<T>::in(o.tile().from(start)), columns, start,
                              last, nothing, detail::factors<T>::of(more.tile().from(start), u.tile(), depth));
    detail::multiply_triangle_transposed(scores.tile(), v.tile(), detail::destination<T>::onto(turned.tile()), columns,
                                         start, last, nothing);
  }
  const auto score = [&](std::int64_t t, std::int64_t s) { return static_cast<long double>(scores.at(t, s)); };
  check_sums(scores, rows, rows, [&](auto t, auto s, auto add) {
    for (std::int64_t i = 0; s <= t && i < depth; ++i) add(static_cast<long double>(left.at(t, i)) * right.at(i, s));
  });
  check_sums(o, rows, n, [&](auto t, auto j, auto add) {
    for (std::int64_t s = 0; s <= t; ++s) add(score(t, s) * v.at(s, j));
    for (std::int64_t i = 0; i < depth; ++i) add(static_cast<long double>(more.at(t, i)) * u.at(i, j));
  });
  check_sums(turned, rows, n, [&](auto s, auto j, auto add) {
    for (std::int64_t t = s; t < rows; ++t) add(score(t, s) * v.at(t, j));
  });
}

}  // namespace

TEST_CASE("product: sums of one and of two products") {
  check_products<float>();
  check_products<double>();
}

TEST_CASE("product: the next state keeps a part of the old one") {
  check_next_states<float>();
  check_next_states<double>();
}

TEST_CASE("product: triangles, whole and in runs") {
  for (const std::int64_t rows : {1, 5, 16, 32, 70}) {
    check_triangles<float>(rows, {0});
    check_triangles<double>(rows, {0});
  }
  check_triangles<float>(32, {0, 3, 20});
  check_triangles<double>(70, {0, 13, 14, 66});
}
