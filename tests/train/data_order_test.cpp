// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <lightnet/train/data_order.hpp>
#include <map>
#include <vector>

namespace ln = lightnet;
using order = std::vector<std::int64_t>;

TEST_CASE("data_order: a permutation, a function of seed and epoch") {
  for (const std::int64_t count : {0, 1, 2, 3, 1009}) {
    order items = ln::data_order(count, 5, 3);
    CHECK(items == ln::data_order(count, 5, 3));
    if (count > 100) {
      CHECK(items != ln::data_order(count, 5, 4));
      CHECK(items != ln::data_order(count, 6, 3));
    }
    std::sort(items.begin(), items.end());
    REQUIRE(static_cast<std::int64_t>(items.size()) == count);
    for (std::int64_t i = 0; i < count; ++i) CHECK(items[static_cast<std::size_t>(i)] == i);
  }
  CHECK_THROWS_AS(ln::data_order(-1, 0, 0), ln::value_error);
  CHECK_THROWS_AS(ln::data_order(3, 0, -1), ln::value_error);
  CHECK_THROWS_AS(ln::data_order(3, 0, std::int64_t{1} << 32), ln::value_error);
}

TEST_CASE("data_order: every permutation as often as any other") {
  std::map<order, int> seen;
  constexpr int epochs = 24'000;
  for (int epoch = 0; epoch < epochs; ++epoch) ++seen[ln::data_order(4, 1, epoch)];
  REQUIRE(seen.size() == 24);
  double chi_square = 0;  // 23 degrees of freedom: mean 23, standard deviation 6.8
  for (const auto& [items, times] : seen) chi_square += std::pow(times - epochs / 24.0, 2) / (epochs / 24.0);
  CHECK(chi_square > 6);
  CHECK(chi_square < 55);
}

TEST_CASE("data_order: places and items have nothing in common") {
  constexpr std::int64_t count = 100'003;
  const order items = ln::data_order(count, 1, 0);
  double correlation = 0, neighbours = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const double middle = (count - 1) / 2.0, scale = 12.0 / (double{count} * count) / count;
    const auto here = static_cast<double>(items[static_cast<std::size_t>(i)]) - middle;
    const auto next = static_cast<double>(items[static_cast<std::size_t>((i + 1) % count)]) - middle;
    correlation += here * (static_cast<double>(i) - middle) * scale;
    neighbours += here * next * scale;
  }
  CHECK(std::abs(correlation) < 0.015);
  CHECK(std::abs(neighbours) < 0.015);
}

TEST_CASE("streams: purposes do not meet") {
  const auto bits = [](const ln::random_stream& random) {
    std::vector<std::uint32_t> words;
    for (std::uint64_t i = 0; i < 8; ++i) words.push_back(random.bits(i));
    return words;
  };
  CHECK(bits(ln::stream_for(ln::stream_purpose::parameters, 7, 2)) == bits(ln::random_stream{7, 2}));
  CHECK(bits(ln::stream_for(ln::stream_purpose::order, 7, 2)) != bits(ln::random_stream{7, 2}));
  CHECK(bits(ln::stream_for(ln::stream_purpose::order, 7, 2)) !=
        bits(ln::stream_for(ln::stream_purpose::augmentation, 7, 2)));
}
