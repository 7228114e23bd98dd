// SPDX-License-Identifier: Apache-2.0
// A batch in shards, one after the other: the gradient of the batch as a whole, in the memory of a shard.
#include <doctest/doctest.h>

#include <atomic>
#include <cmath>
#include <lightnet/train/trainer.hpp>
#include <vector>

#include "layer/numbers.hpp"
#include "train/tiny_model.hpp"

namespace {

namespace ln = lightnet;
using numbers::list;
using model = tiny::model<>;

constexpr std::int64_t items = 41;

/// A batch of which few labels count, and those not evenly.
struct batch {
  list<double> x = numbers::normal(items * 3, 1);
  list<std::int32_t> labels = [] {
    list<std::int32_t> all(items, -1);
    for (const std::size_t counts : {0, 1, 2, 3, 5, 17, 39, 40}) all[counts] = static_cast<std::int32_t>(counts % 4);
    return all;
  }();
  ln::dynamic_view<2, const double> inputs{x.data(), {{items, 3}}};
  ln::dynamic_view<1, const std::int32_t> targets{labels.data(), {{items}}};
};

struct outcome {
  list<double> gradient;
  ln::update_report report;
};

outcome step(std::int64_t shard, int threads = 2) {
  ln::execution<ln::cpu> on{threads};
  auto options = tiny::options();
  options.shard = shard;
  ln::trainer<model, double> trained{model{}, options};
  const batch given;
  const ln::update_report report = trained.step(on, given.inputs, given.targets);
  return {tiny::values(trained.gradients()), report};
}

std::atomic<int> most{0};  // contexts that held something at a time

/// The model, whose contexts are counted while they hold something.
struct counting : tiny::model<> {
  template <class Mode>
  struct context : tiny::model<>::context<Mode> {
    ~context() { held -= this->hidden.empty() ? 0 : 1; }
    static inline std::atomic<int> held{0};
  };
  template <class Mode>
  void forward(ln::execution<ln::cpu>& on, const ln::parameters_of<counting, const double>& p,
               const ln::dynamic_view<2, const double>& x, const ln::dynamic_view<2, double>& y,
               context<Mode>& kept) const {
    if (kept.hidden.empty()) {
      const int now = ++context<Mode>::held;
      if (std::is_same_v<Mode, ln::train>) most = std::max(most.load(), now);
    }
    tiny::model<>::forward(on, p, x, y, kept);
  }
};

}  // namespace

TEST_CASE("shards: the gradient of the mean over all labels that count, whatever the shard") {
  const outcome whole = step(items);
  CHECK(whole.report.counted == 8);
  for (const std::int64_t shard : {1, 2, 3, 7, 20, 40}) {
    CAPTURE(shard);
    const outcome parts = step(shard);
    CHECK(numbers::largest_difference(parts.gradient, whole.gradient) <= 1e-16);
    CHECK(parts.report.loss == doctest::Approx(whole.report.loss).epsilon(1e-14));
    CHECK(parts.report.correct == whole.report.correct);
    CHECK(parts.report.counted == 8);
    for (const int threads : {1, 3, 5}) {
      const outcome same = step(shard, threads);
      CHECK(same.gradient == parts.gradient);
      CHECK(same.report.loss == parts.report.loss);
    }
  }
}

TEST_CASE("shards: what a model keeps is kept for a shard a thread") {
  ln::execution<ln::cpu> on{2};
  auto options = tiny::options();
  options.shard = 2;
  const batch given;
  {
    ln::trainer<counting, double> trained{counting{}, options};
    trained.step(on, given.inputs, given.targets);
    trained.step(on, given.inputs, given.targets);
  }
  CHECK(most >= 2);
  CHECK(most <= 3);  // of 21 shards; the last one has a place of its own
}

TEST_CASE("shards: it is known where memory moves") {
  ln::execution<ln::cpu> on{1};
  auto options = tiny::options();
  options.shard = 4;
  ln::detail::batch_pass<model, double, ln::cpu> pass{model{}, options};
  const batch given;
  const auto moved = [&](std::int64_t count) {
    pass.prepare(on, given.inputs.slice(0, 0, count), given.targets.slice(0, 0, count));
    return pass.moved();
  };
  const std::int64_t first = moved(21);  // five of 4 and one of 1
  CHECK(moved(21) == first);
  CHECK(moved(9) == first);
  CHECK(moved(3) == first);
  const std::int64_t larger_rest = moved(7);  // 4 and 3
  CHECK(larger_rest != first);
  CHECK(moved(21) == larger_rest);
  CHECK(moved(41) != larger_rest);
}
