// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <lightnet/core/random.hpp>
#include <lightnet/loss/cross_entropy.hpp>
#include <limits>
#include <string>
#include <vector>

#include "oracle/gradient.hpp"

namespace ln = lightnet;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

/// Logits with rows of `pitch` elements, labels, and everything that comes out; outputs start as NaN or nonsense.
template <class T>
struct problem {
  std::int64_t rows, classes, pitch;
  double smoothing = 0;
  std::int32_t ignore = -1;
  std::vector<T> logits, dlogits;
  std::vector<std::int32_t> labels, predicted;
  ln::accumulator<T> loss = std::numeric_limits<ln::accumulator<T>>::quiet_NaN();
  std::int64_t correct = -7, counted = -7;

  problem(std::int64_t r, std::int64_t k, double spread = 3, std::int64_t padding = 0)
      : rows{r},
        classes{k},
        pitch{k + padding},
        logits(static_cast<std::size_t>(r * pitch)),
        dlogits(logits.size(), std::numeric_limits<T>::quiet_NaN()),
        labels(static_cast<std::size_t>(r)),
        predicted(labels.size(), -99) {
    const ln::random_stream random{static_cast<std::uint64_t>(r * 1000 + k)};
    for (std::size_t i = 0; i < logits.size(); ++i) logits[i] = static_cast<T>(spread * random.normal(i));
    for (std::size_t i = 0; i < labels.size(); ++i) {
      labels[i] = static_cast<std::int32_t>(random.below(static_cast<std::uint32_t>(k), i));
    }
  }

  T& logit(std::int64_t row, std::int64_t k) { return logits[static_cast<std::size_t>(row * pitch + k)]; }
  T& gradient(std::int64_t row, std::int64_t k) { return dlogits[static_cast<std::size_t>(row * pitch + k)]; }

  void run(ln::execution<ln::cpu>& on) {
    ln::cross_entropy<T>(on,
                         {.logits = {logits.data(), {{rows, classes}}, {pitch, 1}},
                          .labels = {labels.data(), {{rows}}},
                          .smoothing = smoothing,
                          .ignore = ignore},
                         {.loss = {&loss, {{1}}},
                          .correct = {&correct, {{1}}},
                          .counted = {&counted, {{1}}},
                          .predicted = {predicted.data(), {{rows}}},
                          .dlogits = {dlogits.data(), {{rows, classes}}, {pitch, 1}}});
  }
  void run() {
    ln::execution<ln::cpu> on{2};
    run(on);
  }
};

/// The definition in long double; the gradient is written over dlogits, the loss given back.
template <class T>
long double reference(problem<T>& p) {
  long double loss = 0, counted = 0;
  for (const std::int32_t label : p.labels) counted += label == p.ignore ? 0 : 1;
  for (std::int64_t r = 0; r < p.rows; ++r) {
    const std::int32_t label = p.labels[static_cast<std::size_t>(r)];
    long double top = -infinity, sum = 0;
    for (std::int64_t k = 0; k < p.classes; ++k) top = std::max(top, static_cast<long double>(p.logit(r, k)));
    for (std::int64_t k = 0; k < p.classes; ++k) sum += std::exp(static_cast<long double>(p.logit(r, k)) - top);
    for (std::int64_t k = 0; k < p.classes; ++k) {
      const long double x = static_cast<long double>(p.logit(r, k)) - top - std::log(sum);
      const auto smoothing = static_cast<long double>(p.smoothing);
      const long double target = (k == label ? 1 - smoothing : 0) + smoothing / static_cast<long double>(p.classes);
      if (label != p.ignore && target > 0) loss -= target * x / counted;
      p.gradient(r, k) = label == p.ignore ? T(0.0F) : static_cast<T>((std::exp(x) - target) / counted);
    }
  }
  return loss;
}

template <class T>
void check_against_reference(problem<T> p) {
  CAPTURE(p.rows);
  CAPTURE(p.classes);
  CAPTURE(p.smoothing);
  problem<T> expected = p;
  const long double loss = reference(expected);
  p.run();
  const double epsilon = static_cast<double>(std::numeric_limits<T>::epsilon());
  const auto loss_epsilon = static_cast<double>(std::numeric_limits<ln::accumulator<T>>::epsilon());
  CHECK(std::abs(static_cast<double>(static_cast<long double>(p.loss) - loss)) <=
        16 * loss_epsilon * (1 + static_cast<double>(loss)));
  double worst = 0;
  for (std::int64_t r = 0; r < p.rows; ++r) {
    for (std::int64_t k = 0; k < p.classes; ++k) {
      worst = std::max(worst, std::abs(static_cast<double>(p.gradient(r, k) - expected.gradient(r, k))));
    }
  }
  CHECK(worst * static_cast<double>(p.rows) <= 8 * epsilon);
  std::int64_t correct = 0, counted = 0;
  for (std::int64_t r = 0; r < p.rows; ++r) {
    std::int32_t best = 0;
    for (std::int32_t k = 1; k < p.classes; ++k) best = p.logit(r, k) > p.logit(r, best) ? k : best;
    const auto row = static_cast<std::size_t>(r);
    REQUIRE(p.predicted[row] == best);
    counted += p.labels[row] != p.ignore ? 1 : 0;
    correct += p.labels[row] != p.ignore && p.labels[row] == best ? 1 : 0;
  }
  CHECK(p.correct == correct);
  CHECK(p.counted == counted);
}

template <class T>
std::string refusal(problem<T> p) {
  const problem<T> before = p;
  try {
    p.run();
  } catch (const ln::error& wrong) {
    for (const T untouched : p.dlogits) CHECK(std::isnan(untouched));
    CHECK(std::isnan(p.loss));
    CHECK(p.correct == -7);
    CHECK(p.predicted == before.predicted);
    return wrong.what();
  }
  return {};
}

}  // namespace

TEST_CASE_TEMPLATE("cross_entropy: the definition in long double", T, float, double, ln::bfloat16) {
  for (const std::int64_t classes : {1, 2, 10, 16, 37, 1003}) {
    for (const double smoothing : {0.0, 0.1}) {
      problem<T> p{classes > 100 ? 53 : 307, classes, 3, 5};
      p.smoothing = smoothing;
      for (std::size_t i = 3; i < p.labels.size(); i += 7) p.labels[i] = p.ignore;
      check_against_reference(p);
    }
  }
  problem<T> apart{19, 23, 4000};  // e^x leaves every range, the loss does not
  check_against_reference(apart);
}

TEST_CASE("cross_entropy: gradients by finite differences") {
  for (const double smoothing : {0.0, 0.15}) {
    problem<double> p{7, 11};
    p.smoothing = smoothing;
    p.labels[2] = -1;
    p.run();
    const auto loss = [&p](const std::vector<double>& logits) {
      problem<double> moved = p;
      moved.logits = logits;
      moved.run();
      return moved.loss;
    };
    CHECK(oracle::check_gradient("cross_entropy.logits", loss, p.logits, p.dlogits) <= 1e-7);
  }
  MESSAGE(oracle::gradient_report());
}

TEST_CASE("cross_entropy: the same bits for any number of threads") {
  problem<float> p{20011, 10};
  p.smoothing = 0.1;
  ln::execution<ln::cpu> one{1};
  problem<float> expected = p;
  expected.run(one);
  for (int threads = 2; threads <= 4; ++threads) {
    problem<float> got = p;
    ln::execution<ln::cpu> on{threads};
    got.run(on);
    CHECK(got.loss == expected.loss);
    CHECK(got.dlogits == expected.dlogits);
    CHECK(got.correct == expected.correct);
  }
}

TEST_CASE("cross_entropy: what has no place in a mean") {
  SUBCASE("a logit of -infinity has no share") {
    problem<double> p{1, 5};
    p.labels = {1};
    p.logits = {0.5, 0.25, -infinity, 0, -infinity};
    p.run();
    CHECK(p.loss == doctest::Approx(-0.25 + std::log(std::exp(0.5) + std::exp(0.25) + 1)));
    CHECK(p.gradient(0, 2) == 0);
    CHECK(p.predicted[0] == 0);
  }
  SUBCASE("NaN and +infinity poison their row and the loss, and no other gradient") {
    for (const double bad : {static_cast<double>(NAN), infinity}) {
      problem<double> p{3, 5}, good{3, 5};
      good.run();
      p.logit(1, 4) = bad;
      p.labels[1] = 0;
      p.run();
      CHECK(std::isnan(p.loss));
      CHECK(std::isnan(p.gradient(1, 0)));
      CHECK(p.gradient(0, 3) == good.gradient(0, 3));
      CHECK(p.gradient(2, 3) == good.gradient(2, 3));
    }
  }
  SUBCASE("a row of NaN is never right") {
    problem<double> p{1, 5};
    p.logits.assign(5, static_cast<double>(NAN));
    p.run();
    CHECK(p.predicted[0] == -1);
    CHECK(p.correct == 0);
  }
  SUBCASE("of equal logits the first is the prediction") {
    problem<float> p{1, 20};
    p.logits.assign(20, 1);
    p.labels = {0};
    p.run();
    CHECK(p.predicted[0] == 0);
    CHECK(p.correct == 1);
  }
  SUBCASE("rows that do not count change nothing, not even by NaN") {
    problem<float> p{2, 3}, alone{1, 3};
    for (std::int64_t k = 0; k < 3; ++k) {
      p.logit(0, k) = NAN;
      alone.logit(0, k) = p.logit(1, k);
    }
    p.ignore = 255;
    p.labels = {255, 2};
    alone.labels = {2};
    p.run();
    alone.run();
    CHECK(p.loss == alone.loss);
    CHECK(p.counted == 1);
    for (std::int64_t k = 0; k < 3; ++k) {
      CHECK(p.gradient(0, k) == 0);
      CHECK(p.gradient(1, k) == alone.gradient(0, k));
    }
  }
  SUBCASE("the mean over nothing is 0") {
    problem<float> p{2, 3};
    p.labels = {-1, -1};
    p.run();
    CHECK(p.loss == 0);
    CHECK(p.counted == 0);
    CHECK(p.gradient(1, 1) == 0);
  }
}

TEST_CASE("cross_entropy: outputs are optional, and the gradient may replace the logits") {
  problem<float> p{9, 21};
  p.smoothing = 0.1;
  p.run();
  ln::execution<ln::cpu> on{1};
  float loss = NAN;
  ln::cross_entropy(on, {.logits = {p.logits.data(), {{9, 21}}}, .labels = {p.labels.data(), {{9}}}, .smoothing = 0.1},
                    {.loss = {&loss, {{1}}}});
  CHECK(loss == p.loss);
  std::vector<float> in_place = p.logits;
  ln::cross_entropy(on, {.logits = {in_place.data(), {{9, 21}}}, .labels = {p.labels.data(), {{9}}}, .smoothing = 0.1},
                    {.dlogits = {in_place.data(), {{9, 21}}}});
  CHECK(in_place == p.dlogits);
}

TEST_CASE("cross_entropy: rows in parts add up to the mean over all") {
  problem<double> p{29, 11};
  p.smoothing = 0.1;
  for (const std::size_t ignored : {0, 1, 2, 3, 4, 17}) p.labels[ignored] = -1;
  p.run();
  ln::execution<ln::cpu> on{2};
  const ln::dynamic_view<2, const double> logits{p.logits.data(), {{29, 11}}};
  const ln::dynamic_view<1, const std::int32_t> labels{p.labels.data(), {{29}}};
  std::int64_t all = -7;
  ln::count_labels(on, labels, 11, {&all, {{1}}});
  CHECK(all == 23);
  std::vector<double> gradient(p.dlogits.size(), static_cast<double>(NAN));
  double loss = 0;
  std::int64_t correct = 0, counted = 0;
  for (const std::int64_t first : {0, 3, 5, 20}) {
    const std::int64_t rows = first == 0 ? 3 : first == 3 ? 2 : first == 5 ? 15 : 9;
    double of_part = static_cast<double>(NAN);
    std::int64_t right = -7, count = -7;
    ln::cross_entropy<double>(on,
                              {.logits = logits.slice(0, first, rows),
                               .labels = labels.slice(0, first, rows),
                               .smoothing = p.smoothing,
                               .mean_of = {&all, {{1}}}},
                              {.loss = {&of_part, {{1}}},
                               .correct = {&right, {{1}}},
                               .counted = {&count, {{1}}},
                               .dlogits = {gradient.data() + 11 * first, {{rows, 11}}}});
    loss += of_part;
    correct += right;
    counted += count;
  }
  CHECK(gradient == p.dlogits);
  CHECK(loss == doctest::Approx(p.loss).epsilon(1e-14));
  CHECK(correct == p.correct);
  CHECK(counted == 23);
  std::vector<std::int32_t> wrong = p.labels;
  wrong[9] = 11;
  CHECK_THROWS_WITH_AS(ln::count_labels(on, {wrong.data(), {{29}}}, 11, {&all, {{1}}}), doctest::Contains("row 9"),
                       ln::value_error);
  CHECK_THROWS_AS(ln::count_labels(on, labels, 11, {&all, {{0}}}), ln::shape_error);
  CHECK_THROWS_AS(ln::cross_entropy<double>(on, {.logits = logits, .labels = labels, .mean_of = {&all, {{2}}}}, {}),
                  ln::shape_error);
}

TEST_CASE("cross_entropy: refuses before it writes") {
  problem<float> p{6, 4};
  p.labels[4] = 4;
  CHECK(refusal(p) ==
        "lightnet: cross_entropy: labels: expected 0 to 3, or -1 for a row that does not count, got 4 at "
        "row 4");
  p.labels[4] = -2;
  CHECK(refusal(p).find("-2 at row 4") != std::string::npos);
  p.labels[4] = 0;
  p.smoothing = 1;
  CHECK(refusal(p).find("smoothing") != std::string::npos);
  p.smoothing = NAN;
  CHECK(refusal(p).find("smoothing") != std::string::npos);

  ln::execution<ln::cpu> on{1};
  const ln::dynamic_view<2, const float> logits{p.logits.data(), {{6, 4}}};
  const ln::dynamic_view<1, const std::int32_t> labels{p.labels.data(), {{6}}};
  float loss = 0;
  CHECK_THROWS_AS(ln::cross_entropy<float>(on, {.labels = labels}, {}), ln::device_error);
  CHECK_THROWS_AS(ln::cross_entropy<float>(on, {.logits = logits}, {}), ln::device_error);
  CHECK_THROWS_AS(ln::cross_entropy<float>(on, {.logits = logits, .labels = labels.slice(0, 1, 5)}, {}),
                  ln::shape_error);
  CHECK_THROWS_AS(ln::cross_entropy<float>(on, {.logits = logits, .labels = labels}, {.loss = {&loss, {{0}}}}),
                  ln::shape_error);
  CHECK_THROWS_AS(ln::cross_entropy<float>(on, {.logits = {p.logits.data(), {{6, 2}}, {4, 2}}, .labels = labels}, {}),
                  ln::shape_error);
  CHECK_THROWS_AS(
      ln::cross_entropy<float>(on, {.logits = logits, .labels = labels}, {.dlogits = {p.dlogits.data(), {{6, 3}}}}),
      ln::shape_error);
}
