// SPDX-License-Identifier: Apache-2.0
// Any layout, any extent, zero too, any head size; and tokens that are deleted.
#include <doctest/doctest.h>

#include "../oracle/recurrence.hpp"
#include "cases.hpp"
#include "random_question.hpp"

using namespace cases;

TEST_CASE("scan: the bits depend neither on strides nor on what else is asked for") {
  for (const operation& op : operations()) {
    generator random(41, op);
    question x = random_question(op, random, {.masked = random.coin(), .with_state = random.coin()});
    x.memory = layout::dense;
    x.mergeable = true;
    INFO(describe(op, x));
    const incoming to = random_incoming(op, x, random);
    const answer expected = op.forward(x);
    const gradients gradient = op.backward(x, to);
    CHECK_FALSE(expected.outside);
    for (const layout memory : {layout::gapped, layout::tangled}) {
      x.memory = memory;
      const answer came = op.forward(x);
      CHECK(same(came.o, expected.o));
      CHECK(same(came.state, expected.state));
      CHECK_FALSE(came.outside);
      const gradients d = op.backward(x, to);
      CHECK(same(d, gradient));
      CHECK_FALSE(d.outside);
    }
    if (op.dims > 1 && x.where.prefix == 0) {
      x.flattened = !x.flattened;
      CHECK(same(op.forward(x).o, expected.o));
      CHECK(same(op.backward(x, to), gradient));
    }
    x.mergeable = false;
    const answer bare = op.forward(x);
    CHECK(same(bare.o, expected.o));
    CHECK(same(bare.state.sum, expected.state.sum));
    CHECK(bare.state.decay.empty());
    CHECK(bare.state.input.empty());
  }
}

TEST_CASE("scan: what a deleted token holds does not matter") {
  for (const operation& op : operations()) {
    generator random(42, op);
    for (const bool packed : {false, op.dims == 1}) {
      question x =
          random_question(op, random, {.masked = true, .with_state = true, .extreme = random.coin(), .packed = packed});
      INFO(describe(op, x));
      question hidden = x;
      each_token_array(hidden.p, [&](numbers& values, std::int64_t width) {
        if (&values == &hidden.p.mask) return;
        for (std::size_t n = 0; n < values.size(); ++n) {
          if (x.p.mask[n / static_cast<std::size_t>(width)] == 0)
            values[n] = random.one_of<double>({not_a_number, inf, -inf, 1e4, -1e4});
        }
      });
      const incoming to = random_incoming(op, x, random);
      const answer expected = op.forward(x), came = op.forward(hidden);
      CHECK(same(came.o, expected.o));
      CHECK(same(came.state, expected.state));
      CHECK(same(op.backward(hidden, to), op.backward(x, to)));
      for (std::size_t n = 0; n < came.o.size(); ++n) {
        const std::size_t token = n / static_cast<std::size_t>(x.p.heads * x.p.values);
        if (x.p.mask[token] == 0 && came.o[n] != 0) FAIL_CHECK("an output of a deleted token is not 0");
      }
      if (!op.steps || packed) continue;
      CHECK(same(op.steps(hidden).o, op.steps(x).o));
    }
  }
}

TEST_CASE("scan: extents of zero") {
  for (const operation& op : operations()) {
    generator random(43, op);
    // Which of B, the first axis, H, d and e is zero.
    for (int which = 0; which < 5; ++which) {
      if (which == 3 && op.like.position != oracle::encoding::none) continue;  // refused: no channel for an angle
      question x = random_question(op, random,
                                   {.with_state = true, .keys = 7, .values = 3, .batch = 2, .heads = 2, .prefix = 0});
      const problem before = x.p;
      const raw_state state = first_state(x, op.sink);
      problem& p = x.p;
      if (which == 1) {
        x = part_of(x, 0, 0);
      } else {
        (which == 0 ? p.batch : which == 2 ? p.heads : which == 3 ? p.keys : p.values) = 0;
        const std::int64_t rows = p.batch * p.tokens * p.heads;
        const auto size = [](numbers& array, std::int64_t count) { array.resize(static_cast<std::size_t>(count)); };
        size(p.q, rows * p.keys);
        if (!p.k.empty()) size(p.k, rows * p.keys);
        size(p.v, rows * p.values);
        if (logit_width(before) > 0) size(logits_of(p), rows * p.weights());
        if (op.like.kind == oracle::recurrence::constant_decay) size(p.log_decay, p.heads);
        if (op.additive()) size(p.z0, p.batch * p.heads * p.weights());
        size(p.s0, p.batch * p.heads * p.features() * p.values);
        x.theta.clear();
      }
      INFO(describe(op, x), " zero ", which);
      const incoming to = random_incoming(op, x, random);
      const answer came = op.forward(x);
      const gradients d = op.backward(x, to);
      CHECK_FALSE(came.outside);
      CHECK_FALSE(d.outside);
      CHECK(std::all_of(came.o.begin(), came.o.end(), [](double o) { return o == 0; }));  // a sum of nothing
      CHECK(std::all_of(d.v.begin(), d.v.end(), [](double g) { return g == 0; }));
      if (which != 1 || !op.stateful) continue;
      // No tokens: the state passes through, and so does its gradient.
      const numbers s = mean_state(came.state, x.p), s0 = mean_state(state, x.p);
      REQUIRE(s.size() == s0.size());
      for (std::size_t n = 0; n < s.size(); ++n) CHECK(std::abs(s[n] - s0[n]) <= 4 * op.epsilon() * std::abs(s0[n]));
      CHECK(came.state.exponent == state.exponent);
      for (std::size_t n = 0; n < d.z0.size(); ++n) CHECK(std::abs(d.z0[n] - to.z[n]) <= 64 * op.epsilon());
      for (std::size_t n = 0; n < d.s0.size(); ++n) CHECK(std::abs(d.s0[n] - to.s[n]) <= 8 * op.epsilon());
    }
  }
}

namespace {

// The recurrence at one size of d and e against the oracle.
double error_at(const operation& op, generator& random, std::int64_t keys, std::int64_t values) {
  std::vector<std::int64_t> grid = {3, 1, 1, 1};
  grid.resize(static_cast<std::size_t>(op.dims));
  question x = random_question(
      op, random,
      {.with_state = random.coin(), .keys = keys, .values = values, .batch = 1, .heads = 1, .grid = grid, .prefix = 0});
  x.chunk = random.one_of<std::int64_t>({2, 32});
  INFO(describe(op, x));
  const auto expected = oracle::naive_recurrence(x.p);
  const answer came = op.forward(x);
  CHECK_FALSE(came.outside);
  const double error = op.output_error(came.o, expected.o_long, expected.unit);
  CHECK(error <= op.tolerance());
  if (op.stateful) CHECK(op.state_error(mean_state(came.state, x.p), expected.s, expected.s_unit) <= op.tolerance());
  const gradients d = op.backward(x, random_incoming(op, x, random));
  CHECK_FALSE(d.outside);
  for (const numbers* part : {&d.q, &d.k, &d.v, &d.logits, &d.z0, &d.s0})
    CHECK(std::all_of(part->begin(), part->end(), [](double g) { return std::isfinite(g); }));
  return error;
}

}  // namespace

TEST_CASE("scan: every head size from 1 to 256, keys and values apart") {
  generator random(44);
  double worst = 0;
  std::int64_t place = 0;
  const auto& all = operations();
  for (std::int64_t keys = 1; keys <= 256; ++keys) {
    const std::int64_t values = 1 + keys * 101 % 256;  // every one of 1 to 256, in another order
    for (int one = 0; one < 2; ++one) {                // all cases in turn
      const operation& op = all[static_cast<std::size_t>(place++) % all.size()];
      worst = std::max(worst, error_at(op, random, keys, values));
    }
  }
  MESSAGE("worst error in units ", worst);
}

TEST_CASE("full: every case at every head size from 1 to 256" * doctest::skip()) {
  for (const operation& op : operations()) {
    generator random(45, op);
    for (std::int64_t keys = 1; keys <= 256; ++keys) error_at(op, random, keys, 1 + keys * 149 % 256);
  }
}

TEST_CASE("full: any pair of head sizes" * doctest::skip()) {
  for (const operation& op : operations()) {
    generator random(46, op);
    if (op.dims != 1 || op.is_double()) continue;
    for (int n = 0; n < 300; ++n) error_at(op, random, 1 + random.integer(256), 1 + random.integer(256));
  }
}
