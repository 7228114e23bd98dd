// SPDX-License-Identifier: Apache-2.0
// MD-TPE in double: values, gradients, the initial identity, errors.
#include "md_tpe.hpp"

#include <lightnet/core/parameters.hpp>

#include <doctest/doctest.h>

#include <utility>

#include "../oracle/gradient.hpp"
#include "../oracle/tolerance.hpp"

namespace {

namespace ln = lightnet;
using numbers::list;

template <class Question>
void check_values(const Question& question) {
  const oracle::tpe_answer answer = oracle::md_tpe(question.p);
  CHECK(oracle::error_in_units(question.forward(), answer.y, answer.unit, oracle::double_epsilon) <= 32);
}

template <class Question>
void check_gradients(Question question, const std::string& name) {
  // What is under the mask does not matter: NaN there, in x and in the incoming gradient.
  list<double> dy = numbers::normal(static_cast<std::int64_t>(question.p.x.size()), 77);
  const list<double> weights = dy;
  const auto loss_by = [&](list<double>& input) {
    return [&](const list<double>& values) {
      input = values;
      return numbers::weighted_sum(question.forward(), weights);
    };
  };
  for (std::size_t i = 0; i < dy.size(); ++i) {
    if (!question.p.mask.empty() && question.p.mask[i / static_cast<std::size_t>(question.p.width)] == 0) {
      dy[i] = numbers::not_a_number;
    }
  }
  const auto d = question.backward(dy);
  const std::ptrdiff_t gammas = static_cast<std::ptrdiff_t>(question.p.gamma.size());
  const list<double> dgamma(d.parameters.begin(), d.parameters.begin() + gammas);
  const list<double> db(d.parameters.begin() + gammas, d.parameters.end());
  const list<double> x = question.p.x, gamma = question.p.gamma, b = question.p.b;
  CHECK(oracle::check_gradient(name + " x", loss_by(question.p.x), x, d.x, {.samples = 60}) <= 1e-7);
  question.p.x = x;
  CHECK(oracle::check_gradient(name + " gamma", loss_by(question.p.gamma), gamma, dgamma) <= 1e-7);
  question.p.gamma = gamma;
  CHECK(oracle::check_gradient(name + " b", loss_by(question.p.b), b, db, {.samples = 60}) <= 1e-7);
  question.p.b = b;

  // What is added to.
  const list<double> start = numbers::normal(static_cast<std::int64_t>(x.size()), 78);
  const auto added = question.template backward<ln::write::add>(dy, start);
  list<double> sum = d.x;
  for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += start[i];
  CHECK(numbers::largest_difference(added.x, sum) <= 1e-12);
  CHECK(numbers::same_bits(added.parameters, d.parameters));
}

}  // namespace

TEST_CASE("MD-TPE in double is the direct long convolution, and its gradients are right") {
  using one_mode = tpe::question<3, 1, true, 1, double>;
  check_values(one_mode({23}, 2, 0, false));
  check_values(one_mode({23}, 2, 3, true));
  check_gradients(one_mode({7}, 2, 2, true), "md_tpe 1-D, both ways");
  check_gradients(one_mode({71}, 2, 2, true), "md_tpe 1-D, both ways, a long line");
  using wide = tpe::question<24, 9, true, 2, double>;
  check_values(wide({{37, 2}}, 2, 0, false));
  check_gradients(wide({{3, 35}}, 1, 0, false), "md_tpe 2-D, both ways, whole registers");
  using three_modes = tpe::question<11, 3, false, 2, double>;
  check_values(three_modes({{5, 9}}, 2, 0, false));
  check_values(three_modes({{5, 9}}, 3, 2, true));
  check_values(three_modes({{1, 1}}, 1, 0, false));
  check_gradients(three_modes({{3, 5}}, 18, 1, true), "md_tpe 2-D");  // more sequences than one segment of the sum
  using sixteen_modes = tpe::question<5, 16, true, 3, double>;
  check_values(sixteen_modes({{3, 4, 5}}, 2, 0, false));
  check_values(sixteen_modes({{4, 2, 3}}, 1, 1, true));
  check_gradients(sixteen_modes({{2, 3, 2}}, 2, 1, true), "md_tpe 3-D, both ways");
  MESSAGE(oracle::gradient_report());
}

TEST_CASE("MD-TPE of tokens that arrive in parts is that of the whole") {
  const tpe::question<5, 3, false, 1, double> question({41}, 1, 0, true);
  const auto all = question.parameters();
  const list<double>& x = question.p.x;
  list<double> y = numbers::unwritten(41 * 5);
  decltype(question)::layer::modes_so_far modes;
  ln::execution<ln::cpu> on(2);
  std::int64_t at = 0;
  const auto part = [&](auto* data, std::int64_t count) {
    return ln::sequence<1, std::remove_pointer_t<decltype(data)>>{
        {data + 5 * at, {{1, count, 5}}}, {{count}, 0, {at}}, {question.keep.get() + at, {{1, count}}}};
  };
  for (const std::int64_t count : {1, 17, 1, 1, 21}) {
    decltype(question)::layer{}.forward(on, {all.data(), {}}, part(x.data(), count), part(y.data(), count), modes);
    at += count;
  }
  CHECK(at == 41);
  const oracle::tpe_answer answer = oracle::md_tpe(question.p);
  CHECK(oracle::error_in_units(y, answer.y, answer.unit, oracle::double_epsilon) <= 32 + 41.0 / 32);

  list<double> two(2 * 5);
  const ln::sequence<1, double> other{{two.data(), {{2, 1, 5}}}, {{1}}};
  const ln::sequence<1, double> prefixed{{two.data(), {{1, 2, 5}}}, {{1}, 1, {}}};
  CHECK_THROWS_AS(decltype(question)::layer{}.forward(on, {all.data(), {}}, other, other, modes), ln::shape_error);
  CHECK_THROWS_AS(decltype(question)::layer{}.forward(on, {all.data(), {}}, prefixed, prefixed, modes),
                  ln::value_error);
}

TEST_CASE("MD-TPE starts as the identity") {
  using layer = ln::md_tpe<11, 3, false, 2, double>;
  auto parameters = ln::parameter_block<double>::of(layer{});
  parameters.initialise(5);
  REQUIRE(parameters.index().size() == 2);
  CHECK(parameters.index()[0].name == "gamma");
  CHECK(parameters.index()[0].shape == std::vector<std::int64_t>{2, 3});
  CHECK(parameters.index()[1].name == "b");
  CHECK(parameters.index()[1].shape == std::vector<std::int64_t>{2, 11, 3});
  CHECK(!parameters.index()[0].decays);
  CHECK(!parameters.index()[1].decays);
  for (std::int64_t i = 0; i < 6; ++i) {
    CHECK(parameters["gamma"](i) == doctest::Approx(-8 * static_cast<double>(i % 3 + 1) * std::log(2.0) / 3));
  }

  tpe::question<11, 3, false, 2, double> question({{5, 9}}, 2, 1, false);
  question.p.gamma.assign(parameters["gamma"].data(), parameters["gamma"].data() + 6);
  question.p.b.assign(question.p.b.size(), 0);
  CHECK(numbers::same_bits(question.forward(), question.p.x));
}

TEST_CASE("MD-TPE gives the same bits for any number of threads, alone and in a batch") {
  tpe::question<11, 3, false, 2, double> question({{5, 9}}, 35, 2, true);
  const list<double> dy = numbers::normal(static_cast<std::int64_t>(question.p.x.size()), 9);
  const auto y = question.forward();
  const auto d = question.backward(dy);
  for (const int threads : {2, 3}) {
    question.threads = threads;
    CHECK(numbers::same_bits(question.forward(), y));
    const auto again = question.backward(dy);
    CHECK(numbers::same_bits(again.x, d.x));
    CHECK(numbers::same_bits(again.parameters, d.parameters));
  }
  const std::ptrdiff_t size = question.tokens() * 11;
  for (const std::ptrdiff_t b : {std::ptrdiff_t{0}, std::ptrdiff_t{17}}) {
    const auto one = question.alone(b);
    const auto part = [&](const list<double>& all) {
      return list<double>(all.begin() + b * size, all.begin() + (b + 1) * size);
    };
    CHECK(numbers::same_bits(one.forward(), part(y)));
    CHECK(numbers::same_bits(one.backward(part(dy)).x, part(d.x)));
  }
}

TEST_CASE("MD-TPE names what does not fit and writes nothing") {
  using layer = ln::md_tpe<11, 3, false, 2, double>;
  ln::execution<ln::cpu> on(1);
  const list<double> parameters(static_cast<std::size_t>(layer::parameter_count)), x(2 * 6 * 11), narrow(2 * 6 * 10);
  list<double> y = numbers::unwritten(2 * 6 * 11);
  const layer::parameters params{parameters.data(), {}};
  const layer::input tokens{numbers::view_of<4>(x, {2, 2, 3, 11})};
  const layer::output to{numbers::view_of<4>(y, {2, 2, 3, 11})};
  CHECK(numbers::message_of<ln::shape_error>([&] {
          layer{}.forward(on, params, numbers::view_of<4>(narrow, {2, 2, 3, 10}), to);
        }) == "lightnet: md_tpe::forward: x: expected [2, 6, 11], got [2, 6, 10]");
  CHECK(numbers::message_of<ln::shape_error>([&] {
          layer{}.forward(on, params, tokens, layer::output{numbers::view_of<4>(y, {1, 4, 3, 11})});
        }) == "lightnet: md_tpe::forward: y: expected [2, 6, 11], got [1, 12, 11]");
  CHECK(numbers::message_of<ln::device_error>([&] { layer{}.forward(on, {}, tokens, to); }) ==
        "lightnet: md_tpe::forward: params: expected a view of memory, got a null pointer");
  CHECK(numbers::message_of<ln::device_error>([&] { layer{}.backward(on, params, tokens, tokens, to, {}); }) ==
        "lightnet: md_tpe::backward: dparams: expected a view of memory, got a null pointer");
  CHECK(numbers::message_of<ln::device_error>([&] {
          list<double> d = parameters;
          layer{}.backward(on, params, tokens, tokens, {}, {d.data(), {}});
        }) == "lightnet: md_tpe::backward: dx: expected a view of memory, got a null pointer");
  for (const double a : y) CHECK(std::isnan(a));
}
