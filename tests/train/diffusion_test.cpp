// SPDX-License-Identifier: Apache-2.0
// Images that become noise, and noise that becomes images again.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <lightnet/backend/random.hpp>
#include <lightnet/model/sample_images.hpp>
#include <lightnet/train/noisy_batches.hpp>
#include <string>
#include <vector>

#include "layer/numbers.hpp"
#include "train/images.hpp"

namespace {

namespace ln = lightnet;
using numbers::list;
using noisy_source = ln::noisy_batches<ln::image_batches<double>, 2, double>;

const ln::diffusion noising{};

noisy_source source(const pictures::images<ln::cpu>& from, const ln::noisy_options& options) {
  return {from.batches<double>({.mean = 0.5, .deviation = 0.25}), options};
}

// The noise as it is: that of images which are known. Each class has an image of its own; of no class, it is the sum.
struct oracle_model {
  static constexpr std::int64_t parameter_count = 2;  // of nothing
  static constexpr int classes = 2;
  template <class Mode>
  struct context {};

  list<double> images;  // [classes + 1, size]
  std::vector<std::int32_t>* calls = nullptr;

  template <class Mode>
  void forward(ln::execution<ln::cpu>&, const ln::parameters_of<oracle_model, const double>&,
               const ln::noisy_images<2, double>& x, const ln::dynamic_view<4, double>& y, context<Mode>&) const {
    const std::int64_t size = x.images.size() / x.images.extent(0);
    for (std::int64_t i = 0; i < x.images.size(); ++i) {
      const auto share = noising[x.times(i / size)];
      const std::int64_t place = x.labels(i / size) * size + i % size;
      y.data()[i] = (x.images.data()[i] - share.image * images[static_cast<std::size_t>(place)]) / share.noise;
    }
    if (calls) calls->push_back(x.labels(0));
  }
};

struct sampling {
  oracle_model model{numbers::normal(3 * 30, 4, 0.5), nullptr};
  list<double> start = numbers::normal(2 * 30, 5);
  std::vector<std::int32_t> labels{1, 0};
  list<double> parameters{0, 0};

  list<double> images(const ln::ddim_options& options) const {
    ln::execution<ln::cpu> on{1};
    list<double> x = start;
    const ln::parameters_of<oracle_model, const double> params{parameters.data(), {}};
    ln::sample_images(on, model, params, noising, numbers::view_of<1>(labels, {2}),
                      numbers::view_of<4>(x, {2, 2, 5, 3}), options);
    return x;
  }
  /// Of image `label`, and of the other one.
  list<double> truth() const {
    list<double> both(model.images.begin() + 30, model.images.begin() + 60);
    both.insert(both.end(), model.images.begin(), model.images.begin() + 30);
    return both;
  }
};

}  // namespace

TEST_CASE("diffusion: the shares of image and noise are those of DDPM") {
  CHECK(noising.steps() == 1000);
  CHECK(noising[-1].image == 1);
  CHECK(noising[-1].noise == 0);
  CHECK(noising[0].image == doctest::Approx(std::sqrt(1 - 1e-4)).epsilon(1e-14));
  CHECK(noising[0].noise == doctest::Approx(0.01).epsilon(1e-12));
  CHECK(std::pow(noising[999].image, 2) == doctest::Approx(4.0358e-5).epsilon(1e-4));
  for (std::int64_t t = 0; t < 1000; ++t) {
    CHECK(noising[t].image < noising[t - 1].image);
    CHECK(std::pow(noising[t].image, 2) + std::pow(noising[t].noise, 2) == doctest::Approx(1).epsilon(1e-14));
  }
  CHECK(ln::diffusion{{.steps = 1, .first_beta = 0.5, .last_beta = 0.5}}[0].noise ==
        doctest::Approx(std::sqrt(0.5)).epsilon(1e-15));
  CHECK_THROWS_AS(ln::diffusion{{.steps = 0}}, ln::value_error);
  CHECK_THROWS_AS((ln::diffusion{{.first_beta = 0.1, .last_beta = 0.05}}), ln::value_error);
  CHECK_THROWS_AS((ln::diffusion{{.last_beta = 1}}), ln::value_error);
}

TEST_CASE("noisy batches: images and noise in the shares of their time step") {
  const pictures::images<ln::cpu> all{301, 3, 5, 2};
  ln::execution<ln::cpu> on{2};
  auto noisy = source(all, {.label_dropout = 0.25, .classes = 7, .seed = 3});
  auto clean = all.batches<double>({.mean = 0.5, .deviation = 0.25});
  std::vector<std::int64_t> items(301);
  for (std::size_t i = 0; i < items.size(); ++i) items[i] = static_cast<std::int64_t>((i * 150) % 301);
  const auto batch = noisy.load(items, 2);
  noisy.fill(on);
  const auto images = clean.load(items, 2);
  clean.fill(on);
  double sum = 0, squares = 0, times = 0;
  int without_class = 0;
  for (std::int64_t b = 0; b < 301; ++b) {
    const std::int32_t t = batch.inputs.times(b), label = batch.inputs.labels(b);
    REQUIRE(t >= 0);
    REQUIRE(t < 1000);
    const auto share = noising[t];
    times += t;
    without_class += label == 7 ? 1 : 0;
    if (label != 7) CHECK(label == items[static_cast<std::size_t>(b)] % 7);
    for (std::int64_t i = 30 * b; i < 30 * (b + 1); ++i) {
      const double noise = batch.labels.data()[i];
      sum += noise;
      squares += noise * noise;
      CHECK(batch.inputs.images.data()[i] ==
            doctest::Approx(share.image * images.inputs.data()[i] + share.noise * noise).epsilon(1e-13));
    }
  }
  CHECK(std::abs(sum / 9030) < 4 / std::sqrt(9030.0));
  CHECK(std::abs(squares / 9030 - 1) < 4 * std::sqrt(2 / 9030.0));
  CHECK(std::abs(times / 301 - 499.5) < 4 * 288.7 / std::sqrt(301.0));
  CHECK(std::abs(without_class / 301.0 - 0.25) < 4 * std::sqrt(0.25 * 0.75 / 301));
}

TEST_CASE("noisy batches: what is random belongs to the seed, the epoch and the image") {
  const pictures::images<ln::cpu> all{9, 3, 5, 2};
  ln::execution<ln::cpu> on{1};
  const auto noise_of = [&](std::uint64_t seed, std::int64_t epoch, const std::vector<std::int64_t>& items) {
    auto noisy = source(all, {.classes = 7, .seed = seed});
    const auto batch = noisy.load(items, epoch);
    noisy.fill(on);
    list<double> last(batch.labels.data() + batch.labels.size() - 30, batch.labels.data() + batch.labels.size());
    last.push_back(batch.inputs.times(batch.inputs.extent(0) - 1));
    return last;
  };
  const list<double> first = noise_of(3, 2, {4, 8, 6});
  CHECK(noise_of(3, 2, {6}) == first);
  CHECK(noise_of(3, 2, {5, 6}) == first);
  CHECK(noise_of(3, 2, {5}) != first);
  CHECK(noise_of(3, 3, {6}) != first);
  CHECK(noise_of(4, 2, {6}) != first);
  CHECK_THROWS_AS(source(all, {.label_dropout = 1.5}), ln::value_error);
  CHECK_THROWS_AS(source(all, {.noising = {.steps = 0}}), ln::value_error);
}

TEST_CASE("sampling: the true noise leads back to the image, in any number of steps") {
  const sampling q;
  for (const std::int64_t steps : {1, 2, 7, 50, 333, 1000}) {
    CAPTURE(steps);
    const list<double> images = q.images({.steps = steps});
    CHECK(numbers::largest_difference(images, q.truth()) < 1e-11);
    CHECK(numbers::same_bits(q.images({.steps = steps, .shard = 1}), images));
  }
}

TEST_CASE("sampling: guidance of 1 is the model with its class, of 0 without, and beyond goes on") {
  sampling q;
  std::vector<std::int32_t> calls;
  q.model.calls = &calls;
  CHECK(numbers::largest_difference(q.images({.steps = 4, .guidance = 1}), q.truth()) < 1e-11);
  CHECK(calls == std::vector<std::int32_t>{1, 1, 1, 1});
  calls.clear();
  list<double> none(q.model.images.begin() + 60, q.model.images.end());
  none.insert(none.end(), none.begin(), none.begin() + 30);
  CHECK(numbers::largest_difference(q.images({.steps = 2, .guidance = 0}), none) < 1e-11);
  CHECK(calls == std::vector<std::int32_t>{1, 2, 1, 2});
  list<double> beyond = q.truth();
  for (std::size_t i = 0; i < beyond.size(); ++i) beyond[i] = none[i] + 1.75 * (beyond[i] - none[i]);
  CHECK(numbers::largest_difference(q.images({.steps = 5, .guidance = 1.75}), beyond) < 1e-11);
}

TEST_CASE("sampling: pixels stay within the limit") {
  const sampling q;
  list<double> cut = q.truth();
  for (double& x : cut) x = std::clamp(x, -0.4, 0.4);
  CHECK(cut != q.truth());
  CHECK(numbers::largest_difference(q.images({.steps = 9, .limit = 0.4}), cut) < 1e-11);
}

TEST_CASE("sampling names what does not fit and changes nothing") {
  sampling q;
  ln::execution<ln::cpu> on{1};
  list<double> x = q.start;
  const ln::parameters_of<oracle_model, double> params{q.parameters.data(), {}};
  const auto message = [&](std::int64_t count, const ln::ddim_options& options) {
    return numbers::message_of<ln::error>([&] {
      ln::sample_images(on, q.model, params, noising, numbers::view_of<1>(q.labels, {count}),
                        numbers::view_of<4>(x, {2, 2, 5, 3}), options);
    });
  };
  CHECK(message(2, {.steps = 0}) == "lightnet: sample_images: steps: expected 1 to 1000, got 0");
  CHECK(message(2, {.steps = 1001}) == "lightnet: sample_images: steps: expected 1 to 1000, got 1001");
  CHECK(message(2, {.guidance = HUGE_VAL}) == "lightnet: sample_images: guidance: expected a finite number, got inf");
  CHECK(message(2, {.limit = -1}) == "lightnet: sample_images: limit: expected a finite number, zero or more, got -1");
  CHECK(message(1, {}) == "lightnet: sample_images: labels: expected [2], got [1]");
  CHECK(x == q.start);
}
