// SPDX-License-Identifier: Apache-2.0
// The embedding and its tied head against plain loops.
#include <lightnet/layer/embedding.hpp>
#include <lightnet/layer/linear.hpp>

#include <doctest/doctest.h>

#include "../oracle/model.hpp"
#include "gemm.hpp"
#include "numbers.hpp"

namespace {

namespace ln = lightnet;
using numbers::list;

constexpr int vocabulary = 13, width = 69;  // more columns than a thread takes at a time
constexpr std::int64_t rows = 157;

list<std::int32_t> some_ids() {
  list<std::int32_t> ids;
  for (std::int64_t r = 0; r < rows; ++r) ids.push_back(static_cast<std::int32_t>(r * r % 11));  // 11 and 12 never
  return ids;
}

// Rows lie 3 apart from each other's end.
template <class T>
ln::dynamic_view<2, T> spread(T* data) {
  return {data, {{rows, width}}, {width + 3, 1}};
}

template <class T>
struct answers {
  list<T> x, overwritten, added;
};

template <class T>
answers<T> ask(int threads) {
  using layer = ln::embedding<vocabulary, width, T>;
  ln::execution<ln::cpu> on(threads);
  const list<T> table = numbers::cast<T>(numbers::normal(layer::parameter_count, 1));
  const list<T> dx = numbers::cast<T>(numbers::normal(rows * (width + 3), 2));
  const list<std::int32_t> ids = some_ids();
  const auto ids_view = numbers::view_of<1>(ids, {rows});
  answers<T> got{numbers::unwritten<T>(rows * (width + 3)), numbers::unwritten<T>(layer::parameter_count), table};
  layer{}.forward(on, {table.data(), {}}, ids_view, spread(got.x.data()));
  layer{}.backward(on, ids_view, spread(dx.data()), {got.overwritten.data(), {}});
  layer{}.template backward<ln::write::add>(on, ids_view, spread(dx.data()), {got.added.data(), {}});
  return got;
}

template <class T>
void check(double tolerance) {
  const answers<T> got = ask<T>(1);
  const list<T> table = numbers::cast<T>(numbers::normal(vocabulary * width, 1));
  const list<double> dx = numbers::cast<double>(numbers::cast<T>(numbers::normal(rows * (width + 3), 2)));
  const list<std::int32_t> ids = some_ids();
  list<double> sums(vocabulary * width);
  for (std::int64_t r = 0; r < rows; ++r) {
    const auto id = static_cast<std::size_t>(ids[static_cast<std::size_t>(r)]);
    for (std::int64_t i = 0; i < width + 3; ++i) {
      const auto from = static_cast<std::size_t>(r * (width + 3) + i), to = id * width + static_cast<std::size_t>(i);
      if (i >= width) {
        CHECK(std::isnan(static_cast<double>(got.x[from])));
      } else {
        CHECK(got.x[from] == table[to]);
        sums[to] += dx[from];
      }
    }
  }
  CHECK(numbers::largest_difference(numbers::cast<double>(got.overwritten), sums) <= tolerance);
  const list<double> both = oracle::add(sums, numbers::cast<double>(table));
  CHECK(numbers::largest_difference(numbers::cast<double>(got.added), both) <= tolerance);
  for (const int threads : {2, 3}) {
    const answers<T> again = ask<T>(threads);
    CHECK(numbers::same_bits(again.overwritten, got.overwritten));
    CHECK(numbers::same_bits(again.added, got.added));
  }
}

}  // namespace

TEST_CASE("embedding takes rows, and adds gradients up in their order") {
  check<double>(1e-13);
  check<float>(1e-5);
  check<ln::bfloat16>(0.15);  // sums up to 40, rounded once
}

TEST_CASE("the tied head is the linear layer of the same weights") {
  using layer = ln::embedding<vocabulary, width, double>;
  using head = ln::linear<width, vocabulary, false, double>;
  ln::execution<ln::cpu> on(2);
  const list<double> table = numbers::normal(layer::parameter_count, 1), x = numbers::normal(rows * width, 2),
                     dy = numbers::normal(rows * vocabulary, 3);
  list<double> y = numbers::unwritten(rows * vocabulary), dx = numbers::unwritten(rows * width),
               d = numbers::unwritten(layer::parameter_count);
  auto other_y = y, other_dx = dx, other_d = d;
  const auto x_view = numbers::view_of<2>(x, {rows, width}), dy_view = numbers::view_of<2>(dy, {rows, vocabulary});
  layer{}.logits(on, {table.data(), {}}, x_view, numbers::view_of<2>(y, {rows, vocabulary}));
  layer{}.logits_backward(on, {table.data(), {}}, x_view, dy_view, numbers::view_of<2>(dx, {rows, width}),
                          {d.data(), {}});
  head{}.forward(on, {table.data(), {}}, x_view, numbers::view_of<2>(other_y, {rows, vocabulary}));
  head{}.backward(on, {table.data(), {}}, x_view, dy_view, numbers::view_of<2>(other_dx, {rows, width}),
                  {other_d.data(), {}});
  CHECK(numbers::same_bits(y, other_y));
  CHECK(numbers::same_bits(dx, other_dx));
  CHECK(numbers::same_bits(d, other_d));
}

TEST_CASE("embedding names an id that is none and writes nothing") {
  using layer = ln::embedding<vocabulary, width, double>;
  ln::execution<ln::cpu> on(1);
  const list<double> table = numbers::normal(layer::parameter_count, 1), dx = numbers::normal(2 * width, 2);
  list<double> x = numbers::unwritten(2 * width), d = numbers::unwritten(layer::parameter_count);
  const auto to = numbers::view_of<2>(x, {2, width});
  const auto forward = [&](const list<std::int32_t>& ids) {
    layer{}.forward(on, {table.data(), {}}, numbers::view_of<1>(ids, {static_cast<std::int64_t>(ids.size())}), to);
  };
  CHECK(numbers::message_of<ln::value_error>([&] {
          forward({3, 13});
        }) == "lightnet: embedding::forward: ids: expected 0 to 12, got 13 at row 1");
  CHECK(numbers::message_of<ln::shape_error>([&] {
          forward({3, 4, 5});
        }) == "lightnet: embedding::forward: ids: expected extents [2], got [3]");
  CHECK(numbers::message_of<ln::value_error>([&] {
          const list<std::int32_t> ids{-1, 0};
          layer{}.backward(on, numbers::view_of<1>(ids, {2}), numbers::view_of<2>(dx, {2, width}), {d.data(), {}});
        }) == "lightnet: embedding::backward: ids: expected 0 to 12, got -1 at row 0");
  for (const double a : x) CHECK(std::isnan(a));
  for (const double a : d) CHECK(std::isnan(a));
}
