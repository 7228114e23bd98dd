// SPDX-License-Identifier: Apache-2.0
#include <lightnet/model/sampling.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <string>

namespace {

namespace ln = lightnet;
constexpr double infinity = std::numeric_limits<double>::infinity(),
                 not_a_number = std::numeric_limits<double>::quiet_NaN();

// Powers of them: 1/2, 1/16, 1/4, nothing, 1/8, 1/16, nothing.
const std::vector<double> logits{std::log(8), 0, std::log(4), -infinity, std::log(2), 0, not_a_number};

// How often each token comes, as a share of many places.
std::array<double, 7> shares(const ln::sampling_options& options) {
  constexpr int draws = 20'000;
  ln::sampler choose(options, 5);
  std::array<double, 7> share{};
  for (std::uint64_t place = 0; place < draws; ++place) {
    share[static_cast<std::size_t>(choose(std::span<const double>(logits), 3, place))] += 1.0 / draws;
  }
  return share;
}

void check(const ln::sampling_options& options, const std::array<double, 7>& expected) {
  const std::array<double, 7> got = shares(options);
  for (std::size_t i = 0; i < got.size(); ++i) {
    CAPTURE(i);
    CHECK(std::abs(got[i] - expected[i]) <= 0.015);
    CHECK((got[i] > 0) == (expected[i] > 0));
  }
}

}  // namespace

TEST_CASE("sampling: as often as the logits say, of those that may come") {
  check({}, {8 / 16.0, 1 / 16.0, 4 / 16.0, 0, 2 / 16.0, 1 / 16.0, 0});
  check({.temperature = 0.5}, {64 / 86.0, 1 / 86.0, 16 / 86.0, 0, 4 / 86.0, 1 / 86.0, 0});
  check({.top_k = 2}, {8 / 12.0, 0, 4 / 12.0, 0, 0, 0, 0});
  check({.top_k = 4}, {8 / 15.0, 1 / 15.0, 4 / 15.0, 0, 2 / 15.0, 0, 0});  // of equal ones the first
  check({.top_k = 100}, {8 / 16.0, 1 / 16.0, 4 / 16.0, 0, 2 / 16.0, 1 / 16.0, 0});
  check({.top_p = 0.4}, {1, 0, 0, 0, 0, 0, 0});
  check({.top_p = 0.7}, {8 / 12.0, 0, 4 / 12.0, 0, 0, 0, 0});
  check({.top_k = 3, .top_p = 0.9}, {8 / 14.0, 0, 4 / 14.0, 0, 2 / 14.0, 0, 0});
  check({.temperature = 0}, {1, 0, 0, 0, 0, 0, 0});
  check({.temperature = 1e-300}, {1, 0, 0, 0, 0, 0, 0});
}

TEST_CASE("sampling: the tokens of top_p and top_k are those that sorting all of them gives") {
  const ln::random_stream random{4};
  std::vector<double> many(5003);
  for (std::size_t i = 0; i < many.size(); ++i) many[i] = std::round(8 * random.normal(i)) / 4;  // many are equal
  std::vector<std::size_t> order(many.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return many[a] > many[b]; });
  for (const ln::sampling_options& options :
       {ln::sampling_options{.top_p = 0.01}, ln::sampling_options{.top_p = 0.5}, ln::sampling_options{.top_p = 0.999},
        ln::sampling_options{.top_k = 700}, ln::sampling_options{.top_k = 700, .top_p = 0.6},
        ln::sampling_options{.top_k = 700, .top_p = 0.999}}) {
    CAPTURE(options.top_k);
    CAPTURE(options.top_p);
    const std::size_t most = options.top_k > 0 ? static_cast<std::size_t>(options.top_k) : many.size();
    double all = 0, kept = 0;
    for (std::size_t i = 0; i < most; ++i) all += std::exp(many[order[i]]);
    std::size_t count = 0;
    for (; count < most && kept < options.top_p * all; ++count) kept += std::exp(many[order[count]]);
    ln::sampler choose(options, 5);
    for (std::uint64_t place = 0; place < 200; ++place) {
      const double uniform = ln::stream_for(ln::stream_purpose::sampling, 5, 3).uniform(place);
      std::size_t expected = 0;
      for (double sum = std::exp(many[order[0]]); sum <= uniform * kept && expected + 1 < count;) {
        sum += std::exp(many[order[++expected]]);
      }
      CHECK(choose(std::span<const double>(many), 3, place) == static_cast<std::int32_t>(order[expected]));
    }
  }
}

TEST_CASE("sampling: a function of seed, sequence and place") {
  ln::sampler one({}, 1), same({}, 1), other({}, 2);
  const std::vector<float> even(1000, 0.5F);
  const std::span<const float> all(even);
  const std::int32_t token = one(all, 7, 9);
  CHECK(one(all, 7, 9) == token);
  CHECK(same(all, 7, 9) == token);
  CHECK(other(all, 7, 9) != token);
  CHECK(one(all, 8, 9) != token);
  CHECK(one(all, 7, 10) != token);
  ln::sampler greedy({.temperature = 0}, 1);
  CHECK(greedy(all, 0, 0) == 0);
}

TEST_CASE("sampling: names what chooses nothing") {
  for (const ln::sampling_options& wrong :
       {ln::sampling_options{.temperature = -1}, ln::sampling_options{.temperature = not_a_number},
        ln::sampling_options{.top_k = -1}, ln::sampling_options{.top_p = 0}, ln::sampling_options{.top_p = 1.5}}) {
    CHECK_THROWS_AS(ln::sampler(wrong, 1), ln::value_error);
  }
  ln::sampler choose({}, 1);
  for (const std::vector<double>& wrong : {std::vector<double>{}, {-infinity, not_a_number}, {0, infinity, 1}}) {
    CHECK_THROWS_AS(choose(std::span<const double>(wrong), 0, 0), ln::value_error);
  }
}
