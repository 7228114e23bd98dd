// SPDX-License-Identifier: Apache-2.0
// The oracles against each other, and against laws and numbers that were found by other means.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "../oracle/gradient.hpp"
#include "../oracle/model.hpp"
#include "../oracle/position.hpp"
#include "../oracle/problem.hpp"
#include "../oracle/quadratic.hpp"
#include "../oracle/recurrence.hpp"
#include "../oracle/tolerance.hpp"

namespace {

using oracle::encoding;
using oracle::problem;
using oracle::recurrence;
using oracle::traversal;

constexpr double inf = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

struct generator {
  std::mt19937_64 engine;
  explicit generator(std::uint64_t seed) : engine(seed) {}

  double uniform(double low, double high) {
    return low + (high - low) * (static_cast<double>(engine() >> 11) * 0x1p-53);
  }
  std::int64_t integer(std::int64_t count) {
    return static_cast<std::int64_t>(engine() % static_cast<std::uint64_t>(count));
  }
  std::vector<double> numbers(std::int64_t count, double range) {
    std::vector<double> x;
    for (std::int64_t n = 0; n < count; ++n) x.push_back(uniform(-range, range));
    return x;
  }
  std::vector<double> choices(std::int64_t count, const std::vector<double>& from) {
    std::vector<double> x;
    for (std::int64_t n = 0; n < count; ++n)
      x.push_back(from[static_cast<std::size_t>(integer(static_cast<std::int64_t>(from.size())))]);
    return x;
  }
};

const std::vector<double> extreme_logits = {0, 1, -1, 30, -30, 88, -88, 200, -200, 1e4, -1e4, -inf};

// A recurrence with what it may be told besides.
struct variant {
  recurrence kind;
  bool per_head = false, with_sign = false;
};
const std::vector<variant> variants = {{recurrence::additive},
                                       {recurrence::additive_gated},
                                       {recurrence::additive_gated, true},
                                       {recurrence::additive_plain},
                                       {recurrence::additive_plain, true},
                                       {recurrence::no_decay},
                                       {recurrence::constant_decay},
                                       {recurrence::constant_decay, false, true},
                                       {recurrence::scalar_decay},
                                       {recurrence::scalar_decay, false, true},
                                       {recurrence::vector_decay},
                                       {recurrence::vector_decay, false, true},
                                       {recurrence::hgrn2},
                                       {recurrence::hgrn2, false, true}};

// Nothing here is a multiple of anything else, unless a test asks for a shape of its own.
struct shape {
  oracle::grid where = {{3, 5}, 2, {7, 0}};
  std::int64_t batch = 2, heads = 3, keys = 7, values = 4;
};

shape random_shape(generator& random) {
  const std::vector<std::int64_t> grids[] = {{1}, {2}, {19}, {71}, {3, 5}, {13, 2}, {1, 7}, {2, 3, 5}, {5, 1, 3}};
  shape some;
  some.where = {grids[random.integer(9)], random.integer(4), {}};
  for (std::int64_t axis = 0; axis < some.where.axes(); ++axis) some.where.offsets.push_back(random.integer(100));
  some.batch = 1 + random.integer(3);
  some.heads = 1 + random.integer(3);
  some.keys = some.where.axes() == 1 ? 2 + random.integer(5) : 5 + some.where.axes() * random.integer(4);
  if (some.where.axes() == 3) some.keys += 1;  // 6, 9, 12, 15: enough for every encoding
  some.values = 1 + random.integer(6);
  return some;
}

// What is asked for beside the recurrence.
struct demand {
  traversal order = traversal::causal;
  encoding position = encoding::none;
  bool masked = false, with_state = false, extreme = false, packed = false;
};

problem random_problem(generator& random, const variant& of, const demand& want, const shape& size = {}) {
  problem p;
  p.kind = of.kind;
  p.per_head = of.per_head;
  p.with_sign = of.with_sign;
  p.order = want.order;
  p.position = want.position;
  p.batch = size.batch;
  p.tokens = size.where.tokens();
  p.heads = size.heads;
  p.keys = size.keys;
  p.values = size.values;
  p.extents = size.where.extents;
  const std::int64_t rows = p.batch * p.tokens * p.heads;
  const auto logits = [&](std::int64_t count) {
    return want.extreme ? random.choices(count, extreme_logits) : random.numbers(count, 3);
  };
  p.q = random.numbers(rows * p.keys, 2);
  if (p.kind == recurrence::additive)
    p.k = logits(rows * p.keys);
  else if (p.kind != recurrence::hgrn2)
    p.k = random.numbers(rows * p.keys, 2);
  p.v = random.numbers(rows * p.values, 2);
  if (p.has_logits()) p.logits = logits(rows * p.weights());
  if (p.decays()) {
    const std::int64_t count = p.kind == recurrence::constant_decay ? p.heads : rows * p.weights();
    for (std::int64_t n = 0; n < count; ++n) {
      const double mild = random.uniform(-1.7, 0), strong = random.choices(1, {0, -0.01, -90, -1e4, -inf})[0];
      const double log_decay = random.integer(want.extreme ? 2 : 7) == 0 ? strong : mild;
      p.log_decay.push_back(!p.with_sign             ? log_decay
                            : random.integer(2) == 1 ? std::exp(log_decay)
                                                     : -std::exp(log_decay));
    }
    if (p.kind == recurrence::constant_decay) p.log_decay[0] = p.with_sign ? -0.98 : -0.02;  // not all may forget
  }
  if (want.masked) p.mask = random.choices(p.batch * p.tokens, {0, 1, 1});
  p.angles = oracle::lrpe_angles(size.where, p.position, p.heads, p.keys);
  if (want.packed) {  // with an empty sequence, and the positions going on: the oracles take them as they are
    const std::int64_t first = random.integer(p.tokens + 1), second = first + random.integer(p.tokens - first + 1);
    p.cumulative_lengths = {0, first, first, second, p.tokens};
  }
  if (want.with_state) {
    p.s0 = random.numbers(p.sequences() * p.heads * p.features() * p.values, 2);
    if (p.additive()) p.z0 = logits(p.sequences() * p.heads * p.weights());
  }
  return p;
}

// Every combination that has a meaning.
template <class Body>
void for_all_problems(std::uint64_t seed, Body body, bool random_shapes = false) {
  generator random(seed);
  for (const variant& of : variants)
    for (const auto order : {traversal::causal, traversal::global, traversal::bidirectional, traversal::axial})
      for (const auto position :
           {encoding::none, encoding::cosine, encoding::rotate_halves, encoding::rotate_neighbours})
        for (const bool masked : {false, true})
          for (const bool with_state : {false, true})
            for (const bool extreme : {false, true})
              for (const bool packed : {false, true}) {
                problem like;
                like.kind = of.kind;
                like.per_head = of.per_head;
                like.position = position;
                like.keys = 7;
                const bool own_weights = like.rotates() && like.weights() > 1;
                const bool two_ways = order == traversal::bidirectional || order == traversal::axial;
                if (extreme && !like.additive() && !like.decays()) continue;
                if (order == traversal::global && !like.commutes()) continue;
                if (two_ways && with_state) continue;
                if (own_weights && (order != traversal::global || with_state)) continue;
                shape size = random_shapes ? random_shape(random) : shape{};
                if (order == traversal::axial) size.where.prefix = 0;
                if (packed) {
                  size.batch = 1;
                  if (order == traversal::axial) size.where = {{17}};
                }
                body(random_problem(random, of, {order, position, masked, with_state, extreme, packed}, size));
              }
}

// A plain additive problem of one batch and head, causal.
problem small_problem(generator& random, std::int64_t tokens, std::int64_t keys, std::int64_t values) {
  problem p;
  p.tokens = tokens;
  p.keys = keys;
  p.values = values;
  p.q = random.numbers(tokens * keys, 2);
  p.k = random.numbers(tokens * keys, 3);
  p.v = random.numbers(tokens * values, 2);
  return p;
}

// In units of rounding; what is below the normal range has no digits.
double units(const std::vector<double>& got, const std::vector<double>& expected, std::vector<double> unit) {
  for (double& size : unit) size += 0x1p-1022 / oracle::double_epsilon;
  return oracle::error_in_units(got, expected, unit, oracle::double_epsilon);
}
double units(const std::vector<double>& got, const oracle::recurrence_answer& expected) {
  return units(got, expected.o, expected.unit);
}

double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  REQUIRE(a.size() == b.size());
  double worst = 0;
  for (std::size_t n = 0; n < a.size(); ++n) {
    if (a[n] == b[n]) continue;  // infinities too
    const double difference = std::abs(a[n] - b[n]);
    worst = std::isfinite(difference) ? std::max(worst, difference) : inf;
  }
  return worst;
}

}  // namespace

TEST_CASE("oracle: the recurrence and the quadratic form agree") {
  std::size_t problems = 0;
  double worst_o = 0;
  double worst_s = 0;
  const auto check = [&](const problem& p) {
    INFO("kind ", static_cast<int>(p.kind), " per head ", p.per_head, " signed ", p.with_sign, " order ",
         static_cast<int>(p.order), " position ", static_cast<int>(p.position), " masked ", !p.mask.empty(), " state ",
         !p.s0.empty(), " packed ", !p.cumulative_lengths.empty(), " tokens ", p.tokens, " keys ", p.keys);
    const auto one = oracle::naive_recurrence(p);
    const auto two = oracle::quadratic_form(p);
    const double error_o = units(two.o, one);
    const double error_s = units(two.s, one.s, one.s_unit);
    CHECK(one.o.size() == p.v.size());
    CHECK(error_o < 32);
    CHECK(error_s < 32);
    REQUIRE(one.z.size() == two.z.size());
    for (std::size_t n = 0; n < one.z.size(); ++n) {
      if (one.z[n] != two.z[n]) CHECK(std::abs(one.z[n] - two.z[n]) <= 0x1p-51 * (2 + std::abs(one.z[n])));
    }
    bool bounded = true;
    for (std::size_t n = 0; n < one.o.size(); ++n)
      bounded = bounded && std::abs(one.o[n]) <= one.unit[n] * (1 + 0x1p-50);
    CHECK(bounded);
    worst_o = std::max(worst_o, error_o);
    worst_s = std::max(worst_s, error_s);
    ++problems;
  };
  for_all_problems(1, check);
  for_all_problems(3, check, true);
  MESSAGE(problems, " problems, worst error ", worst_o, " units of an output, ", worst_s, " of a state");
}

TEST_CASE("oracle: a masked token is deleted, whatever its values") {
  for_all_problems(5, [&](problem p) {
    if (p.mask.empty()) return;
    std::fill(p.mask.begin(), p.mask.end(), 1.0);  // the same tokens in every sequence, so that they can be cut out
    const std::vector<std::int64_t> deleted = {0, 4, 5, 16};
    for (std::int64_t b = 0; b < p.batch; ++b)
      for (const std::int64_t t : deleted) p.mask[problem::at(b, p.tokens, std::min(t, p.tokens - 1))] = 0;
    // Without them, and with values that say nothing.
    const problem before = p;
    problem shorter = p;
    shorter.mask.clear();
    shorter.tokens = 0;
    for (std::int64_t t = 0; t < p.tokens; ++t) shorter.tokens += p.on(0, t) ? 1 : 0;
    const auto cut = [&](auto& x, auto& hidden, std::int64_t groups) {
      x.clear();
      const std::int64_t width = static_cast<std::int64_t>(hidden.size()) / (groups * p.tokens);
      for (std::int64_t token = 0; token < groups * p.tokens; ++token)
        for (std::int64_t n = 0; n < width; ++n) {
          auto& number = hidden[problem::at(token, width, n)];
          if (p.on(token / p.tokens, token % p.tokens))
            x.push_back(number);
          else if (groups == p.batch)
            number = not_a_number;
        }
    };
    std::vector<long double> angles = p.angles;
    cut(shorter.angles, angles, 1);
    cut(shorter.q, p.q, p.batch);
    cut(shorter.k, p.k, p.batch);
    cut(shorter.v, p.v, p.batch);
    cut(shorter.logits, p.logits, p.batch);
    if (p.kind != recurrence::constant_decay) cut(shorter.log_decay, p.log_decay, p.batch);
    for (std::int64_t& length : shorter.cumulative_lengths) {
      std::int64_t kept = 0;
      for (std::int64_t t = 0; t < length; ++t) kept += p.on(0, t) ? 1 : 0;
      length = kept;
    }
    const auto whole = oracle::naive_recurrence(p);
    CHECK(whole.o == oracle::naive_recurrence(before).o);
    CHECK(units(oracle::quadratic_form(p).o, whole) < 32);
    std::vector<double> kept;
    bool zero = true;
    for (std::size_t n = 0; n < whole.o.size(); ++n) {
      const auto token = static_cast<std::int64_t>(n) / (p.heads * p.values);
      if (p.on(token / p.tokens, token % p.tokens))
        kept.push_back(whole.o[n]);
      else
        zero = zero && whole.o[n] == 0;
    }
    CHECK(zero);
    if (p.order == traversal::axial) return;  // what is left is no grid
    const auto expected = oracle::naive_recurrence(shorter);
    CHECK(kept == expected.o);
    CHECK(whole.s == expected.s);
    CHECK(whole.z == expected.z);
  });
}

TEST_CASE("oracle: a packed sequence gives what it gives alone") {
  for_all_problems(6, [&](const problem& p) {
    if (p.cumulative_lengths.empty()) return;
    const auto whole = oracle::naive_recurrence(p);
    std::vector<double> o, s, z;
    for (std::int64_t n = 0; n < p.sequences(); ++n) {
      const oracle::span in = p.sequence(n);
      problem one = p;
      one.cumulative_lengths.clear();
      one.tokens = in.last - in.first;
      one.extents = {one.tokens};
      const auto pick = [&](auto& x, std::int64_t first, std::int64_t last, std::int64_t all) {
        const auto width = static_cast<std::int64_t>(x.size()) / all;
        const auto from = x;
        x.assign(from.begin() + first * width, from.begin() + last * width);
      };
      for (auto* x : {&one.q, &one.k, &one.v, &one.mask, &one.logits}) pick(*x, in.first, in.last, p.tokens);
      if (p.kind != recurrence::constant_decay) pick(one.log_decay, in.first, in.last, p.tokens);
      pick(one.angles, in.first, in.last, p.tokens);
      for (auto* x : {&one.z0, &one.s0}) pick(*x, n, n + 1, p.sequences());
      if (one.tokens > 0) {
        const auto came = oracle::naive_recurrence(one);
        o.insert(o.end(), came.o.begin(), came.o.end());
        s.insert(s.end(), came.s.begin(), came.s.end());
        z.insert(z.end(), came.z.begin(), came.z.end());
        continue;
      }
      // Nothing: the state passes through, but what lies in an empty channel.
      const std::int64_t width = p.features() * p.values, heads = p.heads;
      if (p.order == traversal::bidirectional || p.order == traversal::axial) continue;
      for (std::int64_t i = 0; i < heads * width; ++i) {
        const std::int64_t weight = p.weights() == 1 ? 0 : i % width / p.values % p.keys;
        const bool empty =
            p.additive() && (one.z0.empty() || one.z0[problem::at(i / width, p.weights(), weight)] == -inf);
        s.push_back(one.s0.empty() || empty ? 0 : one.s0[static_cast<std::size_t>(i)]);
      }
      for (std::int64_t i = 0; i < heads * p.weights() && p.additive(); ++i)
        z.push_back(one.z0.empty() ? -inf : one.z0[static_cast<std::size_t>(i)]);
    }
    CHECK(whole.o == o);
    CHECK(whole.s == s);
    CHECK(whole.z == z);
  });
}

TEST_CASE("oracle: values of one are read as one") {
  generator random(7);
  for (const auto order : {traversal::causal, traversal::global}) {
    problem p = random_problem(random, {recurrence::additive}, {order, encoding::none, false, false, true});
    for (std::int64_t b = 0; b < p.batch; ++b)
      for (std::int64_t h = 0; h < p.heads; ++h)
        for (std::int64_t i = 0; i < p.keys; ++i) p.k[problem::at(b, p.tokens, 0, p.heads, h, p.keys, i)] = -1e4;
    std::fill(p.v.begin(), p.v.end(), 1.0);
    std::fill(p.q.begin(), p.q.end(), 0.0);
    for (std::int64_t token = 0; token < p.batch * p.tokens * p.heads; ++token)
      p.q[problem::at(token, p.keys, random.integer(p.keys))] = 1;
    for (const double o : oracle::naive_recurrence(p).o) CHECK(o == 1);
    for (const double o : oracle::quadratic_form(p).o) CHECK(std::abs(o - 1) < 0x1p-49);
  }
}

TEST_CASE("oracle: empty channels give nothing") {
  generator random(8);
  problem p = small_problem(random, 7, 3, 2);
  std::fill(p.k.begin(), p.k.end(), -inf);
  for (const auto order : {traversal::causal, traversal::global}) {
    p.order = order;
    for (const bool with_state : {false, true}) {
      p.z0 = with_state ? std::vector<double>(3, -inf) : std::vector<double>{};
      p.s0 = with_state ? std::vector<double>(6, not_a_number) : std::vector<double>{};  // ignored where z0 = -inf
      const auto one = oracle::naive_recurrence(p);
      const auto two = oracle::quadratic_form(p);
      CHECK(one.o == std::vector<double>(14, 0));
      CHECK(two.o == std::vector<double>(14, 0));
      CHECK(one.s == std::vector<double>(6, 0));
      CHECK(one.z == std::vector<double>(3, -inf));
      CHECK(two.z == one.z);
    }
  }
}

TEST_CASE("oracle: numbers worked out by hand") {
  problem p;
  p.tokens = 2;
  p.q = {1, 2};
  p.k = {std::log(1.0), std::log(3.0)};
  p.v = {5, 7};
  const auto check = [&](double first, double second) {
    for (const auto& o : {oracle::naive_recurrence(p).o, oracle::quadratic_form(p).o}) {
      CHECK(o[0] == doctest::Approx(first).epsilon(1e-14));
      CHECK(o[1] == doctest::Approx(second).epsilon(1e-14));
    }
  };
  check(5, 2 * (5 + 21) / 4.0);
  p.order = traversal::global;
  check((5 + 21) / 4.0, 2 * (5 + 21) / 4.0);
  p.order = traversal::bidirectional;
  check(5 + (5 + 21) / 4.0, 2 * (5 + 21) / 4.0 + 2 * 7);
  p.order = traversal::causal;
  p.z0 = {0};  // a sink
  check(5 / 2.0, 2 * (5 + 21) / 5.0);
  p.s0 = {11};
  check((11 + 5) / 2.0, 2 * (11 + 5 + 21) / 5.0);
  p.z0.clear();
  p.kind = recurrence::no_decay;
  p.k = {2, 3};
  check(11 + 10, 2 * (11 + 10 + 21));
  p.kind = recurrence::constant_decay;
  p.log_decay = {std::log(0.5)};
  check(5.5 + 10, 2 * (15.5 / 2 + 21));
  p.s0.clear();
  p.order = traversal::bidirectional;
  check(10 + (21 / 2.0 + 10), 2 * (5 + 21) + 2 * 21);
  p.with_sign = true;
  p.log_decay = {-0.5};
  check(10 + (-21 / 2.0 + 10), 2 * (-5 + 21) + 2 * 21);
  p.order = traversal::causal;
  for (const auto kind : {recurrence::scalar_decay, recurrence::vector_decay}) {
    p.kind = kind;
    p.with_sign = false;
    p.log_decay = {std::log(0.25), std::log(0.5)};
    check(10, 2 * (5 + 21));
    p.with_sign = true;
    p.log_decay = {0.25, -0.5};
    check(10, 2 * (-5 + 21));
  }
  p.kind = recurrence::hgrn2;
  p.k.clear();
  check(0.75 * 5, 2 * (-0.5 * 0.75 * 5 + 1.5 * 7));
  p.with_sign = false;
  p.log_decay = {std::log(0.25), std::log(0.5)};
  check(0.75 * 5, 2 * (0.5 * 0.75 * 5 + 0.5 * 7));
  p.log_decay.clear();
  p.k = {2, -1};
  p.logits = {std::log(1.0), std::log(3.0)};
  for (const bool per_head : {false, true}) {
    p.per_head = per_head;
    p.kind = recurrence::additive_gated;
    check(10, 2 * (10 - 21) / 4.0);
    p.kind = recurrence::additive_plain;
    check(10, 2 * (10 / 4.0 - 7));
  }
  p.logits[0] = -inf;  // nothing was there to be kept; then Z_1 / Z_2 = 0
  check(0, 2 * -7.0);
  p.logits = {std::log(3.0), -inf};  // nothing is added to Z
  check(10, 2 * (10 - 7.0));

  problem axial;
  axial.order = traversal::axial;
  axial.kind = recurrence::no_decay;
  axial.tokens = 4;
  axial.extents = {2, 2};
  axial.q = axial.k = {1, 1, 1, 1};
  axial.v = {1, 10, 100, 1000};
  const std::vector<double> crosses = {4 + 110, 40 + 1001, 400 + 1001, 4000 + 110};
  CHECK(oracle::naive_recurrence(axial).o == crosses);
  CHECK(oracle::quadratic_form(axial).o == crosses);
  axial.order = traversal::causal;
  axial.cumulative_lengths = {0, 1, 1, 4};
  const std::vector<double> apart = {1, 10, 110, 1110};
  CHECK(oracle::naive_recurrence(axial).o == apart);
  CHECK(oracle::quadratic_form(axial).o == apart);
  CHECK(oracle::naive_recurrence(axial).s == std::vector<double>{1, 0, 1110});
}

TEST_CASE("oracle: logits shifted by a constant change nothing but z") {
  generator random(9);
  for (const auto order : {traversal::causal, traversal::global, traversal::bidirectional}) {
    problem p = small_problem(random, 11, 3, 5);
    p.order = order;
    for (double& k : p.k) k = std::round(k * 64) / 64;
    const auto before = oracle::naive_recurrence(p);
    for (double& k : p.k) k += 4096;
    const auto after = oracle::naive_recurrence(p);
    CHECK(before.o == after.o);
    for (std::size_t i = 0; i < before.z.size(); ++i) CHECK(after.z[i] - before.z[i] == doctest::Approx(4096));
  }
}

namespace {

// Tokens [first, last) of every sequence of a problem that is not packed.
problem part_of(const problem& p, std::int64_t first, std::int64_t last) {
  problem part = p;
  part.tokens = last - first;
  const auto cut = [&](auto& x, std::int64_t groups) {
    const auto from = x;
    const auto width = static_cast<std::int64_t>(x.size()) / (groups * p.tokens);
    x.clear();
    for (std::int64_t g = 0; g < groups; ++g)
      for (std::int64_t t = first; t < last; ++t)
        for (std::int64_t n = 0; n < width; ++n) x.push_back(from[problem::at(g, p.tokens, t, width, n)]);
  };
  for (auto* x : {&part.q, &part.k, &part.v, &part.mask, &part.logits}) cut(*x, p.batch);
  if (p.kind != recurrence::constant_decay) cut(part.log_decay, p.batch);
  cut(part.angles, 1);
  return part;
}

}  // namespace

TEST_CASE("oracle: the order of the tokens matters where it should, and the state can be handed over") {
  for_all_problems(10, [&](const problem& p) {
    if (p.order == traversal::bidirectional || p.order == traversal::axial || !p.cumulative_lengths.empty()) return;
    INFO("kind ", static_cast<int>(p.kind), " signed ", p.with_sign, " position ", static_cast<int>(p.position));
    const auto whole = oracle::naive_recurrence(p);

    // Reversing the tokens, with their positions, leaves the total as it is.
    problem reversed = p;
    const auto reverse = [](auto& x, std::int64_t groups, std::int64_t tokens) {
      const auto copy = x;
      const auto width = static_cast<std::int64_t>(x.size()) / (groups * tokens);
      for (std::int64_t g = 0; g < groups; ++g)
        for (std::int64_t t = 0; t < tokens; ++t)
          for (std::int64_t n = 0; n < width; ++n)
            x[problem::at(g, tokens, t, width, n)] = copy[problem::at(g, tokens, tokens - 1 - t, width, n)];
    };
    for (auto* x : {&reversed.q, &reversed.k, &reversed.v, &reversed.mask, &reversed.logits})
      if (!x->empty()) reverse(*x, p.batch, p.tokens);
    if (p.decays() && p.kind != recurrence::constant_decay) reverse(reversed.log_decay, p.batch, p.tokens);
    if (!p.angles.empty()) reverse(reversed.angles, 1, p.tokens);
    const auto other = oracle::naive_recurrence(reversed);
    const double moved = units(other.s, whole.s, whole.s_unit);
    if (p.commutes())
      CHECK(moved < 4);
    else
      CHECK(moved > 1e6);
    CHECK(largest_difference(other.z, whole.z) <= 2e-12);  // one rounding of 1e4

    // The first 6 tokens, then the other 11 from the state that they left.
    if (p.order == traversal::global) return;
    const auto start = oracle::naive_recurrence(part_of(p, 0, 6));
    problem rest = part_of(p, 6, p.tokens);
    rest.z0 = start.z;
    rest.s0 = start.s;
    const auto end = oracle::naive_recurrence(rest);
    // z is handed over in double: one rounding of a logit of 1e4 is 1e-12 of every weight.
    const double tolerance = p.additive() ? 4e4 : 32;
    CHECK(units(end.s, whole.s, whole.s_unit) < tolerance);
    std::vector<double> expected, unit;
    for (std::int64_t b = 0; b < p.batch; ++b) {
      const auto from = static_cast<std::ptrdiff_t>(problem::at(b, p.tokens, 6, p.heads * p.values, 0));
      const auto to = static_cast<std::ptrdiff_t>(problem::at(b, p.tokens, p.tokens, p.heads * p.values, 0));
      expected.insert(expected.end(), whole.o.begin() + from, whole.o.begin() + to);
      unit.insert(unit.end(), whole.unit.begin() + from, whole.unit.begin() + to);
    }
    CHECK(units(end.o, expected, unit) < tolerance);

    // The same 11 from nothing, and the two states merged by the monoid: with what each left of the first,
    //   S = keep S_1 + share S_2,  or  keep (S_1 + X_2) + share S_2  with plain input.
    rest.z0.clear();
    rest.s0.clear();
    const auto second = oracle::naive_recurrence(rest);
    std::vector<double> merged;
    for (std::size_t n = 0; n < whole.s.size(); ++n) {
      const std::int64_t row = static_cast<std::int64_t>(n) / p.values, head = row / p.features();
      const std::int64_t channel = row % p.features() % p.keys;
      const std::size_t weight = problem::at(head, p.weights(), p.weights() == 1 ? 0 : channel);
      double keep = 0, share = 1;
      if (!p.additive()) {
        keep = second.decay[weight];
      } else if (whole.z[weight] != -inf) {
        keep = std::exp(start.z[weight] - whole.z[weight]);
        share = std::exp(second.z[weight] - whole.z[weight]);
      }
      const double input = p.kind == recurrence::additive_plain ? second.input[n] : 0;
      merged.push_back(keep * (start.s[n] + input) + share * second.s[n]);
    }
    CHECK(units(merged, whole.s, whole.s_unit) < tolerance);
    for (std::size_t n = 0; n < whole.decay.size(); ++n)
      CHECK(whole.decay[n] == doctest::Approx(start.decay[n] * second.decay[n]).epsilon(1e-15));
    for (std::size_t n = 0; n < whole.input.size(); ++n)
      CHECK(std::abs(whole.input[n] - start.input[n] - second.input[n]) <= 0x1p-50 * whole.input_unit[n]);
  });
}

TEST_CASE("oracle: angles") {
  SUBCASE("cosine: a share of ceil(d / M) angles for each axis, cut to d") {
    const oracle::grid where{{3, 4}, 1, {10, 20}};
    CHECK(where.tokens() == 13);
    const auto angles = oracle::lrpe_angles(where, encoding::cosine, 2, 5);
    REQUIRE(angles.size() == 13 * 2 * 5);
    for (std::size_t n = 0; n < 10; ++n) CHECK(angles[n] == 0);  // the prefix
    const std::size_t token = 1 + 2 * 4 + 3;                     // row 2, column 3
    const long double expected[] = {12, 12 * std::pow(10000.L, -2.L / 3), 12 * std::pow(10000.L, -4.L / 3), 23,
                                    23 * std::pow(10000.L, -2.L / 3)};
    for (std::size_t h = 0; h < 2; ++h)
      for (std::size_t i = 0; i < 5; ++i)
        CHECK(std::abs(angles[(token * 2 + h) * 5 + i] - expected[i]) <= 1e-17L * expected[i]);
  }
  SUBCASE("rotate: floor(h / M) pairs for each axis, the rest stays") {
    const oracle::grid where{{3, 4}};
    const auto angles = oracle::lrpe_angles(where, encoding::rotate_halves, 1, 11);  // 5 pairs, 2 for each axis
    REQUIRE(angles.size() == 12 * 5);
    const long double expected[] = {2, 0.02L, 3, 0.03L, 0};
    for (std::size_t i = 0; i < 5; ++i) CHECK(std::abs(angles[11 * 5 + i] - expected[i]) <= 1e-18L);
  }
  SUBCASE("given theta, shared or in each head") {
    const oracle::grid where{{4}};
    const auto shared = oracle::lrpe_angles(where, encoding::cosine, 2, 2, {0.5L, 0.25L});
    CHECK(std::vector<long double>(shared.end() - 4, shared.end()) ==
          std::vector<long double>{1.5L, 0.75L, 1.5L, 0.75L});
    const auto apart = oracle::lrpe_angles(where, encoding::cosine, 2, 2, {0.5L, 0.25L, 1, 2});
    CHECK(std::vector<long double>(apart.end() - 4, apart.end()) == std::vector<long double>{1.5L, 0.75L, 3, 6});
  }
  SUBCASE("three axes, the last one fastest") {
    const oracle::grid where{{2, 3, 5}};
    const auto angles = oracle::lrpe_angles(where, encoding::cosine, 1, 3);
    for (std::int64_t t = 0; t < 30; ++t) {
      const long double expected[] = {static_cast<long double>(t / 15), static_cast<long double>(t / 5 % 3),
                                      static_cast<long double>(t % 5)};
      for (std::size_t i = 0; i < 3; ++i) CHECK(angles[static_cast<std::size_t>(t) * 3 + i] == expected[i]);
    }
  }
  SUBCASE("too few channels") {
    CHECK_THROWS(oracle::lrpe_theta(encoding::cosine, 4, 3));  // shares of 2: the third axis would get none
    CHECK_NOTHROW(oracle::lrpe_theta(encoding::cosine, 5, 3));
    CHECK_THROWS(oracle::lrpe_theta(encoding::rotate_halves, 5, 3));
    CHECK_NOTHROW(oracle::lrpe_theta(encoding::rotate_halves, 6, 3));
  }
}

TEST_CASE("oracle: what the encodings do to a vector") {
  const long double right = std::acos(0.L);
  const auto near = [](const std::vector<long double>& a, const std::vector<long double>& b) {
    REQUIRE(a.size() == b.size());
    for (std::size_t n = 0; n < a.size(); ++n) CHECK(std::abs(a[n] - b[n]) < 1e-17L);
  };
  near(oracle::lrpe_cosine({3, 4}, {0, right}), {3, 0, 0, 4});
  near(oracle::lrpe_rotate({1, 2, 3, 4, 5}, {right, 0}, false), {-3, 2, 1, 4, 5});
  near(oracle::lrpe_rotate({1, 2, 3, 4, 5}, {right, 0}, true), {-2, 1, 3, 4, 5});
}

TEST_CASE("oracle: outputs depend on differences of positions") {
  generator random(11);
  for (const auto position : {encoding::cosine, encoding::rotate_halves, encoding::rotate_neighbours}) {
    problem p = random_problem(random, {recurrence::constant_decay}, {traversal::causal, position});
    p.angles = oracle::lrpe_angles({{p.tokens}}, position, p.heads, p.keys);
    const auto here = oracle::naive_recurrence(p);
    p.angles = oracle::lrpe_angles({{p.tokens}, 0, {65519}}, position, p.heads, p.keys);
    const auto there = oracle::naive_recurrence(p);
    CHECK(oracle::error_in_units(there.o, here.o_long, here.unit, oracle::double_epsilon) < 1e3);  // 65519 * 2^-64
    CHECK(largest_difference(here.s, there.s) > 0.1);
  }
}

TEST_CASE("oracle: questions without meaning are refused") {
  generator random(12);
  const auto refused = [](const problem& p) {
    CHECK_THROWS_AS(oracle::naive_recurrence(p), std::invalid_argument);
    CHECK_THROWS_AS(oracle::quadratic_form(p), std::invalid_argument);
  };
  const auto make = [&](recurrence kind, traversal order, encoding position, bool with_state) {
    return random_problem(random, {kind}, {order, position, false, with_state});
  };
  refused(make(recurrence::constant_decay, traversal::global, encoding::none, false));
  refused(make(recurrence::additive, traversal::causal, encoding::rotate_halves, false));
  refused(make(recurrence::additive, traversal::bidirectional, encoding::rotate_neighbours, false));
  refused(make(recurrence::additive, traversal::global, encoding::rotate_halves, true));
  refused(make(recurrence::no_decay, traversal::bidirectional, encoding::none, true));
  refused(make(recurrence::no_decay, traversal::axial, encoding::none, false));  // with a prefix
  for (const auto kind : {recurrence::additive_plain, recurrence::scalar_decay, recurrence::vector_decay})
    refused(make(kind, traversal::global, encoding::none, false));
  for (const auto kind : {recurrence::additive_gated, recurrence::vector_decay, recurrence::hgrn2})
    refused(make(kind, traversal::causal, encoding::rotate_halves, false));
  problem packed = make(recurrence::no_decay, traversal::causal, encoding::none, false);
  packed.cumulative_lengths = {0, packed.tokens};
  refused(packed);  // more than one in the batch
  problem p = make(recurrence::additive, traversal::causal, encoding::none, true);
  p.z0.clear();
  refused(p);
  p.s0.clear();
  p.v.pop_back();
  refused(p);
}

TEST_CASE("oracle: MD-TPE is the sum of element-wise recurrences along each axis") {
  generator random(13);
  for (const bool both : {false, true})
    for (const bool masked : {false, true})
      for (const std::vector<std::int64_t>& extents :
           {std::vector<std::int64_t>{7}, std::vector<std::int64_t>{3, 5}, std::vector<std::int64_t>{3, 2, 5}}) {
        oracle::tpe_problem p;
        p.where = {extents, 2};
        p.batch = 2;
        p.width = 3;
        p.modes = 4;
        p.both_directions = both;
        const std::int64_t tokens = p.where.tokens();
        const std::int64_t axes = p.where.axes();
        p.x = random.numbers(p.batch * tokens * p.width, 2);
        p.gamma = random.numbers(axes * p.modes, 2);
        p.b = random.numbers(axes * p.width * p.modes, 1);
        if (masked) p.mask = random.choices(p.batch * tokens, {0, 1, 1});

        const auto on = [&](std::int64_t b, std::int64_t t) {
          return !masked || p.mask[problem::at(b, tokens, t)] != 0;
        };
        const auto x = [&](std::int64_t b, std::int64_t t, std::int64_t c) {
          return on(b, t) ? p.x[problem::at(b, tokens, t, p.width, c)] : 0;
        };
        // h_t = lambda h_{t-1} + x_t with t - 1 the neighbour along the axis, by walking the axis from its start.
        std::vector<double> expected(p.x.size(), 0);
        for (std::int64_t b = 0; b < p.batch; ++b)
          for (std::int64_t t = 0; t < tokens; ++t)
            for (std::int64_t c = 0; c < p.width; ++c) {
              if (!on(b, t)) continue;
              double y = x(b, t, c);
              for (std::int64_t a = 0; a < axes && t >= 2; ++a)
                for (std::int64_t j = 0; j < p.modes; ++j) {
                  const double lambda = std::exp(-std::exp(p.gamma[problem::at(a, p.modes, j)]));
                  const double weight = p.b[problem::at(a, p.width, c, p.modes, j)];
                  const std::int64_t stride = p.where.stride(a);
                  const std::int64_t here = p.where.coordinate(t, a);
                  const std::int64_t last = p.where.extent(a) - 1;
                  double forward = 0;
                  for (std::int64_t n = 0; n <= here; ++n)
                    forward = lambda * forward + x(b, t + (n - here) * stride, c);
                  double reverse = 0;
                  for (std::int64_t n = last; n > here; --n)
                    reverse = lambda * (reverse + x(b, t + (n - here) * stride, c));
                  y += weight * (forward + (both ? reverse : 0));
                }
              expected[problem::at(b, tokens, t, p.width, c)] = y;
            }
        const auto answer = oracle::md_tpe(p);
        CHECK(oracle::error_in_units(expected, answer.y, answer.unit, oracle::double_epsilon) < 32);
        std::fill(p.b.begin(), p.b.end(), 0.0);
        if (!masked) CHECK(oracle::md_tpe(p).y == p.x);
      }
}

TEST_CASE("oracle: finite differences") {
  generator random(14);
  // sum_i c_i e^{x_i} + (prod of all x) / 8 + sin(3 x_0), at x of size 1; entry 3 is -inf and does not matter.
  const std::vector<double> c = random.numbers(7, 1);
  std::vector<double> x = random.numbers(7, 1);
  const auto loss = [&](const std::vector<double>& at) {
    double sum = std::sin(3 * at[0]);
    double product = 1.0 / 8;
    for (std::size_t i = 0; i < at.size(); ++i) {
      sum += c[i] * std::exp(at[i]);
      if (i != 3) product *= at[i];
    }
    return sum + product;
  };
  x[3] = -inf;
  std::vector<double> gradient(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (i == 3) continue;
    double others = 1.0 / 8;
    for (std::size_t n = 0; n < x.size(); ++n)
      if (n != i && n != 3) others *= x[n];
    gradient[i] = c[i] * std::exp(x[i]) + others + (i == 0 ? 3 * std::cos(3 * x[0]) : 0);
  }

  const auto saved = oracle::gradient_record();
  oracle::gradient_record() = {};
  CHECK(oracle::check_gradient("all", loss, x, gradient) < 1e-12);
  CHECK(oracle::check_gradient("some", loss, x, gradient, {.samples = 4, .seed = 9}) < 1e-12);
  CHECK(oracle::check_gradient(
            "none", [](const std::vector<double>&) { return 1.0; }, x, std::vector<double>(7)) == 0);
  CHECK(oracle::gradient_record().tensors == 3);
  CHECK(oracle::gradient_record().entries == 7 + 4 + 7);
  CHECK(oracle::gradient_record().worst < 1e-12);

  std::vector<double> wrong = gradient;
  wrong[5] += 1e-3;
  const double largest = std::abs(
      *std::max_element(wrong.begin(), wrong.end(), [](double a, double b) { return std::abs(a) < std::abs(b); }));
  CHECK(oracle::check_gradient("wrong", loss, x, wrong) == doctest::Approx(1e-3 / largest).epsilon(1e-6));
  CHECK(oracle::gradient_record().worst_name == "wrong");
  wrong = gradient;
  wrong[3] = 0.1;
  CHECK(oracle::check_gradient("wrong at -inf", loss, x, wrong) > 0.01);
  wrong[3] = not_a_number;
  CHECK(oracle::check_gradient("not a number", loss, x, wrong) == inf);
  CHECK(oracle::gradient_report().find("not a number") != std::string::npos);
  oracle::gradient_record() = saved;
}

TEST_CASE("oracle: the gradients of logits sum to that of the final normaliser") {
  generator random(15);
  for (const auto order : {traversal::causal, traversal::global}) {
    problem p = small_problem(random, 7, 3, 5);
    p.order = order;
    p.z0 = random.numbers(3, 2);
    p.s0 = random.numbers(15, 2);
    const std::vector<double> to = random.numbers(7 * 5, 1), ts = random.numbers(3 * 5, 1), tz = random.numbers(3, 1);
    const auto loss = [&](const problem& at) {
      const auto answer = oracle::naive_recurrence(at);
      double sum = std::inner_product(to.begin(), to.end(), answer.o.begin(), 0.0);
      sum = std::inner_product(ts.begin(), ts.end(), answer.s.begin(), sum);
      return std::inner_product(tz.begin(), tz.end(), answer.z.begin(), sum);
    };
    const auto by_k = [&](const std::vector<double>& k) {
      problem changed = p;
      changed.k = k;
      return loss(changed);
    };
    const auto by_z0 = [&](const std::vector<double>& z0) {
      problem changed = p;
      changed.z0 = z0;
      return loss(changed);
    };
    for (std::size_t i = 0; i < 3; ++i) {
      double sum = oracle::numeric_derivative(by_z0, p.z0, i);
      for (std::size_t t = 0; t < 7; ++t) sum += oracle::numeric_derivative(by_k, p.k, t * 3 + i);
      CHECK(std::abs(sum - tz[i]) < 1e-10);
    }
  }
}

TEST_CASE("oracle: layers") {
  using oracle::glu, oracle::linear, oracle::rms_norm, oracle::silu;
  const auto near = [](const std::vector<double>& a, const std::vector<double>& b) {
    CHECK(largest_difference(a, b) < 1e-14);
  };
  near(silu({0, std::log(3.0), -1000}), {0, std::log(3.0) * 0.75, 0});
  near(linear({1, 2, 3, 4}, {1, 0, 0, 1, 1, 1}, 2), {1, 2, 3, 3, 4, 7});
  near(linear({1, 2}, {3, 4}, 2, {5}), {16});
  near(rms_norm({3, 4, 6, 8}, 2, {1, 2}, 0),
       {3 / std::sqrt(12.5), 8 / std::sqrt(12.5), 3 / std::sqrt(12.5), 8 / std::sqrt(12.5)});
  near(rms_norm({3, 4, 6, 8}, 2, {1, 1, 1, 2}, 0),
       {3 / std::sqrt(12.5), 4 / std::sqrt(12.5), 3 / std::sqrt(12.5), 8 / std::sqrt(12.5)});
  near(rms_norm({0, 0}, 2), {0, 0});
  near(oracle::norm_then_gate({3, 4}, {0, std::log(3.0)}, 2, {}, 0), {0, 4 / std::sqrt(12.5) * std::log(3.0) * 0.75});
  near(oracle::gate_then_norm({3, 4}, {0, 1000}, 2, {}, 0),
       {1.5 / std::sqrt((2.25 + 16) / 2), 4 / std::sqrt((2.25 + 16) / 2)});
  near(glu({std::log(3.0), 2}, {1, 0}, {0, 1}, {5, 7}, 2), {7.5 * std::log(3.0), 10.5 * std::log(3.0)});
  CHECK(oracle::cross_entropy({0, std::log(3.0), 1000, 0, 5, 5}, {0, 0, -1}) ==
        doctest::Approx(std::log(4.0) / 2).epsilon(1e-14));
}
