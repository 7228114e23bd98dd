// SPDX-License-Identifier: Apache-2.0
// A recurrence that is not in the library, the worked example of docs/adding_a_recurrence.md: the key as it is, a summed
// normaliser and no logits.

#include <lightnet/recurrence.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "../oracle/gradient.hpp"

namespace ln = lightnet;

namespace {

/// S_t = (1 / t) sum_{s <= t} k_s v_s^T, over the tokens that are not masked.
struct running_mean {
  template <class T, class Payload = ln::no_payload>
  using monoid = ln::log_sum_exp<T, Payload>;
  template <class T, class Device>
  using state = ln::framed_state<T, Device>;

  static constexpr bool commutative = monoid<double>::commutative;
  static constexpr bool framed = true;
  static constexpr bool sink = false;
  static constexpr bool per_channel = false;
  static constexpr bool with_sign = false;
  static constexpr ln::kappa_of kappa = ln::kappa_of::key;
  static constexpr ln::logits_from logits = ln::logits_from::none;
  static constexpr ln::weight_of weight = ln::weight_of::exponential;
  static constexpr ln::normaliser_of normaliser = ln::normaliser_of::sum;
};
static_assert(ln::recurrence<running_mean>);

constexpr std::int64_t tokens = 77, keys = 3, values = 2;  // 77: two whole chunks of 32, and part of one
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

struct problem {
  std::vector<double> q, k, v;
  ln::tensor<ln::rank<2>, bool> keep{{{1, tokens}}};

  problem() : q(tokens * keys), k(tokens * keys), v(tokens * values) {
    for (std::size_t i = 0; i < q.size(); ++i)
      q[i] = std::sin(static_cast<double>(i)), k[i] = std::cos(3.0 * static_cast<double>(i));
    for (std::size_t i = 0; i < v.size(); ++i) v[i] = std::sin(2.0 * static_cast<double>(i) + 1);
    for (std::int64_t t = 0; t < tokens; ++t) keep.data()[t] = t % 5 != 2;
  }
  static ln::dynamic_view<4, const double> view(const std::vector<double>& x, std::int64_t channels) {
    return {x.data(), {{1, tokens, 1, channels}}};
  }
  ln::scan_inputs<running_mean, 1, double> inputs() const {
    return {.q = view(q, keys), .k = view(k, keys), .v = view(v, values), .mask = keep.view()};
  }
};

template <class Traversal>
std::vector<double> run(const problem& p, const ln::framed_state<double>& state = {}) {
  std::vector<double> o(tokens * values, not_a_number);
  ln::execution<ln::cpu> on;
  const ln::dynamic_view<4, double> to{o.data(), {{1, tokens, 1, values}}};
  ln::scan<running_mean, Traversal, ln::no_position, 1, double>(on, p.inputs(), {.o = to, .state = state});
  return o;
}

}  // namespace

TEST_CASE("own recurrence: the running mean, masked tokens neither summed nor counted") {
  const problem p;
  ln::state_tensors<running_mean, double> final_state(1, 1, keys, keys, values), stepped(1, 1, keys, keys, values);
  const auto causal = run<ln::causal>(p, final_state.view());
  const auto global = run<ln::global>(p);
  double state[keys][values] = {}, count = 0;
  ln::execution<ln::cpu> on;
  for (std::int64_t t = 0; t < tokens; ++t) {
    const bool kept = p.keep.data()[t];
    if (kept) ++count;
    std::vector<double> o(values, not_a_number);
    const auto one = [t](const std::vector<double>& x, std::int64_t channels) {
      return problem::view(x, channels).slice(1, t, 1);
    };
    const ln::dynamic_view<2, const bool> mask = p.keep.view().slice(1, t, 1);
    const ln::dynamic_view<4, double> to{o.data(), {{1, 1, 1, values}}};
    ln::scan_step<running_mean, ln::no_position, 1, double>(
        on, {.q = one(p.q, keys), .k = one(p.k, keys), .v = one(p.v, values), .mask = mask},
        {.o = to, .state = stepped.view()});
    for (std::int64_t j = 0; j < values; ++j) {
      double read = 0;
      for (std::int64_t i = 0; i < keys; ++i) {
        const auto at = static_cast<std::size_t>(t * keys + i);
        if (kept) state[i][j] += p.k[at] * p.v[static_cast<std::size_t>(t * values + j)];
        read += kept ? p.q[at] * state[i][j] / count : 0;
      }
      const auto place = static_cast<std::size_t>(t * values + j);
      CHECK(std::abs(causal[place] - read) < 1e-14);
      CHECK(std::abs(o[static_cast<std::size_t>(j)] - read) < 1e-14);
    }
  }
  CHECK(std::ldexp(final_state.view().normaliser(0, 0, 0), final_state.view().exponent(0, 0, 0)) == count);
  CHECK(std::ldexp(stepped.view().normaliser(0, 0, 0), stepped.view().exponent(0, 0, 0)) == count);
  for (std::int64_t t = 0; t < tokens; ++t) {
    for (std::int64_t j = 0; j < values; ++j) {
      double read = 0;
      for (std::int64_t i = 0; i < keys; ++i) {
        read += p.keep.data()[t] ? p.q[static_cast<std::size_t>(t * keys + i)] * state[i][j] / count : 0;
      }
      CHECK(std::abs(global[static_cast<std::size_t>(t * values + j)] - read) < 1e-14);
    }
  }
}

TEST_CASE_TEMPLATE("own recurrence: gradients", Traversal, ln::causal, ln::global) {
  const problem p;
  std::vector<double> weights(tokens * values), dk(tokens * keys, not_a_number), dv(tokens * values, not_a_number);
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = std::cos(5.0 * static_cast<double>(i));
  ln::execution<ln::cpu> on;
  ln::scan_backward<running_mean, Traversal, ln::no_position, 1, double>(
      on, p.inputs(), {.o = problem::view(weights, values)},
      {.k = ln::dynamic_view<4, double>{dk.data(), {{1, tokens, 1, keys}}},
       .v = ln::dynamic_view<4, double>{dv.data(), {{1, tokens, 1, values}}}});
  const auto loss = [&](const problem& at) {
    const auto o = run<Traversal>(at);
    double sum = 0;
    for (std::size_t i = 0; i < o.size(); ++i) sum += weights[i] * o[i];
    return sum;
  };
  const auto with_k = [&](const std::vector<double>& k) {
    problem at;
    at.k = k;
    return loss(at);
  };
  const auto with_v = [&](const std::vector<double>& v) {
    problem at;
    at.v = v;
    return loss(at);
  };
  CHECK(oracle::check_gradient("own recurrence dk", with_k, p.k, dk) <= 1e-7);
  CHECK(oracle::check_gradient("own recurrence dv", with_v, p.v, dv) <= 1e-7);
  MESSAGE(oracle::gradient_report());
}
