// SPDX-License-Identifier: Apache-2.0
// Reading ahead: the batches of the source alone, by another thread.
#include <doctest/doctest.h>

#include <atomic>
#include <lightnet/train/prefetching_batches.hpp>
#include <lightnet/train/trainer.hpp>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "train/tiny_model.hpp"

namespace {

namespace ln = lightnet;
using model = tiny::model<>;
using trainer = ln::trainer<model, double>;
using items = std::vector<std::int64_t>;
const std::atomic<bool> never{false};

/// What the copies of a source did, together.
struct history {
  std::mutex guard;
  std::vector<std::pair<items, std::int64_t>> loads;  // items, epoch
  std::vector<std::thread::id> threads;
  std::atomic<int> under_way{0};

  /// Waits, not for ever, for so many loads.
  bool reaches(std::size_t count) {
    for (int wait = 0; wait < 10'000; ++wait) {
      {
        const std::lock_guard lock{guard};
        if (loads.size() >= count) return true;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return false;
  }
};

/// Points that write down what is asked of them, take their time, and may throw at an item of an epoch.
struct observed : tiny::points<> {
  std::shared_ptr<history> log = std::make_shared<history>();
  std::int64_t bad_item = -1, bad_epoch = 0;

  batch load(std::span<const std::int64_t> chosen, std::int64_t epoch) {
    ++log->under_way;
    std::this_thread::sleep_for(std::chrono::microseconds(200));
    {
      const std::lock_guard lock{log->guard};
      log->loads.emplace_back(items(chosen.begin(), chosen.end()), epoch);
      log->threads.push_back(std::this_thread::get_id());
    }
    --log->under_way;
    if (epoch == bad_epoch && std::ranges::count(chosen, bad_item) > 0) {
      throw std::runtime_error("no item " + std::to_string(bad_item));
    }
    return tiny::points<>::load(chosen, epoch);
  }
};

observed source_of(std::int64_t count) {
  observed source;
  source.count = count;
  return source;
}

std::string trained_alone() {
  ln::execution<ln::cpu> on{2};
  trainer alone{model{}, tiny::options()};
  tiny::points<> source{200};
  CHECK(alone.run(on, source, never, [](const auto&) {}));
  return tiny::snapshot(alone);
}

}  // namespace

TEST_CASE("prefetching_batches: the bits of the source alone, each batch loaded once, in order, ahead") {
  ln::execution<ln::cpu> on{2};
  const observed source = source_of(200);
  auto& log = *source.log;
  {
    ln::prefetching_batches ahead{source};
    CHECK(ahead.size() == 200);
    trainer trained{model{}, tiny::options()};
    CHECK(trained.run(on, ahead, never, [&](const ln::training_progress& now) {
      if (now.step < 39) REQUIRE(log.reaches(static_cast<std::size_t>(now.step) + 1));  // before it is asked for
    }));
    CHECK(tiny::snapshot(trained) == trained_alone());
  }
  REQUIRE(log.loads.size() == 39);
  std::size_t at = 0;
  for (std::int64_t epoch = 0; epoch < 3; ++epoch) {
    const items order = ln::data_order(200, 5, epoch);
    for (std::size_t first = 0; first < 200; first += 16, ++at) {
      const items expected(order.begin() + static_cast<std::ptrdiff_t>(first),
                           order.begin() + static_cast<std::ptrdiff_t>(std::min<std::size_t>(first + 16, 200)));
      CHECK(log.loads[at].first == expected);
      CHECK(log.loads[at].second == epoch);
      CHECK((log.threads[at] == std::this_thread::get_id()) == (at == 0));
    }
  }
}

TEST_CASE("prefetching_batches: a batch stays as it is while the next one is loaded") {
  ln::prefetching_batches ahead{source_of(40)};
  tiny::points<> alone{40};
  const items first{3, 1, 2}, second{7, 9, 8}, third{4, 4, 4};
  const auto check = [&](const auto& batch, const items& chosen) {
    const auto expected = alone.load(chosen, 1);
    CHECK(std::equal(expected.inputs.data(), expected.inputs.data() + 9, batch.inputs.data()));
    CHECK(std::equal(expected.labels.data(), expected.labels.data() + 3, batch.labels.data()));
  };
  const auto one = ahead.load(first, 1);
  ahead.prefetch(second, 1);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  check(one, first);
  const auto two = ahead.load(second, 1);
  ahead.prefetch(third, 1);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  check(two, second);
  // What was not announced is loaded all the same: other items, another epoch.
  check(ahead.load(first, 1), first);
  ahead.prefetch(second, 2);
  check(ahead.load(second, 1), second);
  ahead.prefetch(first, 1);
  ahead.prefetch(third, 1);
  check(ahead.load(third, 1), third);
}

TEST_CASE("prefetching_batches: what load throws is thrown where the batch is asked for, and changes nothing") {
  ln::execution<ln::cpu> on{1};
  const items order = ln::data_order(200, 5, 1);
  observed source = source_of(200);
  source.bad_item = order[50];  // of the fourth batch of the second epoch: update 17
  source.bad_epoch = 1;
  ln::prefetching_batches ahead{source};
  trainer trained{model{}, tiny::options()};
  std::int64_t steps = 0;
  const auto train = [&] { trained.run(on, ahead, never, [&](const auto&) { ++steps; }); };
  CHECK_THROWS_WITH_AS(train(), doctest::Contains("no item"), std::runtime_error);
  CHECK(steps == 16);
  CHECK(trained.state().step == 16);
  CHECK(trained.state().position == 48);
  CHECK_THROWS_WITH_AS(train(), doctest::Contains("no item"), std::runtime_error);  // and again
  CHECK(steps == 16);
  tiny::points<> good{200};
  CHECK(trained.run(on, good, never, [](const auto&) {}));
  CHECK(tiny::snapshot(trained) == trained_alone());
}

TEST_CASE("prefetching_batches: stops, ends and goes on, bit for bit") {
  ln::execution<ln::cpu> on{2};
  const std::string expected = trained_alone();
  for (const std::int64_t stop_at : {1, 12, 13, 20, 38}) {
    CAPTURE(stop_at);
    const observed source = source_of(200);
    const auto until = [&](trainer& trained, auto& from) {
      std::atomic<bool> stop{false};
      CHECK_FALSE(trained.run(on, from, stop, [&](const auto& now) { stop = now.step == stop_at; }));
    };
    trainer same{model{}, tiny::options()}, other{model{}, tiny::options()};
    {
      ln::prefetching_batches ahead{source};
      until(same, ahead);
      CHECK(same.run(on, ahead, never, [](const auto&) {}));  // with the same source
      CHECK(tiny::snapshot(same) == expected);
    }
    {
      ln::prefetching_batches ahead{source};
      until(other, ahead);
    }
    CHECK(source.log->under_way == 0);  // nobody works on after the end
    ln::prefetching_batches again{source};
    CHECK(other.run(on, again, never, [](const auto&) {}));  // with a new one
    CHECK(tiny::snapshot(other) == expected);
  }
}

TEST_CASE("prefetching_batches: an evaluation reads ahead too, also in the middle of a training") {
  ln::execution<ln::cpu> on{2};
  tiny::points<> alone{200};
  const observed source = source_of(200);
  ln::prefetching_batches ahead{source};
  trainer trained{model{}, tiny::options()};
  CHECK(trained.run(on, ahead, never, [&](const ln::training_progress& now) {
    if (now.step % 10 != 0) return;
    const auto got = trained.evaluate(on, ahead), expected = trained.evaluate(on, alone);
    CHECK(got.loss == expected.loss);
    CHECK(got.correct == expected.correct);
  }));
  CHECK(tiny::snapshot(trained) == trained_alone());
}
