// SPDX-License-Identifier: Apache-2.0
// The primitives that layers are made of: map, and sums over rows and columns.
#include <lightnet/backend/cpu/reduce.hpp>

#include <doctest/doctest.h>

#include "numbers.hpp"

namespace {

namespace ln = lightnet;
using numbers::list;

struct weigh {
  void operator()(float& y, const float& x, const float& of_row, const float& of_column) const noexcept {
    y = x * of_row + of_column;
  }
};
struct terms {
  ln::detail::sums<float, 2> operator()(const float&, const float& x, const float& w) const noexcept {
    return {{x, x * w}};
  }
};
struct combine {
  float operator()(std::int64_t row, const ln::detail::sums<float, 2>& sum) const noexcept {
    return sum.values[0] + 3 * sum.values[1] + static_cast<float>(row);
  }
};
struct place {
  void operator()(const float& finished, float& y, const float& x, const float&) const noexcept { y = finished - x; }
};
struct product {
  float operator()(const float& x, const float& of_row) const noexcept { return x * of_row; }
};

// x is a window of a wider matrix.
constexpr std::int64_t gap = 3;
ln::dynamic_view<2, const float> window(const list<float>& x, std::int64_t rows, std::int64_t columns) {
  return {x.data(), {{rows, columns}}, {columns + gap, 1}};
}

void check(std::int64_t rows, std::int64_t columns, std::int64_t period) {
  CAPTURE(rows);
  CAPTURE(columns);
  const list<float> x = numbers::cast<float>(numbers::normal(rows * (columns + gap), 1));
  const list<float> of_row = numbers::cast<float>(numbers::normal(rows, 2));
  const list<float> of_column = numbers::cast<float>(numbers::normal(period * columns, 3));
  const auto at = [&](std::int64_t r, std::int64_t c) { return x[static_cast<std::size_t>(r * (columns + gap) + c)]; };
  const auto weight = [&](std::int64_t r, std::int64_t c) {
    return of_column[static_cast<std::size_t>(r % period * columns + c)];
  };
  struct results {
    list<float> mapped, reduced, summed;
  };
  const auto run = [&](int threads) {
    ln::execution<ln::cpu> on(threads);
    results to{numbers::unwritten<float>(rows * columns), numbers::unwritten<float>(rows * columns),
               numbers::unwritten<float>(period * columns)};
    const ln::detail::by_column<const float> weights{of_column.data(), period};
    ln::detail::map(on, rows, columns, weigh{}, numbers::view_of<2>(to.mapped, {rows, columns}),
                    window(x, rows, columns), ln::detail::by_row{of_row.data()}, weights);
    ln::detail::reduce_map<float, 2>(on, rows, columns, terms{}, combine{}, place{},
                                     numbers::view_of<2>(to.reduced, {rows, columns}), window(x, rows, columns),
                                     weights);
    ln::detail::reduce_columns(on, rows, columns, to.summed.data(), period, product{}, window(x, rows, columns),
                               ln::detail::by_row{of_row.data()});
    return to;
  };
  const results got = run(1);
  double map_error = 0, row_error = 0, column_error = 0;
  for (std::int64_t r = 0; r < rows; ++r) {
    double sum = 0, weighted = 0, size = 0;
    for (std::int64_t c = 0; c < columns; ++c) {
      sum += at(r, c);
      weighted += static_cast<double>(at(r, c)) * weight(r, c);
      size += std::abs(at(r, c)) * (1 + 3 * std::abs(weight(r, c)));
    }
    for (std::int64_t c = 0; c < columns; ++c) {
      const auto i = static_cast<std::size_t>(r * columns + c);
      const double mapped = static_cast<double>(at(r, c)) * of_row[static_cast<std::size_t>(r)] + weight(r, c);
      map_error = std::max(map_error, std::abs(got.mapped[i] - mapped));
      const double expected = sum + 3 * weighted + static_cast<double>(r) - at(r, c);
      row_error = std::max(row_error, std::abs(got.reduced[i] - expected) / (size + static_cast<double>(r) + 4));
    }
  }
  for (std::int64_t p = 0; p < period; ++p) {
    for (std::int64_t c = 0; c < columns; ++c) {
      double sum = 0, size = 1;
      for (std::int64_t r = p; r < rows; r += period) {
        sum += static_cast<double>(at(r, c)) * of_row[static_cast<std::size_t>(r)];
        size += std::abs(at(r, c) * of_row[static_cast<std::size_t>(r)]);
      }
      column_error =
          std::max(column_error, std::abs(got.summed[static_cast<std::size_t>(p * columns + c)] - sum) / size);
    }
  }
  CHECK(map_error <= 2e-6);
  CHECK(row_error <= 1e-6);
  CHECK(column_error <= 1e-6);
  for (const int threads : {2, 3}) {
    const results again = run(threads);
    CHECK(numbers::same_bits(again.mapped, got.mapped));
    CHECK(numbers::same_bits(again.reduced, got.reduced));
    CHECK(numbers::same_bits(again.summed, got.summed));
  }
}

}  // namespace

TEST_CASE("map, reduce_map and reduce_columns are plain loops, with the same bits for any number of threads") {
  check(5, 7, 1);
  check(1, 33, 1);
  check(6, 16, 3);
  check(3, 1, 3);
  check(777, 45, 3);
  check(0, 5, 1);
  check(2, 20011, 1);
}

TEST_CASE("shares of sequences and heads are added in their order") {
  ln::execution<ln::cpu> on(2);
  list<double> two(3 * 2), three(3 * 2 * 5);
  for (std::size_t i = 0; i < two.size(); ++i) two[i] = static_cast<double>(i);
  for (std::size_t i = 0; i < three.size(); ++i) three[i] = static_cast<double>(i);
  list<double> heads = numbers::unwritten(2), each = numbers::unwritten(2 * 5), shared = numbers::unwritten(5);
  ln::detail::sum_shares(on, numbers::view_of<2>(two, {3, 2}), numbers::view_of<1>(heads, {2}), false);
  CHECK(heads == list<double>{6, 9});
  ln::detail::sum_shares(on, numbers::view_of<2>(two, {3, 2}), numbers::view_of<1>(heads, {2}), true);
  CHECK(heads == list<double>{12, 18});
  ln::detail::sum_shares(on, numbers::view_of<3>(three, {3, 2, 5}), numbers::view_of<2>(each, {2, 5}), false);
  CHECK(each == list<double>{30, 33, 36, 39, 42, 45, 48, 51, 54, 57});
  ln::detail::sum_shares(on, numbers::view_of<3>(three, {3, 2, 5}), numbers::view_of<2>(shared, {1, 5}), false);
  CHECK(shared == list<double>{75, 81, 87, 93, 99});
  ln::detail::sum_shares(on, numbers::view_of<3>(three, {3, 2, 5}), numbers::view_of<2>(shared, {1, 5}), true);
  CHECK(shared == list<double>{150, 162, 174, 186, 198});
}
