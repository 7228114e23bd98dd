// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <lightnet/train/presets.hpp>
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

TEST_CASE("presets: the settings of the paper") {
  const auto text = ln::paper_language_model(230'000);
  CHECK_NOTHROW(text.check());
  CHECK(text.schedule(3'999) == 5e-4);
  CHECK(text.epochs * ln::updates_of_epoch(230'000, text.batch) >= 50'000);
  CHECK(text.optimiser ==
        ln::adam_options{
            .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .weight_decay = 0.1, .decoupled_weight_decay = false});

  const auto classes = ln::paper_image_classification(1'281'167);
  CHECK_NOTHROW(classes.check());
  CHECK(classes.schedule.warmup == 20 * 626);
  CHECK(classes.schedule.total == 300 * 626);
  CHECK(classes.optimiser.clip_norm == 5);
  CHECK(classes.optimiser.decoupled_weight_decay);
  CHECK(classes.optimiser.weight_decay == 0.05);
  CHECK(ln::paper_image_classification(1'281'167, true).optimiser.weight_decay == 0.1);

  const auto images = ln::paper_image_generation(1'281'167);
  CHECK_NOTHROW(images.check());
  CHECK(images.schedule(123'456) == 1e-4);
  CHECK(images.optimiser.weight_decay == 0);
  CHECK(images.optimiser.decoupled_weight_decay);
}
