// SPDX-License-Identifier: Apache-2.0
// The values that scan promises for keys of -inf, for bad values, for later tokens and for any logits whatever.
#include <doctest/doctest.h>

#include <cfenv>

#include "../oracle/recurrence.hpp"
#include "cases.hpp"

using namespace cases;

namespace {

using oracle::traversal;

std::size_t key_at(const problem& p, std::int64_t b, std::int64_t t, std::int64_t h, std::int64_t i) {
  return problem::at(b, p.tokens, t, p.heads, h, p.keys, i);
}
std::size_t value_at(const problem& p, std::int64_t b, std::int64_t t, std::int64_t h, std::int64_t j) {
  return problem::at(b, p.tokens, t, p.heads, h, p.values, j);
}

// Whole, and token by token where the case has steps.
template <class Body>
void in_every_way(const operation& op, const Body& body) {
  body(op.forward);
  if (op.steps) body(op.steps);
}

// The largest |a - b| / (epsilon unit), unit of the oracle.
double units(const operation& op, const question& x, const numbers& a, const numbers& b) {
  const auto expected = oracle::naive_recurrence(x.p);
  return oracle::error_in_units(a, b, expected.unit, op.epsilon());
}

}  // namespace

TEST_CASE("scan: a key of -inf gives nothing and its query still reads") {
  generator random(3);
  for (const operation& op : operations()) {
    if (!op.additive()) continue;
    INFO(op.name);
    question x = random_question(op, random, {.with_state = true, .batch = 2, .heads = 2});
    x.p.mask.assign(static_cast<std::size_t>(x.p.batch * x.p.tokens), 1);
    question deleted = x;
    const std::int64_t t = x.p.tokens / 2;
    for (std::int64_t h = 0; h < x.p.heads; ++h) {
      for (std::int64_t i = 0; i < x.p.keys; ++i) x.p.k[key_at(x.p, 1, t, h, i)] = -inf;
    }
    deleted.p.mask[problem::at(1, x.p.tokens, t)] = 0;
    in_every_way(op, [&](auto ask) {
      const answer without = ask(x);
      answer expected = ask(deleted);
      for (std::int64_t h = 0; h < x.p.heads; ++h) {
        for (std::int64_t j = 0; j < x.p.values; ++j) {
          const std::size_t place = value_at(x.p, 1, t, h, j);
          CHECK(expected.o[place] == 0);
          expected.o[place] = without.o[place];
        }
      }
      CHECK(same(without.o, expected.o));
      CHECK(same(without.state.sum, expected.state.sum));
      CHECK(units(op, x, without.o, oracle::naive_recurrence(x.p).o) <= 64);
    });
  }
}

TEST_CASE("scan: empty channels give 0, and so do their gradients") {
  generator random(4);
  for (const operation& op : operations()) {
    if (!op.additive() || op.sink) continue;
    INFO(op.name);
    question x = random_question(op, random, {.with_state = true});
    std::fill(x.p.k.begin(), x.p.k.end(), -inf);
    std::fill(x.p.z0.begin(), x.p.z0.end(), -inf);
    const auto all_zero = [](const numbers& values) {
      return std::all_of(values.begin(), values.end(), [](double value) { return value == 0; });
    };
    in_every_way(op, [&](auto ask) {
      const answer came = ask(x);
      CHECK(all_zero(came.o));
      CHECK(all_zero(came.state.sum));
      CHECK(all_zero(came.state.normaliser));
      CHECK(std::all_of(came.state.exponent.begin(), came.state.exponent.end(),
                        [](std::int32_t m) { return m == ln::empty_exponent; }));
    });
    incoming to{random.many(static_cast<std::int64_t>(x.p.v.size()), 1), {}, {}};
    if (x.with_state) {
      to.s = random.many(static_cast<std::int64_t>(x.p.s0.size()), 1);
      to.z = random.many(static_cast<std::int64_t>(x.p.z0.size()), 1);
    }
    const gradients d = op.backward(x, to);
    for (const numbers* gradient : {&d.q, &d.k, &d.v, &d.z0, &d.s0, &d.theta}) CHECK(all_zero(*gradient));
  }
}

TEST_CASE("scan: bad values poison what they reach, and nothing else changes a bit") {
  generator random(5);
  for (const operation& op : operations()) {
    if (!op.additive()) continue;
    for (const double bad : {not_a_number, inf, -inf}) {
      for (int round = 0; round < 3; ++round) {
        const question plain =
            random_question(op, random, {.masked = round == 2, .with_state = round == 1, .logits = 30});
        const problem& p = plain.p;
        INFO(describe(op, plain), ", bad ", bad);
        const std::int64_t b = random.integer(p.batch), h = random.integer(p.heads), t = random.integer(p.tokens);
        const std::int64_t i = random.integer(p.keys), j = random.integer(p.values);
        const bool deleted = !p.on(b, t);
        const auto reached = [&](std::int64_t other) {
          return !deleted && (op.order != traversal::causal || other >= t);
        };
        in_every_way(op, [&](auto ask) {
          // What a bad entry gives, what a harmless one in its place gives, and where they may differ.
          const auto compare = [&](const question& with, const question& harmless, auto poisoned) {
            const answer came = ask(with), expected = ask(harmless);
            CHECK_FALSE(came.outside);
            bool as_said = true;
            for (std::size_t n = 0; n < came.o.size(); ++n) {
              const auto place = static_cast<std::int64_t>(n);
              const std::int64_t column = place % p.values, head = place / p.values % p.heads;
              const std::int64_t token = place / p.values / p.heads % p.tokens,
                                 sequence = place / p.values / p.heads / p.tokens;
              const bool hit = sequence == b && head == h && p.on(b, token) && poisoned(token, column);
              as_said = as_said && (hit ? !std::isfinite(came.o[n]) : same({came.o[n]}, {expected.o[n]}));
            }
            CHECK(as_said);
          };
          question with = plain, harmless = plain;
          if (bad != -inf) {
            with.p.k[key_at(p, b, t, h, i)] = bad;
            harmless.p.k[key_at(p, b, t, h, i)] = -inf;
            compare(with, harmless, [&](std::int64_t token, std::int64_t) { return reached(token); });
            harmless = plain;
          }
          with = plain;
          with.p.v[value_at(p, b, t, h, j)] = bad;
          harmless.p.v[value_at(p, b, t, h, j)] = 0;
          compare(with, harmless,
                  [&](std::int64_t token, std::int64_t column) { return column == j && reached(token); });
          if (std::isnan(bad)) {
            with = harmless = plain;
            with.p.q[key_at(p, b, t, h, i)] = bad;
            harmless.p.q[key_at(p, b, t, h, i)] = 0;
            compare(with, harmless, [&](std::int64_t token, std::int64_t) { return token == t; });
          }
        });
      }
    }
  }
}

TEST_CASE("scan: a bad value stays in the state that is passed on") {
  generator random(6);
  for (const operation& op : operations()) {
    if (!op.steps || !op.additive()) continue;
    question x = random_question(op, random, {.keys = 5, .values = 4, .batch = 1, .heads = 2});
    const problem& p = x.p;
    INFO(describe(op, x));
    question jumps = x;  // a jump that leaves nothing of the state
    for (double& k : jumps.p.k) k += 9000;
    for (const bool in_key : {true, false}) {
      question bad = x;
      if (in_key) bad.p.k[key_at(p, 0, p.tokens - 1, 1, 2)] = not_a_number;
      if (!in_key) bad.p.v[value_at(p, 0, p.tokens - 1, 1, 2)] = inf;
      in_every_way(op, [&](auto ask) {
        question next = jumps;
        next.with_state = true;
        next.raw = ask(bad).state;
        const answer came = ask(next);
        bool as_said = true;
        for (std::size_t n = 0; n < came.o.size(); ++n) {
          const std::int64_t column = static_cast<std::int64_t>(n) % p.values,
                             head = static_cast<std::int64_t>(n) / p.values % 2;
          as_said = as_said && std::isfinite(came.o[n]) == !(head == 1 && (in_key || column == 2));
        }
        CHECK(as_said);
      });
    }
  }
}

TEST_CASE("scan: a later token changes no bit of an earlier causal output") {
  generator random(7);
  for (const operation& op : operations()) {
    if (op.order != traversal::causal) continue;
    for (int round = 0; round < 24; ++round) {
      question x = random_question(
          op, random,
          {.with_state = round % 2 == 1, .extreme = round % 4 == 2, .logits = round % 4 == 1 ? 200.0 : 3.0});
      x.chunk = round % 3 == 0 ? 64 : x.chunk;
      const problem& p = x.p;
      INFO(describe(op, x));
      const std::int64_t t = random.integer(p.tokens);
      question changed = x;
      for (std::int64_t b = 0; b < p.batch; ++b) {
        for (std::int64_t later = t; later < p.tokens; ++later) {
          if (random.coin()) continue;
          for (std::int64_t h = 0; h < p.heads; ++h) {
            for (std::int64_t i = 0; i < p.keys; ++i) {
              changed.p.k[key_at(p, b, later, h, i)] = op.additive() ? random.one_of(extreme_logits()) : 1e3;
              changed.p.q[key_at(p, b, later, h, i)] = random.one_of<double>({0, 1e-6, 1e6});
            }
            for (std::int64_t j = 0; j < p.values; ++j) {
              changed.p.v[value_at(p, b, later, h, j)] = random.one_of<double>({0, 1e30, -1e30, 1e-30});
            }
          }
        }
      }
      const answer before = op.forward(x), after = op.forward(changed);
      bool kept = true;
      for (std::size_t n = 0; n < before.o.size(); ++n) {
        const std::int64_t token = static_cast<std::int64_t>(n) / p.values / p.heads % p.tokens;
        kept = kept && (token >= t || same({before.o[n]}, {after.o[n]}));
      }
      CHECK(kept);
    }
  }
}

TEST_CASE("scan: keys shifted by a constant change z alone") {
  generator random(8);
  for (const operation& op : operations()) {
    if (!op.additive() || op.sink) continue;
    question x = random_question(op, random, {.logits = 30});
    INFO(describe(op, x));
    for (double& k : x.p.k) k = std::rint(k * 64) / 64;
    question shifted = x;
    for (double& k : shifted.p.k) k += 1024;
    in_every_way(op, [&](auto ask) {
      const answer before = ask(x), after = ask(shifted);
      CHECK(units(op, x, after.o, before.o) <= 2 * 32);
      const numbers z = log_normaliser(before.state), moved = log_normaliser(after.state);
      for (std::size_t n = 0; n < z.size(); ++n) {
        CHECK(moved[n] - z[n] == doctest::Approx(1024).epsilon(op.is_double ? 1e-13 : 1e-8));
      }
    });
  }
}

TEST_CASE("scan: values of 1 are read as 1, whatever the logits") {
  generator random(9);
  double worst[2] = {0, 0};
  for (const operation& op : operations()) {
    if (!op.additive() || op.sink || op.position != oracle::encoding::none || op.order == traversal::bidirectional)
      continue;
    for (const std::int64_t tokens : {1, 130, 1000, 4096}) {
      question x =
          random_question(op, random, {.keys = 11, .values = 2, .batch = 1, .heads = 1, .grid = {tokens}, .prefix = 0});
      problem& p = x.p;
      for (std::int64_t t = 0; t < tokens; ++t) {
        const auto at = [&](std::int64_t i) -> double& { return p.k[key_at(p, 0, t, 0, i)]; };
        const double part = static_cast<double>(t) / static_cast<double>(tokens);
        at(0) = random.uniform(-3, 3);
        at(1) = random.uniform(-1e4, 1e4);
        at(2) = random.one_of(extreme_logits());
        at(3) = 2e4 * part - 1e4;
        at(4) = 1e4 - 2e4 * part;
        at(5) = t % 97 == 5 ? 1e4 : -1e4;
        at(6) = 0;
        at(7) = random.uniform(-100, 100);
        at(8) = random.coin() ? -inf : random.uniform(-40, 40);
        at(9) = 1e4 * part * part + random.uniform(-60, 60);
        at(10) = random.uniform(-88, 88) * part;
        for (std::int64_t i = 0; i < p.keys; ++i) at(i) = op.rounded(t == 0 && at(i) == -inf ? -1e4 : at(i));
        std::fill_n(p.q.begin() + t * p.keys, p.keys, 0.0);
        p.q[key_at(p, 0, t, 0, random.integer(p.keys))] = 1;
      }
      std::fill(p.v.begin(), p.v.end(), 1.0);
      INFO(describe(op, x));
      const auto check = [&](const numbers& o) {
        double largest = 0;
        for (const double one : o) largest = std::max(largest, std::abs(one - 1) / (2 * op.epsilon()));
        CHECK(largest <= 8);
        worst[op.is_double] = std::max(worst[op.is_double], largest);
      };
      check(op.forward(x).o);
      if (!op.steps) continue;
      check(op.steps(x).o);
      raw_state passed{};
      for (std::int64_t first = 0, count; first < tokens; first += count) {
        count = std::min<std::int64_t>(tokens - first, 1 + random.integer(200));
        question piece = x;
        piece.p.tokens = count;
        piece.where.extents = {count};
        for (numbers problem::*field : {&problem::q, &problem::k, &problem::v}) {
          const std::int64_t width = field == &problem::v ? p.values : p.keys;
          const auto from = (p.*field).begin() + first * width;
          (piece.p.*field).assign(from, from + count * width);
        }
        piece.with_state = first > 0;
        piece.raw = passed;
        const answer came = op.forward(piece);
        check(came.o);
        passed = came.state;
      }
    }
  }
  MESSAGE("worst |o - 1|: ", worst[0], " ulp in float, ", worst[1], " ulp in double");
}

TEST_CASE("scan: extreme logits in every order of three") {
  const numbers& logits = extreme_logits();
  const auto count = static_cast<std::int64_t>(logits.size());
  generator random(10);
  double worst[2] = {0, 0};
  for (const operation& op : operations()) {
    if (!op.additive() || op.dims != 1) continue;
    for (const std::int64_t chunk : {1, 2, 64}) {
      question x = random_question(
          op, random, {.keys = 24, .values = 3, .batch = 3, .heads = count * count / 6, .grid = {3}, .prefix = 0});
      problem& p = x.p;
      x.chunk = chunk;
      for (std::int64_t order = 0; order < count * count * count; ++order) {
        const std::int64_t b = order % p.batch, h = order / p.batch % p.heads, i = order / p.batch / p.heads;
        p.k[key_at(p, b, 0, h, i)] = logits[static_cast<std::size_t>(order % count)];
        p.k[key_at(p, b, 1, h, i)] = logits[static_cast<std::size_t>(order / count % count)];
        p.k[key_at(p, b, 2, h, i)] = logits[static_cast<std::size_t>(order / count / count)];
      }
      INFO(describe(op, x));
      auto expected = oracle::naive_recurrence(p);
      for (double& unit : expected.unit) unit += op.smallest() / op.epsilon();
      in_every_way(op, [&](auto ask) {
        std::feclearexcept(FE_ALL_EXCEPT);
        const answer came = ask(x);
        CHECK_FALSE(std::fetestexcept(FE_OVERFLOW | FE_INVALID | FE_DIVBYZERO));
        const double error = oracle::error_in_units(came.o, expected.o_long, expected.unit, op.epsilon());
        CHECK(error <= 32);
        worst[op.is_double] = std::max(worst[op.is_double], error);
      });
      const incoming to{random.many(static_cast<std::int64_t>(p.v.size()), 1), {}, {}};
      std::feclearexcept(FE_ALL_EXCEPT);
      const gradients d = op.backward(x, to);
      CHECK_FALSE(std::fetestexcept(FE_OVERFLOW | FE_INVALID | FE_DIVBYZERO));
      for (const numbers* gradient : {&d.q, &d.k, &d.v, &d.theta}) {
        CHECK(std::all_of(gradient->begin(), gradient->end(), [](double g) { return std::isfinite(g); }));
      }
    }
  }
  MESSAGE("worst errors in units: ", worst[0], " in float, ", worst[1], " in double");
}
