// SPDX-License-Identifier: Apache-2.0
// Every case of the list against both oracles, within the tolerance of the rounding that its terms allow.
#include <doctest/doctest.h>

#include <cfenv>
#include <map>

#include "../oracle/quadratic.hpp"
#include "../oracle/recurrence.hpp"
#include "cases.hpp"

using namespace cases;

namespace {

struct worst_errors {
  double o = 0, quadratic = 0, state = 0, z = 0, steps = 0;
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

// Asks one question in every way that there is; returns the errors in units of what is allowed.
worst_errors check(const operation& op, const question& x) {
  INFO(describe(op, x));
  const double epsilon = op.epsilon();
  auto expected = oracle::naive_recurrence(x.p);
  // Below the normal range there are no digits to keep.
  for (numbers* unit : {&expected.unit, &expected.s_unit}) {
    for (double& size : *unit) size += op.smallest() / epsilon;
  }
  const auto quadratic = oracle::quadratic_form(x.p);
  worst_errors worst;
  const auto compare = [&](const answer& came, double allowed, double& error_o) {
    CHECK_FALSE(came.outside);
    CHECK(std::none_of(came.o.begin(), came.o.end(), [](double o) { return std::isnan(o); }));
    error_o = oracle::error_in_units(came.o, expected.o_long, expected.unit, epsilon);
    CHECK(error_o <= allowed);
    worst.quadratic = std::max(worst.quadratic, oracle::error_in_units(came.o, quadratic.o, expected.unit, epsilon));
    CHECK(worst.quadratic <= allowed);
    if (came.state.sum.empty()) return;
    const double state = oracle::error_in_units(mean_state(came.state, x.p), expected.s, expected.s_unit, epsilon);
    worst.state = std::max(worst.state, state);
    CHECK(state <= allowed);
    if (!op.additive()) return;
    const double z = z_error(log_normaliser(came.state), expected.z, epsilon);
    worst.z = std::max(worst.z, z);
    CHECK(z <= allowed);
  };
  const answer whole = op.forward(x);
  compare(whole, 32, worst.o);
  CHECK(std::none_of(whole.state.sum.begin(), whole.state.sum.end(), [](double sum) { return std::isnan(sum); }));
  if (op.steps) compare(op.steps(x), 32 + static_cast<double>(x.p.tokens) / 32, worst.steps);
  return worst;
}

std::string text(const worst_errors& worst) {
  const auto line = [](const char* name, double error) { return name + std::to_string(error); };
  return line("o ", worst.o) + line(", steps ", worst.steps) + line(", quadratic form ", worst.quadratic) +
         line(", S ", worst.state) + line(", z ", worst.z);
}

void keep(worst_errors& all, const worst_errors& one) {
  for (double worst_errors::*error :
       {&worst_errors::o, &worst_errors::quadratic, &worst_errors::state, &worst_errors::z, &worst_errors::steps}) {
    all.*error = std::max(all.*error, one.*error);
  }
}

}  // namespace

TEST_CASE("scan: every case agrees with both oracles") {
  generator random(1);
  std::map<bool, worst_errors> worst;
  for (const operation& op : operations()) {
    for (int round = 0; round < 32; ++round) {
      options want;
      want.masked = round % 2 == 1;
      want.with_state = round / 2 % 2 == 1;
      want.extreme = round / 4 % 2 == 1;
      want.logits = round / 8 % 2 == 1 ? 20 : 3;
      keep(worst[op.is_double], check(op, random_question(op, random, want)));
    }
  }
  MESSAGE("worst errors in units, float: ", text(worst[false]));
  MESSAGE("worst errors in units, double: ", text(worst[true]));
}
