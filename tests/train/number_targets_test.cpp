// SPDX-License-Identifier: Apache-2.0
// Models that predict numbers: the mean squared error, their training, the average of their weights.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <lightnet/loss/mean_squared_error.hpp>
#include <lightnet/train/trainer.hpp>
#include <lightnet/train/weight_average.hpp>
#include <string>
#include <vector>

#if __has_include(<nlohmann/json.hpp>)
#include <lightnet/io/saved_average.hpp>

#include "../temporary_folder.hpp"
#endif

#include "layer/numbers.hpp"
#include "train/tiny_model.hpp"

namespace {

namespace ln = lightnet;
using numbers::list;

/// y [B 2, 3] of x [B, 4]: each of the two rows is a product with weights of its own.
struct pairs {
  static constexpr int features = 4, rows = 2, columns = 3, classes = 1;
  static constexpr std::int64_t parameter_count = std::int64_t{rows} * columns * features;
  template <class Mode>
  struct context {};

  void describe(const std::string& prefix, std::int64_t offset, std::vector<ln::parameter>& list) const {
    list.push_back(
        {prefix + "weight", {rows, columns, features}, offset, ln::initial_value::truncated_normal(0.5), true});
  }
  template <class Mode>
  void forward(ln::execution<ln::cpu>&, const ln::parameters_of<pairs, const double>& p,
               const ln::dynamic_view<2, const double>& x, const ln::dynamic_view<2, double>& y, context<Mode>&) const {
    for (std::int64_t r = 0; r < y.extent(0); ++r) {
      for (std::int64_t c = 0; c < columns; ++c) {
        y(r, c) = 0;
        for (std::int64_t f = 0; f < features; ++f) {
          y(r, c) += p((r % rows * columns + c) * features + f) * x(r / rows, f);
        }
      }
    }
  }
  template <ln::write>
  void backward(ln::execution<ln::cpu>&, const ln::parameters_of<pairs, const double>&,
                const ln::dynamic_view<2, const double>& x, const ln::dynamic_view<2, const double>& dy,
                const ln::dynamic_view<2, double>&, const ln::parameters_of<pairs, double>& dp,
                const context<ln::train>&) const {
    std::fill_n(dp.data(), dp.size(), 0.0);
    for (std::int64_t r = 0; r < dy.extent(0); ++r) {
      for (std::int64_t c = 0; c < columns; ++c) {
        for (std::int64_t f = 0; f < features; ++f) {
          dp((r % rows * columns + c) * features + f) += dy(r, c) * x(r / rows, f);
        }
      }
    }
  }
};

/// Points whose targets [B, 2, 3] are those of a model, and a little more.
struct points {
  struct batch {
    ln::dynamic_view<2, const double> inputs;
    ln::dynamic_view<3, const double> labels;
  };
  list<double> weights = numbers::normal(pairs::parameter_count, 8), x{}, targets{};

  static std::int64_t size() { return 50; }
  batch load(std::span<const std::int64_t> items, std::int64_t) {
    const auto count = static_cast<std::int64_t>(items.size());
    x.clear();
    for (const std::int64_t item : items) {
      const list<double> of_item = numbers::normal(4, 100 + static_cast<std::uint64_t>(item));
      x.insert(x.end(), of_item.begin(), of_item.end());
    }
    targets.resize(6 * items.size());
    ln::execution<ln::cpu> on{1};
    pairs::context<ln::infer> nothing;
    const ln::parameters_of<pairs, const double> params{weights.data(), {}};
    pairs{}.forward(on, params, numbers::view_of<2>(std::as_const(x), {count, 4}),
                    numbers::view_of<2>(targets, {2 * count, 3}), nothing);
    for (double& target : targets) target += 0.1;
    return {numbers::view_of<2>(std::as_const(x), {count, 4}),
            numbers::view_of<3>(std::as_const(targets), {count, 2, 3})};
  }
};

ln::trainer_options options() {
  ln::trainer_options chosen;
  chosen.batch = 7;
  chosen.shard = 3;
  chosen.epochs = 12;
  chosen.seed = 5;
  chosen.optimiser.weight_decay = 0;
  chosen.schedule = {.shape = ln::learning_rate_schedule::shapes::constant, .peak = 0.05};
  return chosen;
}

using trainer = ln::trainer<pairs, double>;
const std::atomic<bool> never{false};

}  // namespace

TEST_CASE("mean squared error: value and gradient, the same bits for any number of threads") {
  const list<double> y = numbers::normal(23 * 41, 1), targets = numbers::normal(23 * 41, 2);
  const auto rows_of = [](const list<double>& all) {
    return ln::dynamic_view<2, const double>{all.data(), {{23, 37}}, {41, 1}};
  };
  long double sum = 0;
  for (std::int64_t r = 0; r < 23; ++r) {
    for (std::int64_t c = 0; c < 37; ++c) sum += std::pow(rows_of(y)(r, c) - rows_of(targets)(r, c), 2.0L);
  }
  list<double> first;
  for (const int threads : {1, 2, 3}) {
    ln::execution<ln::cpu> on{threads};
    list<double> loss = numbers::unwritten(1), alone = numbers::unwritten(1), dy = numbers::unwritten(23 * 37);
    std::int64_t counted = -1;
    ln::mean_squared_error<double>(on, {rows_of(y), rows_of(targets)},
                                   {.loss = numbers::view_of<1>(loss, {1}),
                                    .counted = {&counted, {{1}}},
                                    .dy = numbers::view_of<2>(dy, {23, 37})});
    ln::mean_squared_error<double>(on, {rows_of(y), rows_of(targets)}, {.loss = numbers::view_of<1>(alone, {1})});
    CHECK(loss[0] == doctest::Approx(static_cast<double>(sum / (23 * 37))).epsilon(1e-14));
    CHECK(alone == loss);
    CHECK(counted == 23);
    for (std::int64_t r = 0; r < 23; ++r) {
      for (std::int64_t c = 0; c < 37; ++c) {
        CHECK(dy[static_cast<std::size_t>(37 * r + c)] ==
              doctest::Approx(2 * (rows_of(y)(r, c) - rows_of(targets)(r, c)) / (23 * 37)).epsilon(1e-14));
      }
    }
    dy.push_back(loss[0]);
    if (threads == 1) first = dy;
    CHECK(numbers::same_bits(dy, first));
  }
  ln::execution<ln::cpu> on{1};
  CHECK(numbers::message_of<ln::shape_error>([&] {
          ln::mean_squared_error<double>(on, {rows_of(y), rows_of(targets).slice(0, 0, 22)}, {});
        }) ==
        "lightnet: mean_squared_error: targets: expected [23, 37] with dense rows, got [22, 37] with strides [41, 1]");
}

TEST_CASE("mean squared error: rows in parts add up to the mean over all") {
  const list<double> y = numbers::normal(23 * 5, 1), targets = numbers::normal(23 * 5, 2);
  const auto rows_of = [](const list<double>& all) { return numbers::view_of<2>(all, {23, 5}); };
  ln::execution<ln::cpu> on{2};
  double whole = 0, sum = 0;
  list<double> expected = numbers::unwritten(23 * 5), dy = expected;
  ln::mean_squared_error<double>(on, {rows_of(y), rows_of(targets)},
                                 {.loss = {&whole, {{1}}}, .dy = numbers::view_of<2>(expected, {23, 5})});
  std::int64_t first = 0;
  for (const std::int64_t rows : {4, 1, 18}) {
    double loss = 0;
    std::int64_t counted = -1;
    ln::mean_squared_error<double>(
        on, {.y = rows_of(y).slice(0, first, rows), .targets = rows_of(targets).slice(0, first, rows), .mean_of = 23},
        {.loss = {&loss, {{1}}}, .counted = {&counted, {{1}}}, .dy = {dy.data() + 5 * first, {{rows, 5}}}});
    CHECK(counted == rows);
    sum += loss;
    first += rows;
  }
  CHECK(dy == expected);
  CHECK(sum == doctest::Approx(whole).epsilon(1e-14));
  CHECK_THROWS_AS(ln::mean_squared_error<double>(on, {.y = rows_of(y), .targets = rows_of(targets), .mean_of = 22}, {}),
                  ln::value_error);
}

TEST_CASE("trainer: learns to predict numbers; the gradients are those of the loss") {
  ln::execution<ln::cpu> on{2};
  points source;
  trainer trained{pairs{}, options()};
  const ln::evaluation before = trained.evaluate(on, source);
  CHECK(before.counted == 50);
  CHECK(before.correct == 0);
  CHECK(trained.run(on, source, never, [](const ln::training_progress& now) {
    CHECK(now.update.counted == now.items);
    CHECK(now.accuracy == 0);
  }));
  // Of what no product gives, 0.1, a part stays.
  CHECK(before.loss > 1);
  CHECK(trained.evaluate(on, source).loss < 0.02);

  std::vector<std::int64_t> items(50);
  for (std::size_t i = 0; i < items.size(); ++i) items[i] = static_cast<std::int64_t>(i);
  const auto batch = source.load(items, 0);
  auto still = options();
  still.schedule.peak = 0;
  trainer moved{pairs{}, still};
  moved.step(on, batch.inputs, batch.labels);
  const auto loss_at = [&](std::int64_t i, double by) {
    auto values = moved.parameters();
    values.view()(i) += by;
    trainer other{pairs{}, still};
    other.set_parameters(std::move(values));
    return other.evaluate(on, source).loss;
  };
  for (std::int64_t i = 0; i < pairs::parameter_count; ++i) {
    CHECK(moved.gradients().view()(i) == doctest::Approx((loss_at(i, 1e-3) - loss_at(i, -1e-3)) / 2e-3).epsilon(1e-8));
  }
  std::vector<std::int32_t> predicted(50);
  CHECK_THROWS_AS(moved.evaluate(on, source, predicted), ln::shape_error);
}

TEST_CASE("weight average: young it follows the weights, old it keeps to its decay") {
  ln::execution<ln::cpu> on{2};
  auto weights = ln::parameter_block<double>::of(tiny::model<300>{});  // of more than one piece of work
  weights.initialise(1);
  ln::weight_average<double> average{weights, 0.5};
  std::vector<double> expected = tiny::values(weights);
  for (int n = 0; n < 20; ++n) {
    weights.initialise(static_cast<std::uint64_t>(n) + 2);
    average.update(on, weights);
    const double decay = std::min(0.5, (1.0 + n) / (10 + n));
    for (std::size_t i = 0; i < expected.size(); ++i) {
      expected[i] += (1 - decay) * (weights.view().data()[i] - expected[i]);
    }
    CHECK(average.updates() == n + 1);
  }
  CHECK(numbers::largest_difference(tiny::values(average.weights()), expected) < 1e-15);
  CHECK(tiny::values(average.weights()) != tiny::values(weights));
  CHECK_THROWS_AS(ln::weight_average<double>(weights, 1), ln::value_error);
  CHECK_THROWS_AS(average.update(on, ln::parameter_block<double>::of(pairs{})), ln::shape_error);
}

#if __has_include(<nlohmann/json.hpp>)
TEST_CASE("weight average: a checkpoint keeps it, and training goes on bit for bit") {
  const folder here;
  const auto path = here / "a.safetensors";
  ln::execution<ln::cpu> on{2};
  points source;
  const auto run = [&](trainer& training, ln::weight_average<double>& average, std::int64_t until) {
    std::atomic<bool> stop{false};
    training.run(on, source, stop, [&](const ln::training_progress& now) {
      average.update(on, training.parameters());
      stop = now.step == until;
    });
  };
  trainer whole{pairs{}, options()}, first{pairs{}, options()}, second{pairs{}, options()};
  ln::weight_average<double> expected{whole.parameters(), 0.9}, before{first.parameters(), 0.9},
      after{second.parameters(), 0.9};
  run(whole, expected, 0);
  run(first, before, 31);
  ln::checkpoint_extras extras;
  const ln::saved_average saved{before};
  saved.add_to(extras.tensors);
  ln::save_checkpoint(path, first, extras);

  const ln::checkpoint from{path};
  CHECK_THROWS_WITH_AS(from.load(second),
                       doctest::Contains("left over: 'extra.average.weight', 'extra.average_updates'"), ln::file_error);
  from.load(second, {"average"});
  ln::load_average(from, after);
  CHECK(after.updates() == 31);
  CHECK(tiny::values(after.weights()) == tiny::values(before.weights()));
  run(second, after, 0);
  CHECK(tiny::values(second.parameters()) == tiny::values(whole.parameters()));
  CHECK(tiny::values(after.weights()) == tiny::values(expected.weights()));

  ln::save_checkpoint(path, first);
  CHECK_THROWS_WITH_AS(ln::load_average(ln::checkpoint{path}, after),
                       doctest::Contains("missing: 'extra.average.weight', 'extra.average_updates'"), ln::file_error);
  auto updates = std::int64_t{-1};
  std::vector<double> numbers(24);
  const auto changed = [&](const std::vector<std::int64_t>& shape) {
    extras.tensors = {ln::store("average.weight", shape, std::span<const double>(numbers)),
                      ln::store("average_updates", {1}, std::span<const std::int64_t>(&updates, 1))};
    ln::save_checkpoint(path, first, extras);
    return ln::checkpoint{path};
  };
  CHECK_THROWS_WITH_AS(ln::load_average(changed({24}), after), doctest::Contains("of shape [24], expected [2, 3, 4]"),
                       ln::file_error);
  CHECK_THROWS_WITH_AS(ln::load_average(changed({2, 3, 4}), after), doctest::Contains("-1 updates"), ln::file_error);
  numbers[7] = NAN;
  CHECK_THROWS_WITH_AS(ln::load_average(changed({2, 3, 4}), after),
                       doctest::Contains("'weight' holds nan, expected finite numbers"), ln::file_error);
  CHECK(tiny::values(after.weights()) == tiny::values(expected.weights()));
}
#endif
