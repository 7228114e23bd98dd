// SPDX-License-Identifier: Apache-2.0
// The values that scan promises for logits of -inf, for bad values, for later tokens and for any logits whatever.
#include <doctest/doctest.h>

#include <map>

#include "../oracle/recurrence.hpp"
#include "cases.hpp"
#include "flags.hpp"
#include "random_question.hpp"

using namespace cases;

namespace {

using oracle::recurrence;
using oracle::traversal;

std::size_t key_at(const problem& p, std::int64_t b, std::int64_t t, std::int64_t h, std::int64_t i) {
  return problem::at(b, p.tokens, t, p.heads, h, p.keys, i);
}
std::size_t value_at(const problem& p, std::int64_t b, std::int64_t t, std::int64_t h, std::int64_t j) {
  return problem::at(b, p.tokens, t, p.heads, h, p.values, j);
}

// The logits or decays of a problem, wherever they are: n of a token's weights, which has as many as `weights`.
numbers& token_logits(problem& p) { return p.kind == recurrence::additive ? p.k : logits_of(p); }
bool has_token_logits(const problem& p) { return p.kind == recurrence::additive || logit_width(p) > 0; }
std::size_t logit_at(const problem& p, std::int64_t b, std::int64_t t, std::int64_t h, std::int64_t n) {
  return problem::at(b, p.tokens, t, p.heads, h, p.weights(), n);
}

// Whole, and token by token where the case has steps.
template <class Body>
void in_every_way(const operation& op, const question& x, const Body& body) {
  body(op.forward);
  if (op.steps && x.p.cumulative_lengths.empty()) body(op.steps);
}

bool all_zero(const numbers& values) {
  return std::all_of(values.begin(), values.end(), [](double value) { return value == 0; });
}
bool all_finite(const numbers& values) {
  return std::all_of(values.begin(), values.end(), [](double value) { return std::isfinite(value); });
}

}  // namespace

TEST_CASE("scan: a logit of -inf gives nothing and its query still reads") {
  for (const operation& op : operations()) {
    generator random(3, op);
    if (!op.additive() || op.like.kind == recurrence::additive_plain) continue;
    question x = random_question(op, random, {.with_state = true, .batch = 2, .heads = 2});
    INFO(describe(op, x));
    x.p.mask.assign(static_cast<std::size_t>(x.p.batch * x.p.tokens), 1);
    question deleted = x;
    const std::int64_t t = x.p.tokens / 2;
    for (std::int64_t h = 0; h < x.p.heads; ++h) {
      for (std::int64_t n = 0; n < x.p.weights(); ++n) token_logits(x.p)[logit_at(x.p, 1, t, h, n)] = -inf;
    }
    deleted.p.mask[problem::at(1, x.p.tokens, t)] = 0;
    const auto whole = oracle::naive_recurrence(x.p);
    in_every_way(op, x, [&](auto ask) {
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
      CHECK(op.output_error(without.o, whole.o_long, whole.unit) <= 2 * op.tolerance());
    });
  }
}

TEST_CASE("scan: empty channels give 0, and so do their gradients") {
  for (const operation& op : operations()) {
    generator random(4, op);
    if (!op.additive() || op.sink) continue;
    question x = random_question(op, random, {.with_state = true});
    INFO(describe(op, x));
    std::fill(token_logits(x.p).begin(), token_logits(x.p).end(), -inf);
    std::fill(x.p.z0.begin(), x.p.z0.end(), -inf);
    in_every_way(op, x, [&](auto ask) {
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
    for (const numbers* gradient : {&d.q, &d.k, &d.v, &d.logits, &d.z0, &d.s0, &d.theta}) CHECK(all_zero(*gradient));
  }
}

TEST_CASE("scan: bad values poison what they reach, and nothing else changes a bit") {
  for (const operation& op : operations()) {
    generator random(5, op);
    for (const double bad : {not_a_number, inf, -inf}) {
      const question plain = random_question(op, random,
                                             {.masked = random.coin(),
                                              .with_state = random.coin(),
                                              .packed = op.dims == 1 && random.coin(),
                                              .logits = 30});
      const problem& p = plain.p;
      INFO(describe(op, plain), ", bad ", bad);
      const std::int64_t b = random.integer(p.batch), h = random.integer(p.heads), t = random.integer(p.tokens);
      const std::int64_t i = random.integer(p.keys), j = random.integer(p.values), n = random.integer(p.weights());
      // Whether a token sees token t: it is of the same sequence and later, or anywhere on a line with it.
      const auto reached = [&](std::int64_t other) {
        if (!p.on(b, t)) return false;
        for (std::int64_t s = 0; s < p.sequences(); ++s) {
          const oracle::span in = p.sequence(s);
          if (in.batch == b && t >= in.first && t < in.last && (other < in.first || other >= in.last)) return false;
        }
        if (op.causal()) return other >= t;
        if (op.like.order != traversal::axial) return true;
        std::int64_t apart = 0;
        for (std::int64_t axis = 0; axis < op.dims; ++axis)
          apart += plain.where.coordinate(t, axis) == plain.where.coordinate(other, axis) ? 0 : 1;
        return apart <= 1;
      };
      in_every_way(op, plain, [&](auto ask) {
        // What a bad entry gives, what a harmless one in its place gives, and where they may differ.
        const auto compare = [&](const std::string& name, const question& with, const question& harmless,
                                 auto poisoned) {
          INFO(name);
          const answer came = ask(with), expected = ask(harmless);
          CHECK_FALSE(came.outside);
          bool as_said = true;
          for (std::size_t place = 0; place < came.o.size(); ++place) {
            const auto at = static_cast<std::int64_t>(place);
            const std::int64_t column = at % p.values, head = at / p.values % p.heads;
            const std::int64_t token = at / p.values / p.heads % p.tokens, entry = at / p.values / p.heads / p.tokens;
            const bool hit = entry == b && head == h && p.on(b, token) && poisoned(token, column);
            as_said = as_said && (hit ? !std::isfinite(came.o[place]) : same({came.o[place]}, {expected.o[place]}));
          }
          CHECK(as_said);
        };
        question with = plain, harmless = plain;
        if (has_token_logits(p) && bad != -inf) {
          const std::size_t place = logit_at(p, b, t, h, n);
          token_logits(with.p)[place] = bad;
          token_logits(harmless.p)[place] = p.with_sign ? 0 : -inf;
          const auto from_there = [&](std::int64_t token, std::int64_t) { return reached(token); };
          compare("logit", with, harmless, from_there);
          if (op.decays()) {  // what no decay can be
            token_logits(with.p)[place] = p.with_sign ? random.one_of<double>({1.5, -1.25}) : 0.5;
            compare("decay", with, harmless, from_there);
          }
        }
        with = harmless = plain;
        with.p.v[value_at(p, b, t, h, j)] = bad;
        harmless.p.v[value_at(p, b, t, h, j)] = 0;
        compare("v", with, harmless,
                [&](std::int64_t token, std::int64_t column) { return column == j && reached(token); });
        if (!std::isnan(bad)) return;
        with = harmless = plain;
        with.p.q[key_at(p, b, t, h, i)] = bad;
        harmless.p.q[key_at(p, b, t, h, i)] = 0;
        compare("q", with, harmless, [&](std::int64_t token, std::int64_t) { return token == t; });
      });
    }
  }
}

TEST_CASE("scan: a bad value stays in the state that is passed on") {
  for (const operation& op : operations()) {
    generator random(6, op);
    if (!op.steps) continue;
    for (const bool alone : {false, true}) {  // the bad token is the only one that the state has seen
      options want{.keys = 7, .values = 4, .batch = 1, .heads = 2};
      if (alone) want.grid.assign(static_cast<std::size_t>(op.dims), 1), want.prefix = 0;
      const question x = random_question(op, random, want);
      const problem& p = x.p;
      INFO(describe(op, x));
      question jumps = x;  // a jump or a reset, that leaves nothing of the state
      if (op.additive() && op.type != dtype::float16) {
        for (double& g : token_logits(jumps.p)) g = op.rounded(g + 9000);
      } else if (has_token_logits(p) && op.decays()) {
        std::fill(token_logits(jumps.p).begin(), token_logits(jumps.p).end(), p.with_sign ? 0 : -inf);
      }
      for (const bool in_logit : {true, false}) {
        if (in_logit && !has_token_logits(p)) continue;
        question bad = x;
        if (in_logit) token_logits(bad.p)[logit_at(p, 0, p.tokens - 1, 1, p.weights() / 2)] = not_a_number;
        if (!in_logit) bad.p.v[value_at(p, 0, p.tokens - 1, 1, 2)] = inf;
        in_every_way(op, x, [&](auto ask) {
          question next = jumps;
          next.with_state = true;
          next.raw = ask(bad).state;
          const answer came = ask(next);
          bool as_said = true;
          for (std::size_t place = 0; place < came.o.size(); ++place) {
            const std::int64_t column = static_cast<std::int64_t>(place) % p.values,
                               head = static_cast<std::int64_t>(place) / p.values % 2;
            as_said = as_said && std::isfinite(came.o[place]) == !(head == 1 && (in_logit || column == 2));
          }
          CHECK(as_said);
        });
      }
    }
  }
}

TEST_CASE("scan: a later token changes no bit of an earlier causal output") {
  for (const operation& op : operations()) {
    generator random(7, op);
    if (!op.causal()) continue;
    for (int round = 0; round < 12; ++round) {
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
              changed.p.q[key_at(p, b, later, h, i)] = random.one_of<double>({0, 1e-6, 1e4});
              if (!p.k.empty()) changed.p.k[key_at(p, b, later, h, i)] = 1e3;
            }
            for (std::int64_t n = 0; n < p.weights() && has_token_logits(p); ++n) {
              const double log_decay = random.one_of(extreme_log_decays());
              token_logits(changed.p)[logit_at(p, b, later, h, n)] = op.additive() ? random.one_of(extreme_logits())
                                                                     : p.with_sign ? std::exp(log_decay)
                                                                                   : log_decay;
            }
            for (std::int64_t j = 0; j < p.values; ++j)
              changed.p.v[value_at(p, b, later, h, j)] = random.one_of<double>({0, 3e4, -3e4, 1e-4});
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

TEST_CASE("scan: logits shifted by a constant change z alone") {
  for (const operation& op : operations()) {
    generator random(8, op);
    if (!op.additive() || op.sink) continue;
    question x = random_question(op, random, {.logits = 30});
    INFO(describe(op, x));
    // Exact in 8 bits, or in 24.
    const double part = op.is_half() ? 1 : 64, shift = op.is_half() ? 128 : 1024;
    for (double& g : token_logits(x.p)) g = std::rint(g * part) / part;
    question shifted = x;
    for (double& g : token_logits(shifted.p)) g += shift;
    const auto expected = oracle::naive_recurrence(x.p);
    in_every_way(op, x, [&](auto ask) {
      const answer before = ask(x), after = ask(shifted);
      CHECK(op.output_error(after.o, expected.o_long, expected.unit) <= op.step_tolerance(x.p.tokens));
      CHECK(op.output_error(before.o, expected.o_long, expected.unit) <= op.step_tolerance(x.p.tokens));
      const numbers z = log_normaliser(before.state), moved = log_normaliser(after.state);
      for (std::size_t n = 0; n < z.size(); ++n)
        CHECK(moved[n] - z[n] == doctest::Approx(shift).epsilon(op.is_double() ? 1e-13 : 1e-7));
    });
  }
}

TEST_CASE("scan: values of 1 are read as 1, whatever the logits") {
  std::map<dtype, double> worst;
  for (const operation& op : operations()) {
    generator random(9, op);
    if (!op.tied() || op.sink || op.like.position != oracle::encoding::none || op.dims != 1 ||
        !(op.causal() || !op.ordered())) {
      continue;
    }
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
        // 8 units in the last place; from tiles of bfloat16, those of bfloat16.
        CHECK(largest <= (op.uses_tiles ? 8 * oracle::bfloat16_epsilon / oracle::float_epsilon : 8));
        worst[op.type] = std::max(worst[op.type], largest);
      };
      check(op.forward(x).o);
      if (!op.steps) continue;
      check(op.steps(x).o);
      raw_state passed{};
      for (std::int64_t first = 0, count; first < tokens; first += count) {
        count = std::min<std::int64_t>(tokens - first, 1 + random.integer(200));
        question piece = part_of(x, first, first + count);
        piece.with_state = first > 0;
        piece.raw = passed;
        const answer came = op.forward(piece);
        check(came.o);
        passed = came.state;
      }
    }
  }
  MESSAGE("worst |o - 1|: ", worst[dtype::float32], " ulp in float, ", worst[dtype::float64], " ulp in double");
}

namespace {

// Three tokens, whose logits or decays are every choice of three of the extreme ones, among sequences, heads and
// channels.
question extreme_question(const operation& op, generator& random) {
  const numbers& some = op.additive() ? extreme_logits() : extreme_log_decays();
  const auto count = static_cast<std::int64_t>(some.size());
  const bool own_weights = op.tied() || (op.like.has_logits() && !op.like.per_head) ||
                           op.like.kind == recurrence::vector_decay || op.like.kind == recurrence::hgrn2;
  const std::int64_t keys = own_weights ? 24 : 8, batch = 3;
  const std::int64_t orders = op.like.kind == recurrence::constant_decay ? count : count * count * count;
  const std::int64_t heads = op.additive() || op.decays()
                                 ? (orders + batch * (own_weights ? keys : 1) - 1) / (batch * (own_weights ? keys : 1))
                                 : 2;
  std::vector<std::int64_t> grid = {3, 1, 1, 1};
  grid.resize(static_cast<std::size_t>(op.dims));
  question x = random_question(op, random,
                               {.keys = keys, .values = 3, .batch = batch, .heads = heads, .grid = grid, .prefix = 0});
  problem& p = x.p;
  const auto choice = [&](std::int64_t n) {
    const double one = some[static_cast<std::size_t>(n % count)];
    const double kept = op.rounded(p.with_sign ? std::exp(one) : one);
    return p.with_sign && random.coin() ? -kept : kept;
  };
  if (p.kind == recurrence::constant_decay) {
    x.default_log_decay = false;
    for (std::int64_t h = 0; h < p.heads; ++h) p.log_decay[static_cast<std::size_t>(h)] = choice(h);
  } else if (has_token_logits(p)) {
    for (std::int64_t n = 0; n < p.batch * p.heads * p.weights(); ++n) {
      const std::int64_t w = n % p.weights(), h = n / p.weights() % p.heads, b = n / p.weights() / p.heads;
      for (std::int64_t t = 0, rest = n; t < 3; ++t, rest /= count)
        token_logits(p)[logit_at(p, b, t, h, w)] = choice(rest);
    }
  }
  return x;
}

}  // namespace

TEST_CASE("scan: extreme logits and decays in every order of three, without a flag in any thread") {
  std::map<dtype, double> worst;
  for (const operation& op : operations()) {
    generator random(10, op);
    question x = extreme_question(op, random);
    const auto expected = oracle::naive_recurrence(x.p);
    const incoming to = random_incoming(op, x, random);
    for (const std::int64_t chunk : {1, 2, 32}) {
      x.chunk = chunk;
      for (x.threads = 1; x.threads <= 3; x.threads += 2) {
        INFO(describe(op, x));
        in_every_way(op, x, [&](auto ask) {
          clear_flags(x.threads);
          const answer came = ask(x);
          CHECK_FALSE((op.raises_flags() && flags_raised(x.threads)));
          const double error = op.output_error(came.o, expected.o_long, expected.unit);
          CHECK(error <= op.tolerance());
          worst[op.type] = std::max(worst[op.type], error);
        });
        clear_flags(x.threads);
        const gradients d = op.backward(x, to);
        CHECK_FALSE((op.raises_flags() && flags_raised(x.threads)));
        for (const numbers* gradient : {&d.q, &d.k, &d.v, &d.logits, &d.z0, &d.s0, &d.theta})
          CHECK(all_finite(*gradient));
      }
    }
  }
  MESSAGE("worst errors in units: ", worst[dtype::float32], " in float, ", worst[dtype::float64], " in double, ",
          worst[dtype::bfloat16], " in bfloat16, ", worst[dtype::float16], " in float16");
}

TEST_CASE("scan: one extreme value in every token of a long sequence") {
  for (const operation& op : operations()) {
    generator random(15, op);
    if (op.dims != 1 || !(op.additive() || op.decays())) continue;
    for (const double value : op.additive() ? extreme_logits() : extreme_log_decays()) {
      question x = random_question(op, random, {.keys = 8, .values = 3, .batch = 1, .heads = 2, .grid = {213}});
      x.default_log_decay = false;
      x.chunk = random.one_of<std::int64_t>({0, 64, 256});
      numbers& all = token_logits(x.p);
      for (double& one : all) {
        one = op.rounded(x.p.with_sign ? std::exp(value) : value);
        if (x.p.with_sign && random.coin()) one = -one;
      }
      INFO(describe(op, x), ", value ", value);
      const auto expected = oracle::naive_recurrence(x.p);
      const incoming to = random_incoming(op, x, random);
      clear_flags(1);
      const answer came = op.forward(x);
      const gradients d = op.backward(x, to);
      CHECK_FALSE((op.raises_flags() && flags_raised(1)));
      CHECK(op.output_error(came.o, expected.o_long, expected.unit) <= op.tolerance());
      for (const numbers* gradient : {&d.q, &d.k, &d.v, &d.logits, &d.theta}) CHECK(all_finite(*gradient));
    }
  }
}

TEST_CASE("scan: long random mixtures of extreme values are finite, without a flag in any thread") {
  for (const operation& op : operations()) {
    generator random(14, op);
    question x = random_question(op, random, {.masked = true, .with_state = true, .extreme = true});
    x.threads = 2;
    INFO(describe(op, x));
    const incoming to = random_incoming(op, x, random);
    clear_flags(x.threads);
    const answer came = op.forward(x);
    const gradients d = op.backward(x, to);
    CHECK_FALSE((op.raises_flags() && flags_raised(x.threads)));
    CHECK(all_finite(came.o));
    for (const numbers* gradient : {&d.q, &d.k, &d.v, &d.logits, &d.z0, &d.s0, &d.theta}) CHECK(all_finite(*gradient));
  }
}
