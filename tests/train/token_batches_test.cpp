// SPDX-License-Identifier: Apache-2.0
// Texts as a source of batches, and a trainer whose items have a label for every token.
#include <lightnet/layer/embedding.hpp>
#include <lightnet/layer/linear.hpp>
#include <lightnet/train/checkpoint.hpp>
#include <lightnet/train/token_batches.hpp>
#include <lightnet/train/trainer.hpp>

#include <doctest/doctest.h>

#include <atomic>

#include "../temporary_folder.hpp"
#include "oracle/gradient.hpp"
#include "train/tiny_model.hpp"

namespace {

namespace ln = lightnet;
using list = std::vector<std::int32_t>;

constexpr int letters = 7, width = 5;

/// The next token from the last one alone: logits = W E_token.
struct bigram {
  static constexpr int classes = letters;
  using embedding = ln::embedding<letters, width, double>;
  using head = ln::linear<width, letters, false, double>;
  static constexpr std::int64_t head_at = embedding::parameter_count, parameter_count = head_at + head::parameter_count;
  template <class Mode>
  struct context {
    ln::kept<Mode, double> embedded;
  };
  using token_view = ln::dynamic_view<2, const std::int32_t>;

  void describe(const std::string& prefix, std::int64_t offset, std::vector<ln::parameter>& all) const {
    embedding{}.describe(prefix + "embeddings.", offset, all, 1);
    head{}.describe(prefix + "head.", offset + head_at, all, 1);
  }
  static ln::dynamic_view<1, const std::int32_t> ids(const token_view& tokens) {
    return {tokens.data(), {{tokens.size()}}};
  }
  template <class Mode>
  void forward(ln::execution<ln::cpu>& on, const ln::parameters_of<bigram, const double>& params,
               const token_view& tokens, const ln::dynamic_view<2, double>& y, context<Mode>& kept) const {
    ln::execution<ln::cpu>::scope scratch{on};
    const auto x = kept.embedded.take(scratch, tokens.size(), width);
    embedding{}.forward(on, ln::detail::part_of<embedding>(params, 0), ids(tokens), x);
    head{}.forward(on, ln::detail::part_of<head>(params, head_at), x, y);
  }
  void backward(ln::execution<ln::cpu>& on, const ln::parameters_of<bigram, const double>& params,
                const token_view& tokens, const ln::dynamic_view<2, const double>& dy,
                const ln::parameters_of<bigram, double>& dparams, const context<ln::train>& kept) const {
    ln::execution<ln::cpu>::scope scratch{on};
    const auto dx = ln::detail::scratch_matrix<double, ln::cpu>(scratch, tokens.size(), width);
    head{}.backward(on, ln::detail::part_of<head>(params, head_at), kept.embedded.view(), dy, dx,
                    ln::detail::part_of<head>(dparams, head_at));
    embedding{}.backward(on, ids(tokens), dx, ln::detail::part_of<embedding>(dparams, 0));
  }
};
using trainer = ln::trainer<bigram, double>;

/// A text in which 0, 3, 6, 2, .. follow each other, but for every eleventh token.
list text(std::int64_t count) {
  list tokens;
  for (std::int64_t i = 0; i < count; ++i)
    tokens.push_back(static_cast<std::int32_t>(i % 11 == 4 ? i % 5 : 3 * i % letters));
  return tokens;
}

ln::token_batches<> source_of(const list& tokens, const ln::token_options& options) {
  return {{tokens.data(), {{static_cast<std::int64_t>(tokens.size())}}}, options};
}

ln::trainer_options options() {
  ln::trainer_options chosen = tiny::options();
  chosen.shard = 3;
  chosen.batch = 7;
  chosen.epochs = 4;
  chosen.schedule.peak = 0.2;
  chosen.schedule.total = 28;  // 7 an epoch of 45
  return chosen;
}

const std::atomic<bool> never{false};

}  // namespace

TEST_CASE("token_batches: items in the order asked for, labelled by the tokens that come next") {
  ln::execution<ln::cpu> on{2};
  const list tokens = text(60);
  auto source = source_of(tokens, {.length = 13});
  CHECK(source.size() == 4);  // 52 tokens and the label of the last
  const std::vector<std::int64_t> items{3, 0};
  const auto batch = source.load(items, 5);
  source.fill(on);
  for (std::int64_t t = 0; t < 13; ++t) {
    CHECK(batch.inputs(0, t) == tokens[static_cast<std::size_t>(39 + t)]);
    CHECK(batch.labels(0, t) == tokens[static_cast<std::size_t>(40 + t)]);
    CHECK(batch.inputs(1, t) == tokens[static_cast<std::size_t>(t)]);
    CHECK(batch.labels(1, t) == tokens[static_cast<std::size_t>(1 + t)]);
  }
  CHECK(source_of(text(53), {.length = 13}).size() == 4);
  CHECK(source_of(text(52), {.length = 13}).size() == 3);
}

TEST_CASE("token_batches: shifted cuts are a function of seed and epoch, lie everywhere, and stay inside the text") {
  const list tokens = text(60);
  auto source = source_of(tokens, {.length = 13, .shift = true, .seed = 4});
  CHECK(source.size() == 3);
  const auto same = source_of(tokens, {.length = 13, .shift = true, .seed = 4});
  std::vector<bool> seen(13);
  for (std::int64_t epoch = 0; epoch < 200; ++epoch) {
    const std::int64_t first = source.first(epoch);
    REQUIRE(first >= 0);
    REQUIRE(first + 3 * 13 < 60);  // the last label
    CHECK(same.first(epoch) == first);
    seen[static_cast<std::size_t>(first)] = true;
  }
  CHECK(seen == std::vector<bool>(13, true));
}

TEST_CASE("token_batches: names what is wrong") {
  const list tokens = text(14);
  CHECK(source_of(tokens, {.length = 13}).size() == 1);
  CHECK_THROWS_WITH_AS(source_of(tokens, {.length = 14}), doctest::Contains("15 or more, for items of 14"),
                       ln::value_error);
  CHECK_THROWS_AS(source_of(tokens, {.length = 13, .shift = true}), ln::value_error);
  CHECK_THROWS_AS(source_of(tokens, {.length = 0}), ln::value_error);
  CHECK_THROWS_AS(source_of({}, {.length = 1}), ln::value_error);
  auto source = source_of(tokens, {.length = 3});
  for (const std::int64_t wrong : {-1, 4}) {
    const std::vector<std::int64_t> items{0, wrong};
    CHECK_THROWS_WITH_AS(source.load(items, 0), doctest::Contains("those of 4"), ln::value_error);
  }
}

TEST_CASE("trainer: learns from a label for every token, with the gradients of finite differences") {
  ln::execution<ln::cpu> on{2};
  const list tokens = text(600);
  auto source = source_of(tokens, {.length = 13});
  trainer trained{bigram{}, options()};
  const ln::evaluation before = trained.evaluate(on, source);
  CHECK(before.counted == 46 * 13);
  CHECK(trained.run(on, source, never,
                    [](const ln::training_progress& now) { CHECK(now.update.counted == now.items * 13); }));
  list predicted(46 * 13);
  const ln::evaluation after = trained.evaluate(on, source, predicted);
  CHECK(after.loss < 0.5 * before.loss);
  CHECK(after.accuracy() > 0.8);
  std::int64_t correct = 0;
  for (std::size_t i = 0; i < predicted.size(); ++i) correct += predicted[i] == tokens[i + 1] ? 1 : 0;
  CHECK(correct == after.correct);
  list few(46);
  CHECK_THROWS_AS(trained.evaluate(on, source, few), ln::shape_error);

  auto still = options();
  still.schedule.peak = still.optimiser.clip_norm = 0;
  const list short_text = text(40);
  auto little = source_of(short_text, {.length = 13});
  trainer first{bigram{}, still};
  const std::vector<std::int64_t> items{0, 1, 2};
  const auto batch = little.load(items, 0);
  little.fill(on);
  first.step(on, batch.inputs, batch.labels);
  const auto loss = [&](const std::vector<double>& parameters) {
    trainer moved{bigram{}, still};
    auto values = moved.parameters();
    std::copy(parameters.begin(), parameters.end(), values.view().data());
    moved.set_parameters(std::move(values));
    return moved.evaluate(on, little).loss;
  };
  CHECK(oracle::check_gradient("trainer of tokens", loss, tiny::values(first.parameters()),
                               tiny::values(first.gradients())) <= 1e-7);
}

TEST_CASE("trainer: ten steps of tokens, saved, loaded, and ten more are twenty, bit for bit") {
  const folder here;
  const list tokens = text(600);
  const auto run = [&](trainer& training, int threads, std::int64_t until) {
    ln::execution<ln::cpu> on{threads};
    auto source = source_of(tokens, {.length = 13, .shift = true, .seed = 5});
    CHECK(source.size() == 45);
    std::atomic<bool> stop{false};
    training.run(on, source, stop, [&](const ln::training_progress& now) { stop = now.step == until; });
  };
  trainer whole{bigram{}, options()}, first{bigram{}, options()}, second{bigram{}, options()};
  run(whole, 1, 20);
  run(first, 2, 10);
  ln::save_checkpoint(here / "ten.safetensors", first);
  ln::checkpoint{here / "ten.safetensors"}.load(second);
  run(second, 3, 20);
  CHECK(second.state().step == 20);
  CHECK(tiny::snapshot(second) == tiny::snapshot(whole));
}
