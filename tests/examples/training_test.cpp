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
#include "recorder.hpp"
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

std::vector<float> loaded(fashion_mnist::batches& source, std::vector<std::int64_t> items, std::int64_t epoch) {
  const auto batch = source.load(items, epoch);
  REQUIRE(batch.inputs.extents() == std::array<std::int64_t, 4>{static_cast<std::int64_t>(items.size()), 3, 5, 1});
  for (std::size_t i = 0; i < items.size(); ++i) CHECK(batch.labels(static_cast<std::int64_t>(i)) == items[i] % 10);
  return {batch.inputs.data(), batch.inputs.data() + batch.inputs.size()};
}

int greys_of_first_row(const std::vector<float>& pixels, const fashion_mnist::settings& chosen) {
  int different = 0;
  for (std::size_t i = 0; i < 5; ++i) {
    const double grey = 255 * (static_cast<double>(pixels[i]) * chosen.deviation + chosen.mean);
    different += std::abs(grey - static_cast<double>(i + 1)) > 1e-3 ? 1 : 0;
  }
  return different;
}

fashion_mnist::arguments parsed(std::vector<std::string> words, std::optional<int>& code) {
  std::vector<char*> values;
  words.insert(words.begin(), "folder/program");
  values.reserve(words.size());
  for (auto& word : words) values.push_back(word.data());
  return fashion_mnist::parse(static_cast<int>(values.size()), values.data(), code);
}

}  // namespace

TEST_CASE("batches: normalised, in the order asked for") {
  const auto set = images(9);
  const fashion_mnist::settings chosen;
  fashion_mnist::batches source{set, chosen, 7};
  CHECK(source.size() == 7);
  const auto pixels = loaded(source, {6, 2}, 0);
  for (std::size_t i = 0; i < 15; ++i) {
    const double grey = (static_cast<double>(set.image(6)[i]) / 255 - chosen.mean) / chosen.deviation;
    CHECK(pixels[i] == doctest::Approx(grey));
  }
  CHECK(loaded(source, {2}, 5) == std::vector<float>(pixels.begin() + 15, pixels.end()));
  CHECK(greys_of_first_row(loaded(source, {0}, 0), chosen) == 0);
}

TEST_CASE("batches: what is random is a function of seed, epoch and image") {
  const auto set = images(9);
  fashion_mnist::settings chosen;
  chosen.flip = true;
  chosen.shift = 1;
  fashion_mnist::batches source{set, chosen, 9, 4}, same{set, chosen, 9, 4};
  const auto all = loaded(source, {0, 1, 2, 3}, 2);
  CHECK(loaded(same, {3}, 2) == std::vector<float>(all.begin() + 45, all.end()));
  int as_it_was = 0, mirrored = 0;
  constexpr int epochs = 900;
  for (int epoch = 0; epoch < epochs; ++epoch) {
    const auto pixels = loaded(source, {0}, epoch);
    as_it_was += greys_of_first_row(pixels, chosen) == 0 ? 1 : 0;
    mirrored += greys_of_first_row({pixels[4], pixels[3], pixels[2], pixels[1], pixels[0]}, chosen) == 0 ? 1 : 0;
  }
  CHECK(as_it_was > epochs / 18 / 2);  // one of two mirrored times nine moved
  CHECK(as_it_was < epochs / 18 * 2);
  CHECK(mirrored > epochs / 18 / 2);
  CHECK(mirrored < epochs / 18 * 2);

  fashion_mnist::batches plain{set, chosen, 9};  // for testing: never
  for (int epoch = 0; epoch < 20; ++epoch) CHECK(greys_of_first_row(loaded(plain, {0}, epoch), chosen) == 0);
}

TEST_CASE("recorder: a curve that survives a stop") {
  const folder here;
  const auto path = here / "a.safetensors";
  using trainer = ln::trainer<tiny::model<>, double>;
  ln::execution<ln::cpu> on{1};
  const auto run = [&](trainer& training, fashion_mnist::recorder& record, std::int64_t until) {
    tiny::points<> source{200};
    std::atomic<bool> stop{false};
    training.run(on, source, stop, [&](const ln::training_progress& now) {
      record.add(now, 0.25, 100);
      stop = now.step == until;
    });
  };
  trainer whole{{}, tiny::options()}, first{{}, tiny::options()}, second{{}, tiny::options()};
  fashion_mnist::recorder expected{4, "one"}, before{4, "one"}, after{4, "one"}, other{4, "another"};
  run(whole, expected, 0);
  run(first, before, 18);
  before.save(path, first, "a test");
  {
    const ln::checkpoint saved{path};
    CHECK_THROWS_AS(after.restore(saved, "another test"), ln::file_error);
    CHECK(after.curve().empty());
    CHECK_THROWS_WITH_AS(other.restore(saved, "a test"), doctest::Contains("made with the mixer 'one'"),
                         ln::file_error);
    CHECK(fashion_mnist::recorder::mixer_of(saved) == "one");
    after.restore(saved, "a test");
    saved.load(second);
  }
  run(second, after, 0);
  CHECK(fashion_mnist::curve_text(after.curve()) == fashion_mnist::curve_text(expected.curve()));
  CHECK(after.curve().size() == 3 * 4);  // updates 4, 8, 12 and 13 of the first epoch, and so on
  CHECK(after.seconds() == 39 * 0.25);

  ln::save_checkpoint(path, first);
  CHECK_THROWS_WITH_AS(after.restore(ln::checkpoint{path}, "a test"), doctest::Contains("not made by this program"),
                       ln::file_error);
  ln::checkpoint_extras extras;
  extras.metadata["description"] = "a test";
  ln::save_checkpoint(path, first, extras);
  CHECK_THROWS_WITH_AS(after.restore(ln::checkpoint{path}, "a test"), doctest::Contains("not made by this program"),
                       ln::file_error);
  extras.metadata["mixer"] = "one";
  ln::save_checkpoint(path, first, extras);
  CHECK_THROWS_WITH_AS(after.restore(ln::checkpoint{path}, "a test"), doctest::Contains("window"), ln::file_error);
  std::vector<double> numbers(7, -1.0);
  extras.tensors.push_back(ln::store("curve", {1, 7}, std::span<const double>(numbers)));
  extras.tensors.push_back(ln::store("window", {4}, std::span<const double>(numbers).first(4)));
  ln::save_checkpoint(path, first, extras);
  CHECK_THROWS_WITH_AS(after.restore(ln::checkpoint{path}, "a test"), doctest::Contains("counts"), ln::file_error);
  CHECK(after.curve().size() == 3 * 4);
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
  const auto all = parsed({"--epochs", "3", "--seed", "18446744073709551615", "--threads=2", "--resume", "file",
                           "--data", "d", "--output", "o", "--limit", "5", "--mixer", "retnet"},
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
