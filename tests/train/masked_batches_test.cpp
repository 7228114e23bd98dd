// SPDX-License-Identifier: Apache-2.0
// Which tokens are hidden, how often, and that it is a function of the seed, the epoch and the place alone.
#include <lightnet/loss/cross_entropy.hpp>
#include <lightnet/train/masked_batches.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace {

namespace ln = lightnet;
using list = std::vector<std::int32_t>;

constexpr int letters = 23;  // and the mask token after them

list text(std::int64_t count) {
  list tokens;
  for (std::int64_t i = 0; i < count; ++i) tokens.push_back(static_cast<std::int32_t>((i * i + i / 7) % letters));
  return tokens;
}

ln::masked_batches<> source_of(const list& tokens, const ln::token_options& options, ln::masking how = {}) {
  how.mask_token = letters;
  return {{tokens.data(), {{static_cast<std::int64_t>(tokens.size())}}}, options, how};
}

struct items {
  list inputs, labels;
  bool operator==(const items&) const = default;
};
items load(ln::masked_batches<>& source, const std::vector<std::int64_t>& which, std::int64_t epoch, int threads = 2) {
  ln::execution<ln::cpu> on{threads};
  const auto batch = source.load(which, epoch);
  source.fill(on);
  return {list(batch.inputs.data(), batch.inputs.data() + batch.inputs.size()),
          list(batch.labels.data(), batch.labels.data() + batch.labels.size())};
}
items all_of(ln::masked_batches<>& source, std::int64_t epoch) {
  std::vector<std::int64_t> which;
  for (std::int64_t i = 0; i < source.size(); ++i) which.push_back(i);
  return load(source, which, epoch);
}

// Whether so many of so many, each with the same probability, are within five standard deviations of what is expected.
bool likely(std::int64_t count, std::int64_t of, double probability) {
  const double n = static_cast<double>(of), deviation = std::sqrt(n * probability * (1 - probability));
  return std::abs(static_cast<double>(count) - n * probability) <= 5 * deviation;
}

}  // namespace

TEST_CASE("masked_batches: 15 % of the tokens are labels; of these 80 % are hidden, 10 % random and 10 % stay") {
  const list tokens = text(300'007);
  auto source = source_of(tokens, {.length = 101});
  CHECK(source.size() == 2970);
  const items all = all_of(source, 3);
  std::int64_t chosen = 0, hidden = 0, stayed = 0, twice = 0, last = -2;
  std::vector<std::int64_t> of_token(letters), random(letters);
  for (std::size_t i = 0; i < all.inputs.size(); ++i) {
    const std::int32_t input = all.inputs[i], label = all.labels[i];
    if (label == ln::masking::no_label) {
      REQUIRE(input == tokens[i]);
      continue;
    }
    REQUIRE(label == tokens[i]);
    ++chosen;
    ++of_token[static_cast<std::size_t>(label)];
    twice += static_cast<std::int64_t>(i) == last + 1 ? 1 : 0;
    last = static_cast<std::int64_t>(i);
    if (input == letters) {
      ++hidden;
    } else if (input == label) {
      ++stayed;
    } else {
      REQUIRE(input >= 0);
      REQUIRE(input < letters);
      ++random[static_cast<std::size_t>(input)];
    }
  }
  const auto count = static_cast<std::int64_t>(all.inputs.size());
  CHECK(likely(chosen, count, 0.15));
  CHECK(likely(twice, count, 0.15 * 0.15));  // each token by itself
  CHECK(likely(hidden, chosen, 0.8));
  CHECK(likely(stayed, chosen, 0.1 + 0.1 / letters));  // what is random may be what it was
  for (std::size_t token = 0; token < letters; ++token) {
    CAPTURE(token);
    CHECK(likely(of_token[token], std::count(tokens.begin(), tokens.begin() + count, token), 0.15));
    // Evenly, from all but the token itself.
    CHECK(likely(random[token], chosen - of_token[token], 0.1 / letters));
  }
}

TEST_CASE("masked_batches: rates are options; a test hides all that it asks for") {
  const list tokens = text(20'011);
  auto source = source_of(tokens, {.length = 37}, {.rate = 0.4, .hidden = 1, .replaced = 0});
  const items all = all_of(source, 0);
  std::int64_t chosen = 0;
  for (std::size_t i = 0; i < all.inputs.size(); ++i) {
    const bool hidden = all.labels[i] != ln::masking::no_label;
    CHECK(all.inputs[i] == (hidden ? letters : tokens[i]));
    chosen += hidden ? 1 : 0;
  }
  CHECK(likely(chosen, static_cast<std::int64_t>(all.inputs.size()), 0.4));
  auto everything = source_of(tokens, {.length = 37}, {.rate = 1, .hidden = 0, .replaced = 0});
  const items same = all_of(everything, 0);
  CHECK(same.inputs == same.labels);
  CHECK(everything.size() == 540);  // and no token beyond the last item is needed
  CHECK(source_of(text(540 * 37), {.length = 37}).size() == 540);
}

TEST_CASE("masked_batches: what is hidden is a function of seed, epoch and place, not of the batch or the threads") {
  const list tokens = text(2'003);
  auto source = source_of(tokens, {.length = 29, .seed = 6});
  const items all = all_of(source, 4);
  for (const int threads : {1, 3}) {
    const items some = load(source, {41, 2, 67}, 4, threads);
    for (const std::int64_t i : {0, 1, 2}) {
      const std::int64_t item = i == 0 ? 41 : i == 1 ? 2 : 67;
      for (std::int64_t t = 0; t < 29; ++t) {
        const auto here = static_cast<std::size_t>(i * 29 + t), there = static_cast<std::size_t>(item * 29 + t);
        CHECK(some.inputs[here] == all.inputs[there]);
        CHECK(some.labels[here] == all.labels[there]);
      }
    }
  }
  CHECK(all_of(source, 4) == all);
  CHECK_FALSE(all_of(source, 5).labels == all.labels);
  auto other = source_of(tokens, {.length = 29, .seed = 7});
  CHECK_FALSE(all_of(other, 4).labels == all.labels);
}

TEST_CASE("masked_batches: the loss is the mean over the chosen tokens of a batch, and other logits have no gradient") {
  ln::execution<ln::cpu> on{2};
  const list tokens = text(140);
  auto source = source_of(tokens, {.length = 13});
  const items batch = load(source, {0, 5, 9}, 1);
  const std::int64_t rows = 39, classes = letters + 1;
  std::vector<double> logits(static_cast<std::size_t>(rows * classes)), d(logits.size(), NAN);
  const ln::random_stream random{5};
  for (std::size_t i = 0; i < logits.size(); ++i) logits[i] = random.normal(i);
  double loss = NAN, sum = 0;
  std::int64_t counted = -1, chosen = 0;
  ln::cross_entropy<double>(
      on, {.logits = {std::as_const(logits).data(), {{rows, classes}}}, .labels = {batch.labels.data(), {{rows}}}},
      {.loss = {&loss, {{1}}}, .counted = {&counted, {{1}}}, .dlogits = {d.data(), {{rows, classes}}}});
  for (std::int64_t r = 0; r < rows; ++r) {
    const double* const row = logits.data() + r * classes;
    const std::int32_t label = batch.labels[static_cast<std::size_t>(r)];
    const bool counts = label != ln::masking::no_label;
    for (std::int64_t c = 0; c < classes; ++c) CHECK((d[static_cast<std::size_t>(r * classes + c)] != 0) == counts);
    if (!counts) continue;
    double total = 0;
    for (std::int64_t c = 0; c < classes; ++c) total += std::exp(row[c]);
    sum += std::log(total) - row[label];
    ++chosen;
  }
  REQUIRE(chosen > 0);
  CHECK(counted == chosen);
  CHECK(loss == doctest::Approx(sum / static_cast<double>(chosen)).epsilon(1e-12));
}

TEST_CASE("masked_batches: names what is wrong") {
  const list tokens = text(14);
  CHECK(source_of(tokens, {.length = 14}).size() == 1);
  CHECK_THROWS_WITH_AS(source_of(tokens, {.length = 15}), doctest::Contains("15 or more, for items of 15"),
                       ln::value_error);
  for (const double wrong : {0.0, -0.1, 1.01, static_cast<double>(NAN)}) {
    CHECK_THROWS_WITH_AS(source_of(tokens, {.length = 3}, {.rate = wrong}), doctest::Contains("rate"), ln::value_error);
  }
  CHECK_THROWS_AS(source_of(tokens, {.length = 3}, {.hidden = 0.8, .replaced = 0.3}), ln::value_error);
  CHECK_THROWS_AS(source_of(tokens, {.length = 3}, {.hidden = -0.1}), ln::value_error);
  CHECK_THROWS_AS((ln::masking{.mask_token = 0}.check()), ln::value_error);
}
