// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "../temporary_folder.hpp"
#include "batches.hpp"
#include "command_line.hpp"
#include "common/fingerprint.hpp"
#include "common/recorder.hpp"
#include "common/resume.hpp"
#include "common/training_loop.hpp"
#include "train/tiny_model.hpp"

namespace ln = lightnet;

namespace {

/// Images of 3 x 5 pixels; pixel i of image n is 15 n + i + 1.
fashion_mnist::image_set images(std::int64_t count) {
  fashion_mnist::image_set set{count, 3, 5, {}, {}};
  for (std::int64_t i = 0; i < 15 * count; ++i) set.pixels.push_back(static_cast<std::uint8_t>(i + 1));
  for (std::int64_t i = 0; i < count; ++i) set.labels.push_back(static_cast<std::int32_t>(i % 10));
  return set;
}

fashion_mnist::arguments parsed(std::vector<std::string> words, std::optional<int>& code) {
  std::vector<char*> values;
  words.insert(words.begin(), "folder/program");
  values.reserve(words.size());
  for (auto& word : words) values.push_back(word.data());
  return fashion_mnist::parse(static_cast<int>(values.size()), values.data(), code);
}

}  // namespace

TEST_CASE("batches: the images of a set, normalised; moved and mirrored for training alone") {
  const auto set = images(9);
  ln::execution<ln::cpu> on{1};
  fashion_mnist::settings chosen;
  chosen.flip = true;
  chosen.shift = 1;
  fashion_mnist::batches testing{set, 7}, training{set, chosen, 7, 4};
  CHECK(testing.size() == 7);
  const std::vector<std::int64_t> items{6, 2};
  int changed = 0;
  for (std::int64_t epoch = 0; epoch < 20; ++epoch) {
    const auto batch = testing.load(items, epoch);
    testing.fill(on);
    CHECK(batch.inputs.extents() == std::array<std::int64_t, 4>{2, 3, 5, 1});
    for (std::int64_t i = 0; i < 2; ++i) {
      const std::int64_t item = items[static_cast<std::size_t>(i)];
      CHECK(batch.labels(i) == item % 10);
      for (std::int64_t pixel = 0; pixel < 15; ++pixel) {
        const double grey = set.image(item)[static_cast<std::size_t>(pixel)] / 255.0;
        CHECK(batch.inputs.data()[15 * i + pixel] ==
              static_cast<float>((grey - fashion_mnist::pixel_mean) / fashion_mnist::pixel_deviation));
      }
    }
    const auto other = training.load(items, epoch);
    training.fill(on);
    changed += std::equal(other.inputs.data(), other.inputs.data() + 30, batch.inputs.data()) ? 0 : 1;
  }
  CHECK(changed > 15);
}

TEST_CASE("fingerprint: FNV-1a of all bytes, in any number of arrays") {
  CHECK(examples::fingerprint(std::string{}) == "cbf29ce484222325");
  CHECK(examples::fingerprint(std::string{"a"}) == "af63dc4c8601ec8c");
  CHECK(examples::fingerprint(std::string{"foobar"}) == "85944171f73967e8");
  CHECK(examples::fingerprint(std::string{"foo"}, std::string{"bar"}) == "85944171f73967e8");
  std::vector<std::int32_t> numbers{1, 2, 3};
  const auto before = examples::fingerprint(numbers);
  numbers[1] += 1 << 24;
  CHECK(examples::fingerprint(numbers) != before);
}

TEST_CASE("recorder: a curve that survives a stop") {
  const folder here;
  const auto path = here / "a.safetensors";
  using trainer = ln::trainer<tiny::model<>, double>;
  ln::execution<ln::cpu> on{1};
  const auto run = [&](trainer& training, examples::recorder& record, std::int64_t until) {
    tiny::points<> source{200};
    std::atomic<bool> stop{false};
    training.run(on, source, stop, [&](const ln::training_progress& now) {
      record.add(now, 0.25, 100, false);
      stop = now.step == until;
    });
  };
  trainer whole{{}, tiny::options()}, first{{}, tiny::options()}, second{{}, tiny::options()};
  examples::recorder expected{4, "learner", "one", "these"}, before{4, "learner", "one", "these"},
      after{4, "learner", "one", "these"};
  examples::recorder other{4, "learner", "another", "these"}, elsewhere{4, "learner", "one", "those"};
  examples::recorder foreign{4, "painter", "one", "these"};
  run(whole, expected, 0);
  run(first, before, 18);
  before.save(path, first, "width=5 rate=0.1");
  {
    const ln::checkpoint saved{path};
    const auto untouched = tiny::snapshot(second);
    const auto refuses = [&](examples::recorder& record, const char* description, const char* message) {
      CHECK_THROWS_WITH_AS(record.restore(saved, second, description), doctest::Contains(message), ln::file_error);
      CHECK(record.curve().empty());
      CHECK(tiny::snapshot(second) == untouched);
    };
    refuses(after, "width=5 rate=0.2 depth=3",
            "made with other settings, or by another version of this program: 'rate=0.1', expected 'rate=0.2 depth=3'");
    refuses(other, "width=5 rate=0.1", "made with the mixer 'one', expected 'another'");
    refuses(elsewhere, "width=5 rate=0.1", "was trained on other data, of fingerprint 'these', expected those");
    refuses(foreign, "width=6 rate=0.1", "was made by the program 'learner', expected 'painter'");
    CHECK(examples::recorder::mixer_of(saved) == "one");
    after.restore(saved, second, "width=5 rate=0.1");

    examples::training_arguments given;
    CHECK_FALSE(examples::saved_training(given, "learner"));
    given.resume = path.string();
    CHECK(examples::saved_training(given, "learner")->state() == first.state());
    CHECK_THROWS_WITH_AS(examples::saved_training(given, "painter"), doctest::Contains("expected 'painter'"),
                         ln::file_error);
  }
  run(second, after, 0);
  CHECK(examples::curve_text(after.curve()) == examples::curve_text(expected.curve()));
  CHECK(after.curve().size() == 3 * 4);  // updates 4, 8, 12 and 13 of the first epoch, and so on
  CHECK(after.seconds() == 39 * 0.25);

  ln::checkpoint_extras extras;
  const auto lacks = [&](const char* message) {
    ln::save_checkpoint(path, first, extras);
    CHECK_THROWS_WITH_AS(after.restore(ln::checkpoint{path}, second, "a test"), doctest::Contains(message),
                         ln::file_error);
  };
  lacks("does not say its program");
  extras.metadata["program"] = "learner";
  lacks("does not say its mixer");
  extras.metadata["mixer"] = "one";
  lacks("does not say its description");
  extras.metadata["description"] = "a test";
  lacks("does not say its data");
  extras.metadata["data"] = "these";
  lacks("window");
  std::vector<double> numbers(8, -1.0);
  extras.tensors.push_back(ln::store("curve", {1, 8}, std::span<const double>(numbers)));
  extras.tensors.push_back(ln::store("window", {4}, std::span<const double>(numbers).first(4)));
  lacks("counts");
  std::ranges::fill(numbers, 1.0);
  extras.tensors.push_back(ln::store("average.weight", {4}, std::span<const double>(numbers).first(4)));
  lacks("left over: 'extra.average.weight'");
  CHECK(after.curve().size() == 3 * 4);
}

TEST_CASE("arguments: numbers out of range, and what is no number") {
  const auto seed = examples::within(std::uint64_t{0});
  for (const char* good : {"0", "7", "18446744073709551615"}) CHECK(seed(good).empty());
  for (const std::string bad : {"-1", "1.5", "x", "", "010", "0x10", "+1", " 1", "1 ", "18446744073709551616"}) {
    CHECK(seed(bad) == "expected a whole number from 0 to 18446744073709551615, got " + bad);
  }
  const auto few = examples::within(1, 5);
  CHECK(few("1").empty());
  CHECK(few("5").empty());
  for (const std::string bad : {"0", "6", "-3", "99999999999"}) {
    CHECK(few(bad) == "expected a whole number from 1 to 5, got " + bad);
  }
  const auto share = examples::within(1e-6, 0.99);
  for (const char* good : {"1e-06", "0.99", ".5"}) CHECK(share(good).empty());
  for (const std::string bad : {"0", "1", "-0.5", "nan", "inf", "x", "0.5x"}) {
    CHECK(share(bad) == "expected a number from 1e-06 to 0.99, got " + bad);
  }
}

TEST_CASE("training loop: a test stands at the update that it follows, of a whole training and of one in two parts") {
  const folder here;
  const auto path = here / "a.safetensors";
  using trainer = ln::trainer<tiny::model<>, double>;
  ln::execution<ln::cpu> on{1};
  const auto run = [&](trainer& training, examples::recorder& record, std::int64_t until) {
    tiny::points<> source{200};
    const auto test = [&] { return ln::evaluation{static_cast<double>(training.state().step), 1, 2}; };
    const auto save = [&] { record.save(path, training, "a test"); };
    const auto follow = [&] { examples::stop = training.state().step == until; };
    const bool finished = examples::run_training(on, training, source, record, {path, 5}, test, save, follow);
    examples::stop = false;
    if (finished) record.add_test(test());
    return finished;
  };
  trainer whole{{}, tiny::options()}, first{{}, tiny::options()}, second{{}, tiny::options()};
  examples::recorder expected{10, "learner", "one", "these"}, before{10, "learner", "one", "these"},
      after{10, "learner", "one", "these"};
  CHECK(run(whole, expected, 0));
  CHECK_FALSE(run(first, before, 29));
  after.restore(ln::checkpoint{path}, second, "a test");
  CHECK(run(second, after, 0));
  for (const auto& curve : {expected.curve(), after.curve()}) {
    std::vector<std::int64_t> steps, tests;
    for (const auto& point : curve) {
      steps.push_back(point.step);
      if (std::isnan(point.test_loss)) continue;
      tests.push_back(point.step);
      CHECK(point.test_loss == static_cast<double>(point.step));
      CHECK(point.test_accuracy == 0.5);
    }
    CHECK(tests == std::vector<std::int64_t>{8, 16, 24, 32, 39});
    CHECK(steps == std::vector<std::int64_t>{8, 10, 13, 16, 20, 24, 26, 30, 32, 39});
  }
}

TEST_CASE("arguments: what is not given stays open") {
  std::optional<int> code;
  const auto none = parsed({}, code);
  CHECK_FALSE(code);
  CHECK_FALSE(none.epochs);
  CHECK_FALSE(none.resume);
  CHECK_FALSE(none.mixer);
  CHECK_FALSE(none.compare);
  CHECK(none.threads == 0);
  CHECK(none.data == fashion_mnist::default_folder);
  const auto all = parsed({"--epochs",    "3",           "--seed", "18446744073709551615",
                           "--threads=2", "--resume",    "file",   "--data",
                           "d",           "--output",    "o",      "--limit",
                           "5",           "--mixer",     "retnet", "--batch",
                           "7",           "--rate",      "0.5",    "--decay",
                           "0.25",        "--smoothing", "0.125"},
                          code);
  CHECK_FALSE(code);
  CHECK(all.epochs == 3);
  CHECK(all.seed == 18446744073709551615U);
  CHECK(all.threads == 2);
  CHECK(all.resume == "file");
  CHECK(all.data == "d");
  CHECK(all.output == "o");
  CHECK(all.limit == 5);
  CHECK(all.mixer == "retnet");
  const auto chosen = fashion_mnist::settings_of(all);
  CHECK(chosen.batch == 7);
  CHECK(chosen.peak_rate == 0.5);
  CHECK(chosen.weight_decay == 0.25);
  CHECK(chosen.smoothing == 0.125);
}

TEST_CASE("arguments: a comparison takes all mixers and goes on from nothing") {
  std::optional<int> code;
  const auto given = parsed({"--compare", "--seeds", "2", "--epochs", "1", "--seed", "7"}, code);
  CHECK_FALSE(code);
  CHECK(given.compare);
  CHECK(given.seeds == 2);
  const auto chosen = fashion_mnist::settings_of(given);
  CHECK(chosen.epochs == 1);
  CHECK(chosen.seed == 7);
  for (const std::vector<std::string>& wrong : {std::vector<std::string>{"--compare", "--mixer", "retnet"},
                                                {"--compare", "--resume", "file"},
                                                {"--seeds", "2"},
                                                {"--compare", "--seeds", "0"}}) {
    code.reset();
    parsed(wrong, code);
    CHECK(code == 2);
  }
}

TEST_CASE("settings: make a training") {
  const fashion_mnist::settings chosen;
  const auto options = fashion_mnist::options_for(chosen, 60'000);
  CHECK_NOTHROW(options.check());
  CHECK(options.epochs == chosen.epochs);
  CHECK(options.schedule.total == chosen.epochs * ln::updates_of_epoch(60'000, options.batch));
  CHECK_NOTHROW(fashion_mnist::options_for(chosen, 1).check());
}
