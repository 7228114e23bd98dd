// SPDX-License-Identifier: Apache-2.0
// Sums over rows, columns, shares and parts on the GPU. Of small whole numbers they are exact, and those of the CPU; of
// others they have the same bits twice, and those of a row are the same alone and inside a batch.
#include <lightnet/backend/reduce.hpp>
#include <lightnet/backend/shards.hpp>

#include "layer/sums_of_ones.hpp"

#include <utility>
#include <vector>

namespace {

namespace ln = lightnet;
using ln::cpu, ln::cuda;
using numbers::array, numbers::list;

struct terms {
  LIGHTNET_HOST_DEVICE ln::detail::sums<float, 2> operator()(const float&, const float& x,
                                                             const float& w) const noexcept {
    return {{x, x * w}};
  }
};
struct combine {
  float* kept;
  LIGHTNET_HOST_DEVICE float operator()(std::int64_t row, const ln::detail::sums<float, 2>& sum) const noexcept {
    kept[row] += 1;
    return sum.values[0] + 2 * sum.values[1] + static_cast<float>(row % 5);
  }
};
struct place {
  LIGHTNET_HOST_DEVICE void operator()(const float& finished, float& y, const float& x, const float&) const noexcept {
    y = finished - x;
  }
};
struct share {
  LIGHTNET_HOST_DEVICE float operator()(const float& finished, const float&, const float& x,
                                        const float&) const noexcept {
    return finished > 0 ? x + 1 : x;
  }
};
struct product {
  LIGHTNET_HOST_DEVICE float operator()(const float& x, const float& of_row) const noexcept { return x * of_row; }
};

template <class T>
list<T> whole(std::int64_t count, std::uint64_t seed) {
  list<T> x;
  for (const double a : numbers::normal(count, seed)) x.push_back(static_cast<T>(std::round(std::clamp(a, -4., 4.))));
  return x;
}
list<float> any(std::int64_t count, std::uint64_t seed) { return numbers::cast<float>(numbers::normal(count, seed)); }

struct question {
  std::int64_t rows, columns, period;
};
const question questions[] = {{5, 7, 1},     {1, 33, 1},   {6, 16, 3},   {3, 1, 3},   {777, 45, 3},   {0, 5, 1},
                              {2, 20011, 1}, {9, 1024, 1}, {9, 1025, 1}, {5, 0, 1},   {70001, 3, 1},  {1031, 31, 7},
                              {255, 40, 1},  {257, 40, 1}, {513, 33, 2}, {3, 65, 11}, {200003, 2, 3}, {67, 2048, 2},
                              {5, 2056, 1},  {41, 264, 3}, {300, 8, 2}};
// Between rows: with eight, those of a multiple of eight columns are read 16 bytes at a time.
constexpr std::int64_t gaps[] = {3, 8};

struct results {
  list<float> reduced, finished, summed, reduced_too, summed_too;
};

std::vector<std::pair<question, std::int64_t>> all_questions() {
  std::vector<std::pair<question, std::int64_t>> all;
  for (const question& q : questions) {
    for (const std::int64_t gap : gaps) all.emplace_back(q, gap);
  }
  return all;
}

template <class Device>
results ask(const question& q, std::int64_t gap, const list<float>& x, const list<float>& of_row,
            const list<float>& of_column) {
  ln::execution<Device> on;
  array<float, Device> from{x}, rows{of_row}, columns{of_column},
      reduced{numbers::unwritten<float>(q.rows * q.columns)}, finished{list<float>(static_cast<std::size_t>(q.rows))},
      summed{numbers::unwritten<float>(q.period * q.columns)},
      reduced_too{numbers::unwritten<float>(q.rows * q.columns)},
      summed_too{numbers::unwritten<float>(q.period * q.columns)};
  const ln::dynamic_view<2, const float, Device> window{from.data(), {{q.rows, q.columns}}, {q.columns + gap, 1}};
  ln::detail::reduce_map<float, 2>(on, q.rows, q.columns, terms{}, combine{finished.data()}, place{},
                                   reduced.template view<2>({q.rows, q.columns}), window,
                                   ln::detail::by_column<const float>{columns.data(), q.period});
  ln::detail::reduce_columns(on, q.rows, q.columns, summed.data(), q.period, product{}, window,
                             ln::detail::by_row{rows.data()});
  ln::detail::reduce_map_and_columns<float, 2>(on, q.rows, q.columns, terms{}, combine{finished.data()}, place{},
                                               summed_too.data(), q.period, share{},
                                               reduced_too.template view<2>({q.rows, q.columns}), window,
                                               ln::detail::by_column<const float>{columns.data(), q.period});
  return {reduced.read(on), finished.read(on), summed.read(on), reduced_too.read(on), summed_too.read(on)};
}

}  // namespace

TEST_CASE("cuda reduce_map and reduce_columns: whole numbers are added as on the CPU") {
  for (const auto& [q, gap] : all_questions()) {
    CAPTURE(q.rows);
    CAPTURE(q.columns);
    CAPTURE(gap);
    const list<float> x = whole<float>(q.rows * (q.columns + gap), 1), of_row = whole<float>(q.rows, 2),
                      of_column = whole<float>(q.period * q.columns, 3);
    const results got = ask<cuda>(q, gap, x, of_row, of_column), expected = ask<cpu>(q, gap, x, of_row, of_column);
    CHECK(numbers::same_bits(got.reduced, expected.reduced));
    CHECK(numbers::same_bits(got.finished, expected.finished));  // each row once a call
    CHECK(numbers::same_bits(got.summed, expected.summed));
    CHECK(numbers::same_bits(got.reduced_too, expected.reduced));
    CHECK(numbers::same_bits(got.summed_too, expected.summed_too));
  }
}

TEST_CASE(
    "cuda reduce_map and reduce_columns: close to the CPU, with the same bits twice, and rows alone as in a batch") {
  for (const auto& [q, gap] : all_questions()) {
    CAPTURE(q.rows);
    CAPTURE(q.columns);
    CAPTURE(gap);
    const list<float> x = any(q.rows * (q.columns + gap), 1), of_row = any(q.rows, 2),
                      of_column = any(q.period * q.columns, 3);
    const results got = ask<cuda>(q, gap, x, of_row, of_column), again = ask<cuda>(q, gap, x, of_row, of_column),
                  expected = ask<cpu>(q, gap, x, of_row, of_column);
    CHECK(numbers::same_bits(got.reduced, again.reduced));
    CHECK(numbers::same_bits(got.summed, again.summed));
    CHECK(numbers::same_bits(got.reduced_too, got.reduced));
    CHECK(numbers::same_bits(got.summed_too, again.summed_too));
    const auto close = [](const list<float>& a, const list<float>& b, std::int64_t terms_of_sum) {
      const double allowed = 2e-5 * std::sqrt(static_cast<double>(terms_of_sum) + 1);
      CHECK(numbers::largest_difference(numbers::cast<double>(a), numbers::cast<double>(b)) <= allowed);
    };
    close(got.reduced, expected.reduced, q.columns);
    close(got.summed, expected.summed, q.rows);
    // What is close to zero may be on either side of it.
    const auto apart =
        numbers::largest_difference(numbers::cast<double>(got.summed_too), numbers::cast<double>(expected.summed_too));
    CHECK(apart <= 2 + 2e-5 * std::sqrt(static_cast<double>(q.rows) + 1));
    if (q.rows == 0 || q.columns == 0 || q.period > 1) continue;
    const std::int64_t last = (q.rows - 1) / 5 * 5;  // finish adds row % 5
    const auto first = x.begin() + last * (q.columns + gap);
    const results alone =
        ask<cuda>({1, q.columns, 1}, gap, list<float>(first, first + q.columns + gap), {1}, of_column);
    const auto inside = got.reduced.begin() + last * q.columns;
    CHECK(numbers::same_bits(alone.reduced, list<float>(inside, inside + q.columns)));
  }
}

TEST_CASE("cuda sum_shares: shares of sequences and heads") {
  const auto ask_two = []<class Device>(Device, bool accumulate) {
    ln::execution<Device> on;
    array<double, Device> shares{whole<double>(1031 * 11, 1)}, to{whole<double>(7 * 2, 2)};
    // Seven of eleven heads, written to every other place.
    ln::detail::sum_shares(on, ln::dynamic_view<2, double, Device>{shares.data(), {{1031, 7}}, {11, 1}},
                           ln::dynamic_view<1, double, Device>{to.data(), {{7}}, {2}}, accumulate);
    return to.read(on);
  };
  const auto ask_three = []<class Device>(Device, std::int64_t rows, bool accumulate) {
    ln::execution<Device> on;
    array<double, Device> shares{whole<double>(129 * 3 * 5, 1)}, to{whole<double>(rows * 5, 2)};
    ln::detail::sum_shares(on, shares.template view<3>({129, 3, 5}), to.template view<2>({rows, 5}), accumulate);
    return to.read(on);
  };
  for (const bool accumulate : {false, true}) {
    CHECK(numbers::same_bits(ask_two(cuda{}, accumulate), ask_two(cpu{}, accumulate)));
    for (const std::int64_t rows : {1, 3}) {
      CAPTURE(rows);
      CHECK(numbers::same_bits(ask_three(cuda{}, rows, accumulate), ask_three(cpu{}, rows, accumulate)));
    }
  }
}

TEST_CASE("cuda sum_parts: the tree of the CPU, bit for bit") {
  for (const std::int64_t count : {1, 2, 3, 5, 7, 8, 13}) {
    CAPTURE(count);
    const auto ask_parts = [count]<class Device>(Device) {
      ln::execution<Device> on;
      array<float, Device> parts{any(count * 1237, 1)}, to{numbers::unwritten<float>(1237)};
      ln::detail::sum_parts(on, parts.data(), count, 1237, to.data());
      return to.read(on);
    };
    CHECK(numbers::same_bits(ask_parts(cuda{}), ask_parts(cpu{})));
  }
}

TEST_CASE("cuda sums of bfloat16 are in float") { numbers::check_sums_of_ones<cuda>(); }

TEST_CASE("cuda shards: one after the other, in their order") {
  ln::execution<cuda> on;
  ln::detail::shard_runner<cuda> runner;
  std::vector<std::int64_t> seen;
  runner.run(on, 4, [&](ln::execution<cuda>& mine, std::int64_t shard, int worker) {
    CHECK(&mine == &on);
    CHECK(worker == 0);
    seen.push_back(shard);
  });
  CHECK(seen == std::vector<std::int64_t>{0, 1, 2, 3});
}
