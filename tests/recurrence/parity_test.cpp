// SPDX-License-Identifier: Apache-2.0
// Every case of the list against both oracles, within the tolerance of the rounding that its terms allow.
#include <doctest/doctest.h>

#include <map>
#include <string>

#include "../oracle/quadratic.hpp"
#include "../oracle/recurrence.hpp"
#include "cases.hpp"
#include "random_question.hpp"

using namespace cases;

namespace {

// The worst errors in units.
struct worst_errors {
  double o = 0, steps = 0, quadratic = 0, state = 0, z = 0, decay = 0, input = 0;

  void keep(const worst_errors& other) {
    for (double worst_errors::*error :
         {&worst_errors::o, &worst_errors::steps, &worst_errors::quadratic, &worst_errors::state, &worst_errors::z,
          &worst_errors::decay, &worst_errors::input}) {
      this->*error = std::max(this->*error, other.*error);
    }
  }
  std::string text() const {
    const auto part = [](const char* name, double error) { return name + std::to_string(error); };
    return part("o ", o) + part(", steps ", steps) + part(", quadratic form ", quadratic) + part(", S ", state) +
           part(", z ", z) + part(", decay ", decay) + part(", X ", input);
  }
};

// The largest difference of log normalisers, in units of rounding.
double z_error(const numbers& got, const numbers& expected, double epsilon) {
  if (got.size() != expected.size()) return inf;
  double worst = 0;
  for (std::size_t n = 0; n < got.size(); ++n) {
    if (got[n] == expected[n]) continue;
    const double unit = epsilon + oracle::double_epsilon * std::abs(expected[n]);
    const double error = std::abs(got[n] - expected[n]) / unit;
    worst = std::isfinite(error) ? std::max(worst, error) : inf;
  }
  return worst;
}

bool has_nan(const numbers& all) {
  return std::any_of(all.begin(), all.end(), [](double x) { return std::isnan(x); });
}

// Asks one question in every way that there is; returns the errors in units of what is allowed.
worst_errors check(const operation& op, const question& x) {
  INFO(describe(op, x));
  const auto expected = oracle::naive_recurrence(x.p);
  worst_errors worst;
  const auto compare = [&](const answer& came, double allowed, double& error_o) {
    CHECK_FALSE(came.outside);
    CHECK_FALSE(has_nan(came.o));
    error_o = op.output_error(came.o, expected.o_long, expected.unit);
    CHECK(error_o <= allowed);
    if (came.state.sum.empty()) return;
    CHECK_FALSE(has_nan(came.state.sum));
    const double state = op.state_error(mean_state(came.state, x.p), expected.s, expected.s_unit);
    worst.state = std::max(worst.state, state);
    CHECK(state <= allowed);
    if (op.framed) {
      const double z = z_error(log_normaliser(came.state), expected.z, op.epsilon());
      worst.z = std::max(worst.z, z);
      CHECK(z <= allowed);
    }
    if (!came.state.decay.empty()) {
      numbers unit = expected.decay;  // e^x has the absolute error of x, relatively
      for (double& size : unit) size = size == 0 ? 0 : std::abs(size) * (1 + std::abs(std::log(std::abs(size))));
      worst.decay = std::max(worst.decay, op.state_error(came.state.decay, expected.decay, unit));
      CHECK(worst.decay <= 32 + static_cast<double>(x.p.tokens));  // a product of so many factors
    }
    if (!came.state.input.empty()) {
      worst.input = std::max(worst.input, op.state_error(came.state.input, expected.input, expected.input_unit));
      CHECK(worst.input <= allowed);
    }
  };
  const answer whole = op.forward(x);
  compare(whole, op.tolerance(), worst.o);
  if (x.p.tokens < 100) {
    worst.quadratic = op.output_error(whole.o, oracle::quadratic_form(x.p).o, expected.unit);
    CHECK(worst.quadratic <= op.tolerance());
  }
  if (op.steps && x.p.cumulative_lengths.empty()) compare(op.steps(x), op.step_tolerance(x.p.tokens), worst.steps);
  return worst;
}

}  // namespace

TEST_CASE("scan: every case agrees with both oracles") {
  std::map<dtype, worst_errors> worst;
  for (const operation& op : operations()) {
    generator random(1, op);
    for (int round = 0; round < 16; ++round) {
      options want;
      want.masked = round % 2 == 1;
      want.with_state = round / 2 % 2 == 1;
      want.extreme = round / 4 % 2 == 1;
      want.packed = round / 8 == 1 && op.dims == 1;
      want.logits = random.coin() ? 20 : 3;
      worst[op.type].keep(check(op, random_question(op, random, want)));
    }
  }
  const std::map<dtype, std::string> names = {{dtype::float64, "double"},
                                              {dtype::float32, "float"},
                                              {dtype::bfloat16, "bfloat16"},
                                              {dtype::float16, "float16"}};
  for (const auto& [type, name] : names) MESSAGE("worst errors in units, ", name, ": ", worst[type].text());
}
