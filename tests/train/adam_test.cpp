// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <lightnet/core/random.hpp>
#include <lightnet/train/adam.hpp>
#include <limits>
#include <string>
#include <vector>

#include "train/mixed_adam.hpp"

namespace ln = lightnet;

namespace {

/// Parts that decay and parts that do not, longer and shorter than a block of work, and one that nobody describes.
struct layer {
  static constexpr std::int64_t weights = std::int64_t{13} * 4001, parameter_count = 1001 + weights + 7 + 15 + 9;
  void describe(const std::string& prefix, std::int64_t offset, std::vector<ln::parameter>& list) const {
    list.push_back({prefix + "bias", {1001}, offset, {}, false});
    list.push_back({prefix + "weight", {13, 4001}, offset + 1001, {}, true});
    list.push_back({prefix + "norm", {7}, offset + 1001 + weights, {}, false});
    list.push_back({prefix + "head", {5, 3}, offset + 1008 + weights, {}, true});
  }
  static bool decays(std::int64_t i) {
    return (i >= 1001 && i < 1001 + weights) || (i >= 1008 + weights && i < 1023 + weights);
  }
};

struct tiny_layer {
  static constexpr std::int64_t parameter_count = 3;
  void describe(const std::string&, std::int64_t, std::vector<ln::parameter>& list) const {
    list.push_back({"x", {3}, 0, {}, true});
  }
};

template <class T>
void fill(ln::parameter_block<T>& block, std::uint64_t seed, double scale) {
  const ln::random_stream random{seed};
  for (std::int64_t i = 0; i < block.size(); ++i) {
    block.view()(i) = static_cast<T>(scale * random.normal(static_cast<std::uint64_t>(i)));
  }
}

/// The definition, element by element in double.
struct reference {
  ln::adam_options options;
  std::vector<double> p, m, v;
  int t = 0;

  void step(const std::vector<double>& gradients, double rate) {
    double norm = 0;
    for (const double g : gradients) norm += g * g;
    norm = std::sqrt(norm);
    const double scale = options.clip_norm > 0 && norm > options.clip_norm ? options.clip_norm / norm : 1;
    ++t;
    for (std::size_t i = 0; i < p.size(); ++i) {
      const double decay = layer::decays(static_cast<std::int64_t>(i)) ? options.weight_decay : 0;
      const double coupled = options.decoupled_weight_decay ? 0 : decay, decoupled = decay - coupled;
      const double g = scale * gradients[i] + coupled * p[i];
      m[i] = options.beta1 * m[i] + (1 - options.beta1) * g;
      v[i] = options.beta2 * v[i] + (1 - options.beta2) * g * g;
      const double mean = m[i] / (1 - std::pow(options.beta1, t)), square = v[i] / (1 - std::pow(options.beta2, t));
      p[i] -= rate * (mean / (std::sqrt(square) + options.epsilon) + decoupled * p[i]);
    }
  }
};

template <class T>
std::vector<T> values(const ln::parameter_block<T>& block) {
  return {block.view().data(), block.view().data() + block.size()};
}

template <class T>
bool same_bits(const ln::parameter_block<T>& a, const ln::parameter_block<T>& b) {
  return std::memcmp(a.view().data(), b.view().data(), static_cast<std::size_t>(a.size()) * sizeof(T)) == 0;
}

}  // namespace

TEST_CASE_TEMPLATE("adam: the definition in double", T, float, double) {
  for (const int variant : {0, 1, 2, 3}) {
    const bool decoupled = variant % 2 == 0;
    const double clip = variant < 2 ? 0 : 5.0;
    CAPTURE(decoupled);
    CAPTURE(clip);
    const ln::adam_options options{.beta1 = 0.85,
                                   .beta2 = 0.98,
                                   .epsilon = 1e-8,
                                   .weight_decay = 0.05,
                                   .decoupled_weight_decay = decoupled,
                                   .clip_norm = clip};
    auto parameters = ln::parameter_block<T>::of(layer{});
    auto gradients = parameters.like();
    fill(parameters, 1, 0.5);
    ln::adam<T> optimiser{parameters, options};
    const auto start = values(parameters);
    reference expected{options, {start.begin(), start.end()}, {}, {}};
    expected.m.resize(start.size());
    expected.v.resize(start.size());
    ln::execution<ln::cpu> on{2};
    for (std::uint64_t step = 0; step < 12; ++step) {
      fill(gradients, 100 + step, step == 5 ? 1e-6 : 0.02 * static_cast<double>(step + 1));
      const double rate = 0.01 / static_cast<double>(step + 1);
      const auto g = values(gradients);
      expected.step({g.begin(), g.end()}, rate);
      optimiser.set_learning_rate(rate);
      optimiser.step(on, parameters, gradients);
    }
    double worst = 0, moved = 0;
    for (std::int64_t i = 0; i < parameters.size(); ++i) {
      const auto at = static_cast<std::size_t>(i);
      worst = std::max(worst, std::abs(static_cast<double>(parameters.view()(i)) - expected.p[at]));
      moved = std::max(moved, std::abs(expected.p[at] - static_cast<double>(start[at])));
    }
    CHECK(moved > 0.01);
    CHECK(worst <= 20 * static_cast<double>(std::numeric_limits<T>::epsilon()));
    CHECK(optimiser.state().updates == 12);
    CHECK(optimiser.state().skipped == 0);
    double norm = 0;
    for (const T g : values(gradients)) norm += static_cast<double>(g) * static_cast<double>(g);
    CHECK(optimiser.state().gradient_norm == doctest::Approx(std::sqrt(norm)).epsilon(1e-12));
  }
}

TEST_CASE("adam: without a gradient, decay takes a share off in AdamW, and off any parameter the rate in Adam") {
  ln::execution<ln::cpu> on{1};
  auto parameters = ln::parameter_block<double>::of(tiny_layer{});
  const auto gradients = parameters.like();
  const std::vector<double> start{2, -0.5, 0};
  for (const bool decoupled : {true, false}) {
    CAPTURE(decoupled);
    std::copy(start.begin(), start.end(), parameters.view().data());
    ln::adam<double> optimiser{parameters, {.weight_decay = 0.25, .decoupled_weight_decay = decoupled}};
    optimiser.set_learning_rate(0.1);
    optimiser.step(on, parameters, gradients);
    for (std::size_t i = 0; i < start.size(); ++i) {
      CAPTURE(i);
      const double decay = decoupled ? 0.25 * start[i] : start[i] == 0 ? 0 : std::copysign(1, start[i]);
      CHECK(parameters.view()(static_cast<std::int64_t>(i)) == doctest::Approx(start[i] - 0.1 * decay).epsilon(1e-7));
    }
  }
}

TEST_CASE("adam: four updates as PyTorch makes them, with AdamW and Adam") {
  // What torch.optim.AdamW and torch.optim.Adam of PyTorch 2.11 make of these numbers in float64.
  const auto check = [](bool decoupled, const std::vector<double>& expected) {
    CAPTURE(decoupled);
    ln::execution<ln::cpu> on{1};
    auto parameters = ln::parameter_block<double>::of(tiny_layer{}), gradients = parameters.like();
    const auto set = [](ln::parameter_block<double>& block, const std::vector<double>& numbers) {
      std::copy(numbers.begin(), numbers.end(), block.view().data());
    };
    set(parameters, {1.5, -0.75, 0.125});
    ln::adam<double> optimiser{
        parameters, {.beta1 = 0.85, .beta2 = 0.98, .weight_decay = 0.25, .decoupled_weight_decay = decoupled}};
    for (const int t : {1, 2, 3, 4}) {
      set(gradients, {0.5 / t, -0.25 * t, (t % 3 - 1) / 16.0});
      optimiser.set_learning_rate(0.1 / t);
      optimiser.step(on, parameters, gradients);
    }
    for (std::size_t i = 0; i < expected.size(); ++i) {
      CAPTURE(i);
      CHECK(std::abs(values(parameters)[i] - expected[i]) <= 1e-14);
    }
  };
  check(true, {1.2317502133192104, -0.5098437788539518, 0.08489344997346812});
  check(false, {1.2966944011405832, -0.5422013787597246, -0.02655249126506931});
}

TEST_CASE("adam: the same bits for any number of threads") {
  const ln::adam_options options{.clip_norm = 1};
  auto gradients = ln::parameter_block<float>::of(layer{});
  const auto run = [&](int threads) {
    auto parameters = gradients.like();
    fill(parameters, 1, 0.5);
    ln::adam<float> optimiser{parameters, options};
    optimiser.set_learning_rate(0.01);
    ln::execution<ln::cpu> on{threads};
    for (std::uint64_t step = 0; step < 3; ++step) {
      fill(gradients, step, 1);
      optimiser.step(on, parameters, gradients);
    }
    return parameters;
  };
  const auto expected = run(1);
  for (int threads = 2; threads <= 4; ++threads) CHECK(same_bits(run(threads), expected));
}

TEST_CASE_TEMPLATE("adam: gradients that are not finite change nothing", T, float, double) {
  auto parameters = ln::parameter_block<T>::of(layer{});
  auto gradients = parameters.like();
  fill(parameters, 1, 1);
  fill(gradients, 2, 1);
  ln::execution<ln::cpu> on{2};
  ln::adam<T> optimiser{parameters, {.clip_norm = 1}};
  optimiser.set_learning_rate(0.1);
  optimiser.step(on, parameters, gradients);
  const auto before = parameters;
  const auto first = optimiser.first_moment(), second = optimiser.second_moment();
  const double infinity = std::numeric_limits<double>::infinity();
  std::int64_t skipped = 0;
  for (const double bad : {static_cast<double>(NAN), infinity, -infinity,
                           2 * std::sqrt(static_cast<double>(std::numeric_limits<T>::max()))}) {
    fill(gradients, 3, 1);
    gradients.view()(30011) = static_cast<T>(bad);
    optimiser.step(on, parameters, gradients);
    CHECK(same_bits(parameters, before));
    CHECK(same_bits(optimiser.first_moment(), first));
    CHECK(same_bits(optimiser.second_moment(), second));
    CHECK(optimiser.state().skipped == ++skipped);
    CHECK(optimiser.state().skipped_in_row == skipped);
    CHECK(optimiser.state().updates == 1);
  }
  fill(gradients, 3, 1e8);  // large is not infinite
  optimiser.step(on, parameters, gradients);
  CHECK(optimiser.state().skipped_in_row == 0);
  CHECK(optimiser.state().updates == 2);
  for (const T x : values(parameters)) REQUIRE(std::isfinite(x));
}

TEST_CASE("adam: goes on from a saved state bit for bit") {
  auto parameters = ln::parameter_block<double>::of(layer{});
  auto gradients = parameters.like();
  fill(parameters, 1, 1);
  ln::execution<ln::cpu> on{2};
  ln::adam<double> optimiser{parameters};
  optimiser.set_learning_rate(0.1);
  for (std::uint64_t step = 0; step < 3; ++step) {
    fill(gradients, step, 1);
    optimiser.step(on, parameters, gradients);
  }
  auto copied = parameters;
  ln::adam<double> other{copied};
  other.first_moment() = optimiser.first_moment();
  other.second_moment() = optimiser.second_moment();
  other.restore(optimiser.state());
  fill(gradients, 9, 1);
  optimiser.step(on, parameters, gradients);
  other.step(on, copied, gradients);
  CHECK(same_bits(parameters, copied));
}

TEST_CASE("adam: refuses what does not fit") {
  auto parameters = ln::parameter_block<float>::of(layer{});
  auto small = ln::parameter_block<float>::of(tiny_layer{});
  ln::execution<ln::cpu> on{1};
  ln::adam<float> optimiser{parameters};
  CHECK_THROWS_AS(optimiser.step(on, small, parameters), ln::shape_error);
  CHECK_THROWS_AS(optimiser.step(on, parameters, small), ln::shape_error);
  CHECK_THROWS_AS(optimiser.set_learning_rate(-1), ln::value_error);
  CHECK_THROWS_AS(optimiser.set_learning_rate(NAN), ln::value_error);
  const auto refused = [&](auto change) {
    ln::adam_options bad;
    change(bad);
    CHECK_THROWS_AS((ln::adam<float>{parameters, bad}), ln::value_error);
  };
  refused([](auto& o) { o.beta1 = 1; });
  refused([](auto& o) { o.beta2 = -0.1; });
  refused([](auto& o) { o.epsilon = 0; });
  refused([](auto& o) { o.weight_decay = NAN; });
  refused([](auto& o) { o.clip_norm = -1; });
}

TEST_CASE("adam: gradients of bfloat16 move parameters of float as the same gradients in float do") {
  for (const bool decoupled : {true, false}) mixed::check_against_float<ln::cpu>(decoupled);
}

TEST_CASE("adam: updates smaller than a step of bfloat16 add up") { mixed::check_small_updates<ln::cpu>(); }

TEST_CASE("adam: refuses master parameters that do not fit") { mixed::check_refusals<ln::cpu>(); }

TEST_CASE("master_parameters: one block where nothing is rounded") {
  const ln::master_parameters<double> parameters{layer{}, 1};
  CHECK(&parameters.master() == &parameters.rounded());
}

TEST_CASE_TEMPLATE("square_root: within 3 ulp", T, float, double) {
  constexpr int lowest = std::numeric_limits<T>::min_exponent / 2, highest = std::numeric_limits<T>::max_exponent - 1;
  const ln::random_stream random{3};
  double worst = 0;
  for (int exponent = lowest; exponent <= highest; ++exponent) {
    for (std::uint64_t i = 0; i < 200; ++i) {
      const T x = std::ldexp(static_cast<T>(1 + random.uniform(i)), exponent);
      const long double exact = std::sqrt(static_cast<long double>(x));
      worst = std::max(worst, static_cast<double>(std::abs(ln::detail::square_root(x) - exact) / exact));
    }
  }
  MESSAGE("square_root: worst error ", worst / static_cast<double>(std::numeric_limits<T>::epsilon()), " epsilon");
  CHECK(worst <= 3 * static_cast<double>(std::numeric_limits<T>::epsilon()));
  CHECK(ln::detail::square_root(T(0)) == T(0));
  CHECK(std::isfinite(ln::detail::square_root(std::numeric_limits<T>::max())));
  CHECK(ln::detail::square_root(std::numeric_limits<T>::min()) < T(1e-18));
  CHECK(ln::detail::square_root(std::numeric_limits<T>::denorm_min()) < T(1e-18));
}
