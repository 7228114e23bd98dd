// SPDX-License-Identifier: Apache-2.0
// The linear layer against a plain loop.
#include <lightnet/layer/linear.hpp>

#include <doctest/doctest.h>

#include "../oracle/gradient.hpp"
#include "../oracle/model.hpp"
#include "gemm.hpp"
#include "numbers.hpp"

namespace {

namespace ln = lightnet;
using numbers::list;

constexpr int in = 7, out = 5;

// Rows of x and y lie `gap` apart from each other's end.
template <bool Biased>
struct question {
  using layer = ln::linear<in, out, Biased, double>;
  std::int64_t rows = 0;
  std::int64_t gap = 0;
  int threads = 1;
  list<double> x = {}, parameters = {};

  question(std::int64_t count, std::int64_t room) : rows{count}, gap{room} {
    x = numbers::normal(rows * in, 1);
    parameters = numbers::normal(layer::parameter_count, 2);
  }

  list<double> spread(const list<double>& dense, std::int64_t width) const {
    list<double> all = numbers::unwritten(rows * (width + gap));
    for (std::int64_t i = 0; i < rows * width; ++i) {
      all[static_cast<std::size_t>(i / width * (width + gap) + i % width)] = dense[static_cast<std::size_t>(i)];
    }
    return all;
  }
  list<double> gathered(const list<double>& all, std::int64_t width) const {
    list<double> dense;
    for (std::int64_t i = 0; i < rows * width; ++i) {
      dense.push_back(all[static_cast<std::size_t>(i / width * (width + gap) + i % width)]);
    }
    return dense;
  }
  template <class T>
  ln::dynamic_view<2, T> view(T* data, std::int64_t width) const {
    return {data, {{rows, width}}, {width + gap, 1}};
  }

  list<double> forward() const {
    ln::execution<ln::cpu> on(threads);
    const list<double> from = spread(x, in);
    list<double> to = numbers::unwritten(rows * (out + gap));
    layer{}.forward(on, {parameters.data(), {}}, view(from.data(), in), view(to.data(), out));
    return gathered(to, out);
  }
  struct gradients {
    list<double> x, parameters;
  };
  template <ln::write Write = ln::write::overwrite>
  gradients backward(const list<double>& dy, const list<double>& start) const {
    ln::execution<ln::cpu> on(threads);
    const list<double> from = spread(x, in), incoming = spread(dy, out);
    list<double> to = spread(start, in), d = numbers::unwritten(layer::parameter_count);
    layer{}.template backward<Write>(on, {parameters.data(), {}}, view(from.data(), in), view(incoming.data(), out),
                                     view(to.data(), in), {d.data(), {}});
    return {gathered(to, in), d};
  }
};

template <bool Biased>
void check(std::int64_t rows, std::int64_t gap) {
  question<Biased> q(rows, gap);
  const auto weights = static_cast<std::ptrdiff_t>(in * out);
  const list<double> w(q.parameters.begin(), q.parameters.begin() + weights);
  const list<double> bias(q.parameters.begin() + weights, q.parameters.end());
  const list<double> y = q.forward();
  CHECK(numbers::largest_difference(y, oracle::linear(q.x, w, in, bias)) <= 1e-13);

  const list<double> dy = numbers::normal(rows * out, 3), start = numbers::normal(rows * in, 4);
  const auto d = q.backward(dy, numbers::unwritten(rows * in));
  auto other = q;
  const std::string name = Biased ? "linear with bias" : "linear";
  CHECK(oracle::check_gradient(name + " x",
                               [&](const list<double>& x) {
                                 other.x = x;
                                 return numbers::weighted_sum(other.forward(), dy);
                               },
                               q.x, d.x, {.samples = 20}) <= 1e-7);
  other.x = q.x;
  CHECK(oracle::check_gradient(name + " parameters",
                               [&](const list<double>& parameters) {
                                 other.parameters = parameters;
                                 return numbers::weighted_sum(other.forward(), dy);
                               },
                               q.parameters, d.parameters, {.samples = 40}) <= 1e-7);
  const auto added = q.template backward<ln::write::add>(dy, start);
  CHECK(numbers::largest_difference(added.x, oracle::add(d.x, start)) <= 1e-13);
  CHECK(numbers::same_bits(added.parameters, d.parameters));
  q.threads = 3;
  CHECK(numbers::same_bits(q.forward(), y));
  CHECK(numbers::same_bits(q.backward(dy, start).parameters, d.parameters));
}

}  // namespace

TEST_CASE("linear is x W^T + b with the gradients of finite differences") {
  check<true>(13, 0);
  check<true>(1, 3);
  check<true>(701, 2);  // several blocks of the sums over rows
  check<false>(13, 3);
  MESSAGE(oracle::gradient_report());
}

TEST_CASE("linear leaves out the gradient that nobody wants") {
  using layer = question<true>::layer;
  const question<true> q(3, 0);
  ln::execution<ln::cpu> on(1);
  const list<double> dy = numbers::normal(3 * out, 3);
  list<double> d = numbers::unwritten(layer::parameter_count);
  layer{}.backward(on, {q.parameters.data(), {}}, q.view(q.x.data(), in), q.view(dy.data(), out), {}, {d.data(), {}});
  CHECK(numbers::same_bits(d, q.backward(dy, q.x).parameters));
}

TEST_CASE("linear describes its parameters") {
  std::vector<ln::parameter> list_of;
  ln::linear<in, out, true, double>{}.describe("a.", 3, list_of, 0.5);
  REQUIRE(list_of.size() == 2);
  CHECK(list_of[0].name == "a.weight");
  CHECK(list_of[0].shape == std::vector<std::int64_t>{out, in});
  CHECK(list_of[0].offset == 3);
  CHECK(list_of[0].initial.how == ln::initial_value::kind::truncated_normal);
  CHECK(list_of[0].initial.value == doctest::Approx(0.5 / std::sqrt(7.0)));
  CHECK(list_of[0].decays);
  CHECK(list_of[1].name == "a.bias");
  CHECK(list_of[1].shape == std::vector<std::int64_t>{out});
  CHECK(list_of[1].offset == 3 + in * out);
  CHECK(list_of[1].initial.value == 0);
  CHECK(!list_of[1].decays);
}

TEST_CASE("linear names what does not fit and writes nothing") {
  using layer = question<true>::layer;
  const question<true> q(3, 0);
  ln::execution<ln::cpu> on(1);
  list<double> y = numbers::unwritten(3 * out), d = numbers::unwritten(layer::parameter_count);
  const layer one;
  const ln::parameters_of<layer, const double> params{q.parameters.data(), {}};
  const auto x = q.view(q.x.data(), in);
  const auto to = q.view(y.data(), out);
  const auto wrong = numbers::view_of<2>(q.x, {4, in});
  CHECK(numbers::message_of<ln::shape_error>([&] {
          one.forward(on, params, numbers::view_of<2>(q.x, {3, in - 1}), to);
        }) == "lightnet: linear::forward: x: expected [3, 7] with dense rows, got [3, 6]");
  CHECK(numbers::message_of<ln::shape_error>([&] { one.forward(on, params, wrong, to); }) ==
        "lightnet: linear::forward: y: expected [4, 5] with dense rows, got [3, 5]");
  CHECK(numbers::message_of<ln::shape_error>([&] {
          one.forward(on, params, {q.x.data(), {{3, in}}, {1, 3}}, to);
        }) == "lightnet: linear::forward: x: expected [3, 7] with dense rows, got [3, 7] with strides [1, 3]");
  CHECK(numbers::message_of<ln::device_error>([&] { one.forward(on, {}, x, to); }) ==
        "lightnet: linear::forward: params: expected a view of memory, got a null pointer");
  CHECK(numbers::message_of<ln::device_error>([&] { one.forward(on, params, x, {}); }) ==
        "lightnet: linear::forward: y: expected a view of memory, got a null pointer");
  CHECK(numbers::message_of<ln::shape_error>([&] {
          one.backward(on, params, x, numbers::view_of<2>(q.x, {2, out}), {}, {d.data(), {}});
        }) == "lightnet: linear::backward: dy: expected [3, 5] with dense rows, got [2, 5]");
  CHECK(numbers::message_of<ln::device_error>([&] { one.backward(on, params, x, to, {}, {}); }) ==
        "lightnet: linear::backward: dparams: expected a view of memory, got a null pointer");
  for (const double a : y) CHECK(std::isnan(a));
  for (const double a : d) CHECK(std::isnan(a));
}
