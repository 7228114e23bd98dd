// SPDX-License-Identifier: Apache-2.0
// map on the GPU: numbers that are small and whole, so that every result is exact and that of the CPU.
#include <lightnet/backend/map.hpp>
#include <lightnet/core/half.hpp>

#include "layer/device_numbers.cuh"

namespace {

namespace ln = lightnet;
using ln::cpu, ln::cuda;
using numbers::array, numbers::list;

struct weigh {
  LIGHTNET_HOST_DEVICE void operator()(float& y, const float& x, const float& of_row,
                                       const float& of_column) const noexcept {
    y = x * of_row + of_column;
  }
};
struct add {
  LIGHTNET_HOST_DEVICE void operator()(float& y, const float& x) const noexcept { y += x; }
};
struct split {
  LIGHTNET_HOST_DEVICE void operator()(double& low, const double& x, double& high) const noexcept {
    low = x - 1;
    high = x + 1;
  }
};
struct halve {
  LIGHTNET_HOST_DEVICE void operator()(ln::bfloat16& y, const ln::float16& x) const noexcept {
    y = ln::bfloat16(0.5F * x);
  }
};

// Whole numbers from -8 to 8.
template <class T = float>
list<T> whole(std::int64_t count, std::uint64_t seed) {
  list<T> x;
  for (const double a : numbers::normal(count, seed, 3))
    x.push_back(static_cast<T>(std::round(std::clamp(a, -8., 8.))));
  return x;
}

// Windows of wider matrices, a number a row, and some rows of weights that take turns. With a gap of eight, rows of a multiple of
// eight columns are read 16 bytes at a time.
template <class Device>
list<float> weighed(std::int64_t rows, std::int64_t columns, std::int64_t period, std::int64_t gap) {
  ln::execution<Device> on;
  array<float, Device> x{whole(rows * (columns + gap), 1)}, of_row{whole(rows, 2)},
      of_column{whole(period * columns, 3)}, y{numbers::unwritten<float>(rows * (columns + gap))};
  ln::detail::map(on, rows, columns, weigh{},
                  ln::dynamic_view<2, float, Device>{y.data(), {{rows, columns}}, {columns + gap, 1}},
                  ln::dynamic_view<2, const float, Device>{x.data(), {{rows, columns}}, {columns + gap, 1}},
                  ln::detail::by_row{of_row.data()}, ln::detail::by_column<const float>{of_column.data(), period});
  return y.read(on);
}

// Dense matrices: one long row for the GPU. What is read lies in memory that could be written.
template <class Device>
list<float> added(std::int64_t rows, std::int64_t columns, list<float>& read) {
  ln::execution<Device> on;
  array<float, Device> x{whole(rows * columns, 1)}, y{whole(rows * columns, 2)};
  ln::detail::map(on, rows, columns, add{}, y.template view<2>({rows, columns}), x.template view<2>({rows, columns}));
  read = x.read(on);
  return y.read(on);
}

struct size {
  std::int64_t rows, columns, period;
};
const size sizes[] = {{5, 7, 1},     {1, 33, 1}, {6, 16, 3},     {3, 1, 3},     {777, 45, 3},
                      {0, 5, 1},     {5, 0, 1},  {9, 31, 2},     {2, 20011, 1}, {70001, 3, 1},
                      {513, 129, 4}, {1, 1, 1},  {131, 1023, 7}, {7, 1025, 7},  {7, 2056, 2}};

}  // namespace

TEST_CASE("cuda map: every place once, whatever the strides, and nothing beside them") {
  for (const size& s : sizes) {
    CAPTURE(s.rows);
    CAPTURE(s.columns);
    for (const std::int64_t gap : {3, 8}) {
      const list<float> got = weighed<cuda>(s.rows, s.columns, s.period, gap);
      CHECK(numbers::same_bits(got, weighed<cpu>(s.rows, s.columns, s.period, gap)));
      std::int64_t unwritten = 0;
      for (const float each : got) unwritten += std::isnan(each) ? 1 : 0;
      CHECK(unwritten == gap * s.rows);
    }
  }
}

TEST_CASE("cuda map: dense matrices, of which one is read and written, and one only read") {
  for (const size& s : sizes) {
    CAPTURE(s.rows);
    CAPTURE(s.columns);
    list<float> read, expected_read;
    const list<float> expected = added<cpu>(s.rows, s.columns, expected_read);
    CHECK(numbers::same_bits(added<cuda>(s.rows, s.columns, read), expected));
    CHECK(numbers::same_bits(read, expected_read));
  }
}

TEST_CASE("cuda map: two results, and types of two bytes") {
  ln::execution<cuda> on;
  const list<double> x = whole<double>(11 * 13, 4);
  array<double, cuda> from{x}, low{numbers::unwritten(11 * 13)}, high{numbers::unwritten(11 * 13)};
  ln::detail::map(on, 11, 13, split{}, low.view<2>({11, 13}), from.view<2>({11, 13}), high.view<2>({11, 13}));
  const list<double> below = low.read(on), above = high.read(on);
  for (std::size_t i = 0; i < x.size(); ++i) {
    CHECK(below[i] == x[i] - 1);
    CHECK(above[i] == x[i] + 1);
  }
  array<ln::float16, cuda> narrow{whole<ln::float16>(9 * 10, 5)};
  array<ln::bfloat16, cuda> halves{numbers::unwritten<ln::bfloat16>(9 * 10)};
  // An odd address, and rows apart.
  ln::detail::map(on, 8, 9, halve{}, ln::dynamic_view<2, ln::bfloat16, cuda>{halves.data() + 1, {{8, 9}}, {10, 1}},
                  ln::dynamic_view<2, const ln::float16, cuda>{narrow.data() + 1, {{8, 9}}, {10, 1}});
  const list<ln::float16> whole_numbers = narrow.read(on);
  const list<ln::bfloat16> got = halves.read(on);
  for (std::size_t i = 1; i < 81; ++i) {
    if (i % 10 == 0) {
      CHECK(std::isnan(static_cast<float>(got[i])));
    } else {
      CHECK(static_cast<float>(got[i]) == 0.5F * static_cast<float>(whole_numbers[i]));
    }
  }
}
