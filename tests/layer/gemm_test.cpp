// SPDX-License-Identifier: Apache-2.0
// The matrix product, which owns its partition: values against long double, and bits that do not depend on threads.
#include <lightnet/backend/cpu/gemm.hpp>

#include <doctest/doctest.h>

#include <limits>

#include "numbers.hpp"

namespace {

namespace ln = lightnet;
using numbers::list;

// C = A B, or C + A B, or A B + bias, of the given sizes; `across` keeps a matrix in column-major order; all have room between their
// rows.
struct question {
  std::int64_t m, n, k;
  bool a_across, b_across;
  bool accumulate;
  bool with_bias = false;
};

template <class T>
struct matrix {
  std::int64_t rows, columns, row_stride, column_stride;
  list<T> memory;

  matrix(std::int64_t r, std::int64_t c, bool across, std::uint64_t seed)
      : rows{r}, columns{c}, row_stride{across ? 1 : c + 3}, column_stride{across ? r + 2 : 1} {
    memory = numbers::unwritten<T>((across ? columns : rows) * (across ? column_stride : row_stride) + 1);
    if (seed == 0) return;
    const list<double> values = numbers::normal(rows * columns, seed);
    for (std::int64_t i = 0; i < rows * columns; ++i) {
      (*this)(i / columns, i % columns) = static_cast<T>(values[static_cast<std::size_t>(i)]);
    }
  }
  T& operator()(std::int64_t r, std::int64_t c) {
    return memory[static_cast<std::size_t>(r * row_stride + c * column_stride)];
  }
  ln::dynamic_view<2, T> view() { return {memory.data(), {{rows, columns}}, {row_stride, column_stride}}; }
};

template <class T>
list<T> bias_of(const question& q) {
  return numbers::cast<T>(numbers::normal(q.n, 4));
}

template <class T>
list<T> product(const question& q, int threads) {
  ln::execution<ln::cpu> on(threads);
  matrix<T> a(q.m, q.k, q.a_across, 1), b(q.k, q.n, q.b_across, 2), c(q.m, q.n, false, q.accumulate ? 3 : 0);
  if (q.with_bias) {
    ln::detail::gemm_with_bias<T>(on, a.view(), b.view(), bias_of<T>(q).data(), c.view());
  } else {
    ln::detail::gemm<T>(on, a.view(), b.view(), c.view(), q.accumulate);
  }
  return c.memory;
}

// The largest |error| / (k eps |a||b|), for every element with the sum of its own terms' magnitudes; sums in a wider type
// are rounded once more.
template <class T>
double error_of(const question& q) {
  matrix<T> a(q.m, q.k, q.a_across, 1), b(q.k, q.n, q.b_across, 2), c(q.m, q.n, false, q.accumulate ? 3 : 0);
  matrix<T> got = c;
  got.memory = product<T>(q, 2);
  const list<T> bias = bias_of<T>(q);
  double worst = 0;
  for (std::int64_t i = 0; i < q.m; ++i) {
    for (std::int64_t j = 0; j < q.n; ++j) {
      long double sum = 0;
      if (q.accumulate) sum = static_cast<long double>(c(i, j));
      if (q.with_bias) sum = static_cast<long double>(bias[static_cast<std::size_t>(j)]);
      long double size = std::abs(sum);
      for (std::int64_t s = 0; s < q.k; ++s) {
        const long double term = static_cast<long double>(a(i, s)) * static_cast<long double>(b(s, j));
        sum += term;
        size += std::abs(term);
      }
      const auto error = static_cast<double>(std::abs(static_cast<long double>(got(i, j)) - sum));
      if (error == 0) continue;
      const auto half_ulp = [](auto x) { return static_cast<double>(std::numeric_limits<decltype(x)>::epsilon()) / 2; };
      double allowed = static_cast<double>(q.k + 1) * half_ulp(ln::accumulator<T>{}) * static_cast<double>(size);
      if (!std::is_same_v<T, ln::accumulator<T>>) allowed += half_ulp(T{}) * static_cast<double>(std::abs(sum));
      worst = std::isfinite(error) ? std::max(worst, error / allowed) : std::numeric_limits<double>::infinity();
    }
  }
  return worst;
}

template <class T>
void check() {
  struct size {
    std::int64_t m, n, k;
  };
  const size sizes[] = {{7, 5, 11},    {1, 33, 19},  {29, 1, 37},    {1, 1, 1030},  {3, 4, 1},
                        {517, 19, 23}, {300, 7, 70}, {13, 21, 1025}, {5, 9, 3071},  {257, 515, 1030},
                        {6, 7, 0},     {0, 7, 5},    {1, 133, 77},   {64, 131, 70}, {65, 67, 70}};
  double worst = 0;
  for (const size& s : sizes) {
    for (const bool a_across : {false, true}) {
      for (const bool b_across : {false, true}) {
        for (const int start : {0, 1, 2}) {
          if (s.m * s.n * s.k > 10000000 && a_across != b_across) continue;
          const question q{s.m, s.n, s.k, a_across, b_across, start == 1, start == 2};
          CAPTURE(s.m);
          CAPTURE(s.n);
          CAPTURE(s.k);
          CAPTURE(a_across);
          CAPTURE(b_across);
          CAPTURE(start);
          const double error = error_of<T>(q);
          CHECK(error <= 1);
          worst = std::max(worst, error);
          const list<T> one = product<T>(q, 1);
          for (const int threads : {2, 3, 4}) CHECK(numbers::same_bits(product<T>(q, threads), one));
        }
      }
    }
  }
  MESSAGE("gemm: at most " << worst << " of k eps |a||b|");
}

}  // namespace

TEST_CASE("gemm in float multiplies, whatever the layouts, with the same bits for any number of threads") {
  check<float>();
}
TEST_CASE("gemm in double multiplies, whatever the layouts, with the same bits for any number of threads") {
  check<double>();
}
TEST_CASE("gemm in bfloat16 adds in float and rounds once, with the same bits for any number of threads") {
  check<ln::bfloat16>();
}

TEST_CASE("gemm: of a few rows, each has the bits that it has among others") {
  const std::int64_t n = 131, k = 150;
  const auto rows = [&](std::int64_t m) {
    list<float> all = product<float>({m, n, k, false, true, false}, 2);
    all.resize(static_cast<std::size_t>(2 * (n + 3)));
    return all;
  };
  for (const std::int64_t m : {3, 16, 17, 64}) CHECK(numbers::same_bits(rows(m), rows(2)));
}

// For the whole program, see gemm.hpp.
template void lightnet::detail::gemm<double>(lightnet::execution<lightnet::cpu>&,
                                             const lightnet::dynamic_view<2, const double, lightnet::cpu>&,
                                             const lightnet::dynamic_view<2, const double, lightnet::cpu>&,
                                             const lightnet::dynamic_view<2, double, lightnet::cpu>&, bool);
