// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <lightnet/train/trainer.hpp>
#include <string>
#include <vector>

#include "oracle/gradient.hpp"
#include "train/tiny_model.hpp"

namespace ln = lightnet;

namespace {

using model = tiny::model<>;
using trainer = ln::trainer<model, double>;
const std::atomic<bool> never{false};

struct reports {
  std::vector<ln::training_progress>& list;
  void operator()(const ln::training_progress& now) const { list.push_back(now); }
};

}  // namespace

TEST_CASE_TEMPLATE("trainer: learns", T, double, ln::bfloat16) {
  ln::execution<ln::cpu> on{2};
  auto options = tiny::options();
  options.epochs = 20;
  options.schedule.total = 260;
  ln::trainer<tiny::model<5, T>, T> trained{tiny::model<5, T>{}, options};
  tiny::points<T> source{200};
  const auto before = trained.evaluate(on, source);
  std::vector<ln::training_progress> list;
  CHECK(trained.run(on, source, never, reports{list}));
  std::vector<std::int32_t> predicted(200);
  const auto after = trained.evaluate(on, source, predicted);
  CHECK(before.loss > 1);
  CHECK(after.loss < 0.5 * before.loss);
  CHECK(after.accuracy() > 0.95);
  CHECK(after.counted == 200);

  std::vector<std::int64_t> all(200);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::int64_t>(i);
  const auto labels = source.load(all, 0).labels;
  std::int64_t correct = 0;
  for (std::int64_t i = 0; i < 200; ++i) correct += labels(i) == predicted[static_cast<std::size_t>(i)] ? 1 : 0;
  CHECK(correct == after.correct);
}

TEST_CASE("trainer: every epoch visits every item once, and says how it goes") {
  ln::execution<ln::cpu> on{1};
  trainer trained{model{}, tiny::options()};
  tiny::points<> source{200};
  std::vector<ln::training_progress> list;
  CHECK(trained.run(on, source, never, reports{list}));
  REQUIRE(list.size() == 3 * 13);
  REQUIRE(source.visited.size() == 600);
  for (int epoch = 0; epoch < 3; ++epoch) {
    const auto first = source.visited.begin() + 200L * epoch;
    const std::vector<std::int64_t> items(first, first + 200);
    CHECK(items == ln::data_order(200, 5, epoch));
  }
  double loss = 0;
  std::int64_t correct = 0, counted = 0;
  for (std::size_t i = 0; i < list.size(); ++i) {
    const auto& now = list[i];
    if (i % 13 == 0) loss = 0, correct = counted = 0;
    loss += now.update.loss * static_cast<double>(now.update.counted);
    correct += now.update.correct;
    counted += now.update.counted;
    CHECK(now.step == static_cast<std::int64_t>(i) + 1);
    CHECK(now.epoch == static_cast<std::int64_t>(i) / 13);
    CHECK(now.items == (i % 13 == 12 ? 8 : 16));
    CHECK(now.epoch_finished == (i % 13 == 12));
    CHECK(now.update.learning_rate == tiny::options().schedule(static_cast<std::int64_t>(i)));
    CHECK(now.update.gradient_norm > 0);
    CHECK(now.loss == loss / static_cast<double>(counted));
    CHECK(now.accuracy == static_cast<double>(correct) / static_cast<double>(counted));
  }
  CHECK(trained.finished());
  CHECK(trained.state().epoch == 3);
  CHECK(trained.run(on, source, never, reports{list}));  // nothing is left to do
  CHECK(list.size() == 3 * 13);
}

TEST_CASE("trainer: gradients by finite differences") {
  ln::execution<ln::cpu> on{2};
  auto options = tiny::options();
  options.schedule.peak = 0;  // the parameters stay where they are
  options.optimiser.clip_norm = 0;
  trainer trained{model{}, options};
  tiny::points<> source{11};
  const std::vector<std::int64_t> items{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
  const auto batch = source.load(items, 0);
  trained.step(on, batch.inputs, batch.labels);
  const auto loss = [&](const std::vector<double>& parameters) {
    trainer moved{model{}, options};
    auto values = moved.parameters();
    std::copy(parameters.begin(), parameters.end(), values.view().data());
    moved.set_parameters(std::move(values));
    return moved.evaluate(on, source).loss;
  };
  CHECK(oracle::check_gradient("trainer.parameters", loss, tiny::values(trained.parameters()),
                               tiny::values(trained.gradients())) <= 1e-7);
  MESSAGE(oracle::gradient_report());
}

TEST_CASE("trainer: stops when told, and goes on bit for bit") {
  ln::execution<ln::cpu> on{2};
  tiny::points<> source{200};
  std::vector<ln::training_progress> expected;
  trainer whole{model{}, tiny::options()};
  CHECK(whole.run(on, source, never, reports{expected}));

  for (const std::int64_t stop_at : {1, 7, 13, 20, 38}) {
    std::atomic<bool> stop{false};
    std::vector<ln::training_progress> list;
    trainer first{model{}, tiny::options()};
    CHECK_FALSE(first.run(on, source, stop, [&](const ln::training_progress& now) {
      list.push_back(now);
      if (now.step == stop_at) stop = true;
    }));
    CHECK(first.state().step == stop_at);

    auto options = tiny::options();
    trainer second{model{}, options};
    second.set_parameters(first.parameters());
    second.optimiser().first_moment() = first.optimiser().first_moment();
    second.optimiser().second_moment() = first.optimiser().second_moment();
    second.optimiser().restore(first.optimiser().state());
    second.restore(first.state());
    CHECK(second.run(on, source, never, reports{list}));
    CHECK(tiny::snapshot(second) == tiny::snapshot(whole));
    REQUIRE(list.size() == expected.size());
    for (std::size_t i = 0; i < list.size(); ++i) {
      CHECK(list[i].loss == expected[i].loss);
      CHECK(list[i].accuracy == expected[i].accuracy);
    }
  }
}

TEST_CASE_TEMPLATE("trainer: the seed decides the bits, the number of threads does not", T, double, ln::bfloat16) {
  const auto run = [](std::uint64_t seed, int threads) {
    ln::execution<ln::cpu> on{threads};
    auto options = tiny::options();
    options.seed = seed;
    options.shard = 3;
    ln::trainer<tiny::model<5, T>, T> trained{tiny::model<5, T>{}, options};
    tiny::points<T> source{200};
    trained.run(on, source, never, [](const auto&) {});
    return tiny::snapshot(trained);
  };
  CHECK(run(5, 1) == run(5, 3));
  CHECK(run(5, 1) != run(6, 1));
}

TEST_CASE("trainer: skips what is not finite, and gives up after a while") {
  ln::execution<ln::cpu> on{1};
  auto options = tiny::options();
  options.patience = 3;
  trainer trained{model{}, options};
  tiny::points<> source{200};
  source.poison = static_cast<double>(NAN);
  const auto before = tiny::values(trained.parameters());
  std::vector<ln::training_progress> list;
  CHECK_THROWS_WITH_AS(trained.run(on, source, never, reports{list}), doctest::Contains("training diverged"),
                       ln::value_error);
  CHECK(tiny::values(trained.parameters()) == before);
  REQUIRE(list.size() == 3);
  CHECK(list[2].update.skipped);
  CHECK(list[2].loss == 0);
  CHECK(std::isfinite(trained.state().loss));
  CHECK(trained.state().position == 48);
}

TEST_CASE("trainer: what throws changes nothing") {
  ln::execution<ln::cpu> on{1};
  trainer trained{model{}, tiny::options()};
  tiny::points<> source{200};
  std::atomic<bool> stop{false};
  trained.run(on, source, stop, [&](const auto& now) { stop = now.step == 5; });
  const auto before = tiny::snapshot(trained);

  tiny::points<> other{201}, none{0}, wrong{200};
  CHECK_THROWS_AS(trained.run(on, other, never, [](const auto&) {}), ln::value_error);
  CHECK_THROWS_AS(trained.run(on, none, never, [](const auto&) {}), ln::value_error);
  wrong.wrong_label = 100;
  const std::vector<std::int64_t> items{3, 17};
  const auto batch = wrong.load(items, 0);
  CHECK_THROWS_WITH_AS(trained.step(on, batch.inputs, batch.labels), doctest::Contains("row 1"), ln::value_error);
  std::vector<std::int32_t> few(3);
  CHECK_THROWS_AS(trained.evaluate(on, source, few), ln::shape_error);
  const auto refused = [&](auto change) {
    ln::training_state bad = trained.state();
    change(bad);
    CHECK_THROWS_AS(trained.restore(bad), ln::value_error);
  };
  refused([](auto& s) { s.step = -1; });
  refused([](auto& s) { s.epoch = 4; });
  refused([](auto& s) { s.epoch = 3; });  // and a position beyond it
  refused([](auto& s) { s.position = 3; });
  refused([](auto& s) { s.position = 208; });
  refused([](auto& s) { s.items = 16; });
  refused([](auto& s) { s.loss = NAN; });
  refused([](auto& s) { s.correct = s.counted + 1; });
  CHECK(tiny::snapshot(trained) == before);

  const auto refused_options = [&](auto change) {
    auto bad = tiny::options();
    change(bad);
    CHECK_THROWS_AS((trainer{model{}, bad}), ln::value_error);
  };
  refused_options([](auto& o) { o.batch = 0; });
  refused_options([](auto& o) { o.epochs = -1; });
  refused_options([](auto& o) { o.patience = 0; });
  refused_options([](auto& o) { o.smoothing = 1; });
  refused_options([](auto& o) { o.schedule.total = 0; });
  refused_options([](auto& o) { o.optimiser.beta1 = 1; });
}

TEST_CASE("trainer: float, and logits of a batch") {
  ln::execution<ln::cpu> on{2};
  using narrow = tiny::model<7, float>;
  ln::trainer<narrow, float> trained{narrow{}, tiny::options()};
  tiny::points<float> source{33};
  CHECK(trained.run(on, source, never, [](const auto&) {}));
  const std::vector<std::int64_t> items{4, 2};
  const auto both = trained.predict(on, source.load(items, 0).inputs, 2);
  CHECK(both.extent(0) == 2);
  CHECK(both.extent(1) == 4);
  const float last = both(1, 3);
  const std::vector<std::int64_t> item{2};
  CHECK(trained.predict(on, source.load(item, 0).inputs, 1)(0, 3) == last);
}

TEST_CASE("trainer: bfloat16 starts with the parameters of float, and computes with them rounded") {
  using narrow = tiny::model<5, ln::bfloat16>;
  using wide = tiny::model<5, float>;
  ln::execution<ln::cpu> on{1};
  ln::trainer<narrow, ln::bfloat16> trained{narrow{}, tiny::options()};
  ln::trainer<wide, float> exact{wide{}, tiny::options()};
  CHECK(tiny::values(trained.parameters()) == tiny::values(exact.parameters()));
  CHECK(&exact.parameters() == &exact.rounded_parameters());

  // The logits of the model with other parameters, rounded, and not with those before.
  auto others = trained.parameters();
  others.initialise(99);
  trained.set_parameters(others);
  auto rounded = exact.parameters();
  for (std::int64_t i = 0; i < others.size(); ++i) {
    rounded.view()(i) = ln::bfloat16(others.view()(i));
    CHECK(static_cast<float>(trained.rounded_parameters().view()(i)) == rounded.view()(i));
  }
  exact.set_parameters(rounded);
  const std::vector<std::int64_t> items{4, 2, 7};
  tiny::points<ln::bfloat16> source{33};
  const auto inputs = source.load(items, 0).inputs;
  const std::vector<float> same_inputs(source.values.begin(), source.values.end());
  const auto y = trained.predict(on, inputs, 3);
  const auto expected = exact.predict(on, ln::dynamic_view<2, const float>{same_inputs.data(), {{3, 3}}}, 3);
  for (std::int64_t i = 0; i < 3; ++i) {
    for (std::int64_t k = 0; k < 4; ++k) CHECK(y(i, k).bits() == ln::bfloat16(expected(i, k)).bits());
  }
  CHECK_THROWS_AS(trained.set_parameters({}), ln::shape_error);
}
