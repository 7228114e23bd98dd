// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <lightnet/train/schedule.hpp>

namespace ln = lightnet;
using shapes = ln::learning_rate_schedule::shapes;

TEST_CASE("schedule: warm-up and cosine") {
  const ln::learning_rate_schedule rate{.shape = shapes::cosine, .peak = 2, .warmup = 4, .total = 24, .floor = 0.5};
  CHECK(rate(0) == 0.5);
  CHECK(rate(1) == 1);
  CHECK(rate(3) == 2);
  CHECK(rate(4) == 2);
  CHECK(rate(14) == doctest::Approx(1.25));
  CHECK(rate(9) == doctest::Approx(0.5 + 1.5 * 0.5 * (1 + std::cos(3.14159265358979 / 4))));
  CHECK(rate(24) == 0.5);
  CHECK(rate(1000000) == 0.5);
  for (std::int64_t step = 4; step < 24; ++step) CHECK(rate(step + 1) < rate(step));

  const ln::learning_rate_schedule at_once{.peak = 1, .warmup = 0, .total = 10};
  CHECK(at_once(0) == 1);
}

TEST_CASE("schedule: constant and inverse square root") {
  const ln::learning_rate_schedule flat{.shape = shapes::constant, .peak = 3, .warmup = 2};
  CHECK(flat(0) == 1.5);
  CHECK(flat(1) == 3);
  CHECK(flat(1000000) == 3);

  const ln::learning_rate_schedule root{.shape = shapes::inverse_square_root, .peak = 1, .warmup = 100, .floor = 0.1};
  CHECK(root(49) == 0.5);
  CHECK(root(99) == 1);
  CHECK(root(399) == doctest::Approx(0.5));
  CHECK(root(2499) == doctest::Approx(0.2));
  CHECK(root(100000000) == 0.1);
  const ln::learning_rate_schedule cold{.shape = shapes::inverse_square_root, .peak = 1};
  CHECK(cold(0) == 1);
  CHECK(cold(3) == 0.5);
}

TEST_CASE("schedule: refuses what is none") {
  const ln::learning_rate_schedule good{.peak = 1, .warmup = 3, .total = 4, .floor = 0.5};
  CHECK_NOTHROW(good.check());
  const auto refused = [&good](auto change) {
    ln::learning_rate_schedule bad = good;
    change(bad);
    CHECK_THROWS_AS(bad.check(), ln::value_error);
  };
  refused([](auto& s) { s.peak = -1; });
  refused([](auto& s) { s.peak = NAN; });
  refused([](auto& s) { s.floor = 2; });
  refused([](auto& s) { s.floor = NAN; });
  refused([](auto& s) { s.warmup = -1; });
  refused([](auto& s) { s.total = 3; });
}
