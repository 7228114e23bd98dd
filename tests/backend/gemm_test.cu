// SPDX-License-Identifier: Apache-2.0
// The matrix product of the GPU: values against long double for every type and layout, the same bits in every call, and
// in a graph.
#include <lightnet/backend/cuda/gemm.cuh>

#include "../few.hpp"
#include "layer/device_numbers.cuh"

namespace {

namespace ln = lightnet;
using ln::cuda;
using numbers::array, numbers::list;

// How a matrix lies in memory: its strides, and how many elements before its first.
struct layout {
  std::int64_t row_stride, column_stride, offset, elements;
};

layout rows_apart(std::int64_t rows, std::int64_t columns) { return {columns + 3, 1, 0, rows * (columns + 3) + 1}; }
layout columns_apart(std::int64_t rows, std::int64_t columns) { return {1, rows + 2, 1, columns * (rows + 2) + 2}; }
layout dense(std::int64_t rows, std::int64_t columns) { return {columns, 1, 0, rows * columns}; }
layout backwards(std::int64_t rows, std::int64_t columns) {
  return {-columns, 1, rows * columns - columns, rows * columns};
}
layout one_row_again(std::int64_t, std::int64_t columns) { return {0, 1, 0, columns}; }
layout columns_side_by_side(std::int64_t rows, std::int64_t columns) { return {1, rows, 0, rows * columns}; }
layout odd_address(std::int64_t rows, std::int64_t columns) { return {columns, 1, 1, rows * columns + 1}; }
using make_layout = layout (*)(std::int64_t, std::int64_t);

template <class T>
struct matrix {
  std::int64_t rows, columns;
  layout at;
  list<T> memory;

  matrix(std::int64_t r, std::int64_t c, make_layout make, std::uint64_t seed) : rows{r}, columns{c}, at{make(r, c)} {
    memory = numbers::unwritten<T>(std::max<std::int64_t>(at.elements, 1));
    if (seed == 0) return;
    const list<double> values = numbers::normal(rows * columns, seed);
    for (std::int64_t i = 0; i < rows * columns; ++i) {
      memory[place(i / columns, i % columns)] = static_cast<T>(values[static_cast<std::size_t>(i)]);
    }
  }
  std::size_t place(std::int64_t r, std::int64_t c) const {
    return static_cast<std::size_t>(at.offset + r * at.row_stride + c * at.column_stride);
  }
  double operator()(std::int64_t r, std::int64_t c) const { return static_cast<double>(memory[place(r, c)]); }
  template <class U>
  ln::dynamic_view<2, U, cuda> view(T* device) const {
    return {device + at.offset, {{rows, columns}}, {at.row_stride, at.column_stride}};
  }
};

struct question {
  std::int64_t m, n, k;
  make_layout a, b, c;
  bool accumulate;
  std::int64_t bias = -1;  // its place in memory that is aligned; none where negative
};

template <class T>
list<T> bias_of(const question& q) {
  return numbers::cast<T>(numbers::normal(q.n + std::max<std::int64_t>(q.bias, 0), 4));
}

template <class T>
list<T> product(ln::execution<cuda>& on, const question& q) {
  const matrix<T> a(q.m, q.k, q.a, 1), b(q.k, q.n, q.b, 2), c(q.m, q.n, q.c, q.accumulate ? 3 : 0);
  array<T, cuda> of_a{a.memory}, of_b{b.memory}, of_c{c.memory};
  if (q.bias >= 0) {
    array<T, cuda> bias{bias_of<T>(q)};
    ln::detail::gemm_with_bias<T>(on, a.template view<const T>(of_a.data()), b.template view<const T>(of_b.data()),
                                  bias.data() + q.bias, c.template view<T>(of_c.data()));
    return of_c.read(on);
  }
  ln::detail::gemm<T>(on, a.template view<const T>(of_a.data()), b.template view<const T>(of_b.data()),
                      c.template view<T>(of_c.data()), q.accumulate);
  return of_c.read(on);
}

// The largest error over what rounding allows: k roundings of the sum, and one of the result, or one before and one after a
// bias is added. What lies between the rows is not written.
template <class T>
double error_of(const question& q, const list<T>& memory, double epsilon_of_products) {
  const matrix<T> a(q.m, q.k, q.a, 1), b(q.k, q.n, q.b, 2), c(q.m, q.n, q.c, q.accumulate ? 3 : 0);
  const auto epsilon = static_cast<double>(std::numeric_limits<T>::epsilon());
  const list<T> bias = bias_of<T>(q);
  double worst = 0;
  list<char> written(memory.size(), 0);
  for (std::int64_t i = 0; i < q.m; ++i) {
    for (std::int64_t j = 0; j < q.n; ++j) {
      long double sum = q.accumulate ? c(i, j) : 0;
      if (q.bias >= 0) sum = static_cast<double>(bias[static_cast<std::size_t>(q.bias + j)]);
      const auto start = static_cast<double>(std::abs(sum));
      long double size = std::abs(sum);
      for (std::int64_t s = 0; s < q.k; ++s) {
        const long double term = static_cast<long double>(a(i, s)) * b(s, j);
        sum += term;
        size += std::abs(term);
      }
      const std::size_t at = c.place(i, j);
      written[at] = 1;
      const auto error = static_cast<double>(std::abs(static_cast<double>(memory[at]) - sum));
      if (error == 0) continue;
      const double allowed =
          (static_cast<double>(q.k + 1) / 2 * static_cast<double>(std::numeric_limits<ln::accumulator<T>>::epsilon()) +
           epsilon_of_products) *
              static_cast<double>(size) +
          epsilon * (static_cast<double>(std::abs(sum)) + (q.bias >= 0 ? start : 0)) +
          static_cast<double>(std::numeric_limits<T>::denorm_min());
      worst = std::isfinite(error) ? std::max(worst, error / allowed) : std::numeric_limits<double>::infinity();
    }
  }
  for (std::size_t i = 0; i < memory.size(); ++i) {
    if (!written[i] && !std::isnan(static_cast<double>(memory[i]))) worst = std::numeric_limits<double>::infinity();
  }
  return worst;
}

template <class T>
void check_one(ln::execution<cuda>& on, const question& q, double epsilon_of_products = 0) {
  CAPTURE(q.m);
  CAPTURE(q.n);
  CAPTURE(q.k);
  CAPTURE(q.accumulate);
  CAPTURE(q.bias);
  const list<T> got = product<T>(on, q);
  const double error = error_of(q, got, epsilon_of_products);
  CHECK(error <= 1);
  if (!few_will_do()) CHECK(numbers::same_bits(product<T>(on, q), got));
}

template <class T>
void check() {
  struct size {
    std::int64_t m, n, k;
  };
  const size sizes[] = {{7, 5, 11},    {1, 33, 19},     {29, 1, 37},  {1, 1, 1030},  {3, 4, 1},      {517, 19, 23},
                        {65, 129, 70}, {13, 21, 1025},  {5, 9, 4096}, {6, 11, 9001}, {33, 17, 5003}, {1, 7, 4500},
                        {9, 1, 4500},  {131, 257, 515}, {6, 7, 0},    {0, 7, 5},     {7, 0, 5}};
  ln::execution<cuda> on;
  const std::size_t apart = few_will_do() ? 4 : 1;
  for (std::size_t i = 0; i < std::size(sizes); i += apart) {
    const size& s = sizes[i];
    for (const make_layout a : {rows_apart, columns_apart}) {
      for (const make_layout b : {rows_apart, columns_apart}) {
        CAPTURE(a == rows_apart);
        CAPTURE(b == rows_apart);
        for (const bool accumulate : {false, true}) check_one<T>(on, {s.m, s.n, s.k, a, b, rows_apart, accumulate});
      }
    }
    for (const std::int64_t bias : {-1, 0, 1, 16}) check_one<T>(on, {s.m, s.n, s.k, dense, dense, dense, false, bias});
    check_one<T>(on, {s.m, s.n, s.k, rows_apart, columns_apart, rows_apart, false, 0});
  }
  for (const bool accumulate : {false, true}) {
    check_one<T>(on, {37, 21, 45, odd_address, odd_address, odd_address, accumulate});
    check_one<T>(on, {37, 21, 45, backwards, dense, dense, accumulate});
    check_one<T>(on, {37, 21, 45, dense, backwards, backwards, accumulate});
    check_one<T>(on, {37, 21, 4500, backwards, dense, backwards, accumulate});
  }
  // One row times columns at whole multiples of 16 bytes, and beside it where these are not given.
  for (const size& s : {size{1, 37, 1032},
                        {1, 9, 6784},
                        {1, 1, 8},
                        {1, 16, 136},
                        {1, 9001, 136},
                        {1, 1500, 2056},
                        {1, 37, 1031},
                        {2, 37, 1032}}) {
    for (const bool accumulate : {false, true}) {
      const question q{s.m, s.n, s.k, dense, columns_side_by_side, rows_apart, accumulate};
      check_one<T>(on, q);
      if (few_will_do()) continue;
      const list<T> got = product<T>(on, q);
      const ln::execution<cuda>::constant_weights promise{on};
      CHECK(numbers::same_bits(product<T>(on, q), got));
    }
  }
  // A few rows times many columns: a number of these that is no multiple of 16 bytes, and sums that the library may cut.
  for (const size& s : {size{2, 1029, 72},
                        {7, 1031, 264},
                        {16, 1033, 40},
                        {17, 1024, 136},
                        {300, 1024, 136},
                        {128, 1027, 24},
                        {129, 1027, 24},
                        {3, 1025, 4104}}) {
    if (few_will_do() && s.k > 4000) continue;  // racecheck knows no barrier of the library's kernels that cut a sum
    for (const bool accumulate : {false, true}) {
      check_one<T>(on, {s.m, s.n, s.k, dense, columns_side_by_side, dense, accumulate});
      if (!few_will_do()) check_one<T>(on, {s.m, s.n, s.k, dense, columns_apart, odd_address, accumulate});
    }
  }
  // Every row of A is the same one.
  const question q{37, 21, 45, one_row_again, dense, dense, false};
  const list<T> got = product<T>(on, q);
  const list<T> first(got.begin(), got.begin() + 21), last(got.end() - 21, got.end());
  CHECK(numbers::same_bits(first, last));
}

}  // namespace

TEST_CASE("cuda gemm: float, in full precision") { check<float>(); }
TEST_CASE("cuda gemm: double") { check<double>(); }
TEST_CASE("cuda gemm: bfloat16") { check<ln::bfloat16>(); }
TEST_CASE("cuda gemm: float16") { check<ln::float16>(); }

TEST_CASE("cuda gemm: an axis of one element has any stride") {
  ln::execution<cuda> on;
  array<float, cuda> a{{2, 0, 0, 3, 0, 0, 5}}, b{{7, 11}}, c{numbers::unwritten<float>(6)};
  // [3, 1] with rows three apart, times [1, 2] with a row stride that is no leading dimension.
  ln::detail::gemm<float>(on, {a.data(), {{3, 1}}, {3, 100}}, {b.data(), {{1, 2}}, {-1, 1}}, c.view<2>({3, 2}), false);
  CHECK(c.read(on) == list<float>{14, 22, 21, 33, 35, 55});
  // [1, 3] with columns three apart, times [3, 1] that is dense along its first axis.
  array<float, cuda> down{{1, 10, 100}}, one{numbers::unwritten<float>(1)};
  ln::detail::gemm<float>(on, {a.data(), {{1, 3}}, {0, 3}}, {down.data(), {{3, 1}}, {1, 0}}, one.view<2>({1, 1}),
                          false);
  CHECK(one.read(on) == list<float>{532});
}

TEST_CASE("cuda gemm: tf32 where the execution allows it") {
  ln::execution<cuda> on;
  on.allow_tf32 = true;
  check_one<float>(on, {131, 257, 512, dense, dense, dense, false}, 1.0 / 512);
  check_one<float>(on, {128, 64, 8192, columns_apart, dense, dense, true}, 1.0 / 512);
  on.allow_tf32 = false;
  check_one<float>(on, {131, 257, 512, dense, dense, dense, false});
}

TEST_CASE("cuda gemm: a graph replays the same bits, and another execution gives them too") {
  cudaStream_t stream = nullptr;
  REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
  {
    ln::execution<cuda> on{stream}, other;
    const question questions[] = {{131, 257, 515, dense, columns_apart, dense, false},
                                  {33, 17, 5003, columns_apart, dense, dense, false},
                                  {37, 21, 45, backwards, dense, dense, false}};
    for (const question& q : questions) {
      CAPTURE(q.k);
      const matrix<float> a(q.m, q.k, q.a, 1), b(q.k, q.n, q.b, 2), c(q.m, q.n, q.c, 0);
      array<float, cuda> of_a{a.memory}, of_b{b.memory}, of_c{c.memory};
      const auto call = [&](ln::execution<cuda>& mine) {
        ln::detail::gemm<float>(mine, a.view<const float>(of_a.data()), b.view<const float>(of_b.data()),
                                c.view<float>(of_c.data()), false);
      };
      call(other);
      const list<float> expected = of_c.read(other);
      call(on);  // sizes the workspace
      call(on);
      CHECK(numbers::same_bits(of_c.read(on), expected));
      cudaGraph_t graph = nullptr;
      cudaGraphExec_t ready = nullptr;
      REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
      call(on);
      REQUIRE(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
      REQUIRE(cudaGraphInstantiate(&ready, graph, 0) == cudaSuccess);
      cuda::clear(of_c.data(), c.memory.size() * sizeof(float));
      REQUIRE(cudaGraphLaunch(ready, stream) == cudaSuccess);
      CHECK(numbers::same_bits(of_c.read(on), expected));
      cudaGraphExecDestroy(ready);
      cudaGraphDestroy(graph);
    }
  }
  cudaStreamDestroy(stream);
}
