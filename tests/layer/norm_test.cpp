// SPDX-License-Identifier: Apache-2.0
// RMSNorm and the two forms of norm and gate, over the full width and over its parts.
#include <lightnet/layer/gate.hpp>

#include <doctest/doctest.h>

#include "../oracle/gradient.hpp"
#include "../oracle/model.hpp"
#include "numbers.hpp"

namespace {

namespace ln = lightnet;
using numbers::list;

constexpr int width = 21;

template <class Layer>
ln::parameters_of<Layer, const double> parameters(const list<double>& values) {
  return {values.data(), {}};
}

ln::dynamic_view<2, const double> matrix(const list<double>& x) {
  return {x.data(), {{static_cast<std::int64_t>(x.size()) / width, width}}};
}
ln::dynamic_view<2, double> matrix(list<double>& x) {
  return {x.data(), {{static_cast<std::int64_t>(x.size()) / width, width}}};
}

template <int Groups>
void check_norm(std::int64_t rows) {
  using layer = ln::rms_norm<width, Groups, double>;
  const list<double> x = numbers::normal(rows * width, 1), g = numbers::normal(width, 2),
                     dy = numbers::normal(rows * width, 3);
  const auto forward = [&](const list<double>& from, const list<double>& weight, int threads) {
    ln::execution<ln::cpu> on(threads);
    list<double> y = numbers::unwritten(rows * width);
    layer{}.forward(on, parameters<layer>(weight), matrix(from), matrix(y));
    return y;
  };
  const auto backward = [&](auto write, list<double> dx, int threads) {
    ln::execution<ln::cpu> on(threads);
    list<double> dg = numbers::unwritten(width);
    layer{}.template backward<decltype(write)::value>(on, parameters<layer>(g), matrix(x), matrix(dy), matrix(dx),
                                                      {dg.data(), {}});
    return std::pair{dx, dg};
  };
  constexpr std::integral_constant<ln::write, ln::write::overwrite> overwrite;
  constexpr std::integral_constant<ln::write, ln::write::add> add;

  const list<double> y = forward(x, g, 1);
  CHECK(numbers::largest_difference(y, oracle::rms_norm(x, width / Groups, g)) <= 1e-14);
  const auto [dx, dg] = backward(overwrite, numbers::unwritten(rows * width), 1);
  const std::string name = "rms_norm in " + std::to_string(Groups);
  CHECK(oracle::check_gradient(name + " x",
                               [&](const list<double>& from) { return numbers::weighted_sum(forward(from, g, 1), dy); },
                               x, dx, {.samples = 40}) <= 1e-7);
  CHECK(oracle::check_gradient(
            name + " weight",
            [&](const list<double>& weight) { return numbers::weighted_sum(forward(x, weight, 1), dy); }, g,
            dg) <= 1e-7);
  const list<double> start = numbers::normal(rows * width, 4);
  const auto [added, dg_again] = backward(add, start, 1);
  CHECK(numbers::largest_difference(added, oracle::add(dx, start)) <= 1e-13);
  CHECK(numbers::same_bits(dg_again, dg));
  CHECK(numbers::same_bits(forward(x, g, 3), y));
  CHECK(numbers::same_bits(backward(overwrite, start, 3).first, dx));
  CHECK(numbers::same_bits(backward(overwrite, start, 3).second, dg));

  // A row alone.
  const list<double> last(x.end() - width, x.end());
  ln::execution<ln::cpu> on(1);
  list<double> alone = numbers::unwritten(width);
  layer{}.forward(on, parameters<layer>(g), matrix(last), matrix(alone));
  CHECK(numbers::same_bits(alone, list<double>(y.end() - width, y.end())));
}

template <ln::gate_form Form, int Groups>
void check_gate(std::int64_t rows) {
  using layer = ln::norm_gate<Form, width, Groups, double>;
  const list<double> o = numbers::normal(rows * width, 1), u = numbers::normal(rows * width, 2, 2),
                     g = numbers::normal(width, 3), dy = numbers::normal(rows * width, 4);
  const auto forward = [&](const list<double>& from, const list<double>& gate, const list<double>& weight) {
    ln::execution<ln::cpu> on(1);
    list<double> y = numbers::unwritten(rows * width);
    layer{}.forward(on, parameters<layer>(weight), matrix(from), matrix(gate), matrix(y));
    return y;
  };
  const bool norm_first = Form == ln::gate_form::norm_then_gate;
  CHECK(numbers::largest_difference(forward(o, u, g), norm_first
                                                          ? oracle::norm_then_gate(o, u, width / Groups, g)
                                                          : oracle::gate_then_norm(o, u, width / Groups, g)) <= 1e-14);
  ln::execution<ln::cpu> on(2);
  list<double> d_o = numbers::unwritten(rows * width), du = d_o, dg = numbers::unwritten(width);
  layer{}.backward(on, parameters<layer>(g), matrix(o), matrix(u), matrix(dy), matrix(d_o), matrix(du),
                   {dg.data(), {}});
  const std::string name =
      std::string(norm_first ? "norm_then_gate in " : "gate_then_norm in ") + std::to_string(Groups);
  const auto loss = [&](const list<double>& from, const list<double>& gate, const list<double>& weight) {
    return numbers::weighted_sum(forward(from, gate, weight), dy);
  };
  const oracle::gradient_options some{.samples = 40};
  CHECK(oracle::check_gradient(
            name + " o", [&](const auto& a) { return loss(a, u, g); }, o, d_o, some) <= 1e-7);
  CHECK(oracle::check_gradient(
            name + " u", [&](const auto& a) { return loss(o, a, g); }, u, du, some) <= 1e-7);
  CHECK(oracle::check_gradient(
            name + " weight", [&](const auto& a) { return loss(o, u, a); }, g, dg) <= 1e-7);
}

}  // namespace

TEST_CASE("rms_norm divides by the root mean square, of the row or of its parts") {
  check_norm<1>(5);
  check_norm<3>(5);
  check_norm<7>(1601);  // several blocks of the sum over rows, and of the threads
  MESSAGE(oracle::gradient_report());
}

TEST_CASE("rms_norm of zeros is zero") {
  ln::execution<ln::cpu> on(1);
  const list<double> x(2 * width), g(width, 1.0);
  list<double> y = numbers::unwritten(2 * width);
  ln::rms_norm<width, 1, double>{}.forward(on, {g.data(), {}}, matrix(x), matrix(y));
  for (const double a : y) CHECK(a == 0);
}

TEST_CASE("rms_norm adds the epsilon that it is told") {
  ln::execution<ln::cpu> on(1);
  const list<double> x = numbers::normal(2 * width, 1, 0.1), g = numbers::normal(width, 2);
  list<double> y = numbers::unwritten(2 * width);
  ln::rms_norm<width, 1, double>{.epsilon = 0.3}.forward(on, {g.data(), {}}, matrix(x), matrix(y));
  CHECK(numbers::largest_difference(y, oracle::rms_norm(x, width, g, 0.3)) <= 1e-14);
}

TEST_CASE("rms_norm starts with a weight of one that does not decay") {
  std::vector<ln::parameter> all;
  ln::rms_norm<width, 3, double>{}.describe("norm.", 7, all);
  REQUIRE(all.size() == 1);
  CHECK(all[0].name == "norm.weight");
  CHECK(all[0].shape == std::vector<std::int64_t>{width});
  CHECK(all[0].offset == 7);
  CHECK(all[0].initial.how == ln::initial_value::kind::constant);
  CHECK(all[0].initial.value == 1);
  CHECK(!all[0].decays);
}

TEST_CASE("norm and gate, both published forms, over the full width and per head") {
  check_gate<ln::gate_form::norm_then_gate, 1>(5);
  check_gate<ln::gate_form::norm_then_gate, 3>(5);
  check_gate<ln::gate_form::gate_then_norm, 1>(5);
  check_gate<ln::gate_form::gate_then_norm, 3>(5);
  MESSAGE(oracle::gradient_report());
}

TEST_CASE("norms name what does not fit and write nothing") {
  using norm = ln::rms_norm<width, 3, double>;
  using gate = ln::norm_gate<ln::gate_form::norm_then_gate, width, 1, double>;
  ln::execution<ln::cpu> on(1);
  const list<double> x(4 * width), g(width, 1.0);
  list<double> y = numbers::unwritten(3 * width);
  const auto rows = numbers::view_of<2>(x, {3, width});
  CHECK(numbers::message_of<ln::shape_error>([&] {
          norm{}.forward(on, parameters<norm>(g), numbers::view_of<2>(x, {3, width + 1}), matrix(y));
        }) == "lightnet: rms_norm::forward: x: expected [3, 21] with dense rows, got [3, 22]");
  CHECK(numbers::message_of<ln::shape_error>([&] {
          norm{}.forward(on, parameters<norm>(g), {x.data(), {{3, width}}, {width + 2, 1}}, matrix(y));
        }) == "lightnet: rms_norm::forward: x: expected a dense matrix, got [3, 21] with strides [23, 1]");
  CHECK(numbers::message_of<ln::device_error>([&] { norm{}.forward(on, {}, rows, matrix(y)); }) ==
        "lightnet: rms_norm::forward: params: expected a view of memory, got a null pointer");
  CHECK(numbers::message_of<ln::shape_error>([&] {
          gate{}.forward(on, parameters<gate>(g), rows, matrix(x), matrix(y));
        }) == "lightnet: norm_gate::forward: u: expected [3, 21] with dense rows, got [4, 21]");
  CHECK(numbers::message_of<ln::device_error>([&] {
          gate{}.backward(on, parameters<gate>(g), rows, rows, rows, matrix(y), {}, {y.data(), {}});
        }) == "lightnet: norm_gate::backward: du: expected a view of memory, got a null pointer");
  for (const double a : y) CHECK(std::isnan(a));
}
