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

bool rotates(encoding position) {
  return position == encoding::rotate_halves || position == encoding::rotate_neighbours;
}

// Nothing here is a multiple of anything else, unless a test asks for a shape of its own.
struct shape {
  oracle::grid where = {{3, 5}, 2, {7, 0}};
  std::int64_t batch = 2, heads = 3, keys = 7, values = 4;
};

shape random_shape(generator& random) {
  const std::vector<std::int64_t> grids[] = {{1}, {2}, {19}, {211}, {3, 5}, {13, 2}, {1, 7}, {2, 3, 5}, {5, 1, 3}};
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

problem random_problem(generator& random, recurrence kind, traversal order, encoding position, bool masked,
                       bool with_state, bool extreme = false, const shape& size = {}) {
  problem p;
  p.kind = kind;
  p.order = order;
  p.position = position;
  p.batch = size.batch;
  p.tokens = size.where.tokens();
  p.heads = size.heads;
  p.keys = size.keys;
  p.values = size.values;
  p.q = random.numbers(p.batch * p.tokens * p.heads * p.keys, 2);
  p.k = extreme ? random.choices(p.batch * p.tokens * p.heads * p.keys, extreme_logits)
                : random.numbers(p.batch * p.tokens * p.heads * p.keys, 3);
  p.v = random.numbers(p.batch * p.tokens * p.heads * p.values, 2);
  if (masked) p.mask = random.choices(p.batch * p.tokens, {0, 1, 1});
  if (kind == recurrence::constant_decay) {
    p.log_decay = {-0.01, -1.7, random.integer(2) == 0 ? -inf : -90.0};
    p.log_decay.resize(static_cast<std::size_t>(p.heads));
  }
  p.angles = oracle::lrpe_angles(size.where, position, p.heads, p.keys);
  if (with_state) {
    p.s0 = random.numbers(p.batch * p.heads * p.features() * p.values, 2);
    if (kind == recurrence::additive)
      p.z0 = extreme ? random.choices(p.batch * p.heads * p.keys, extreme_logits)
                     : random.numbers(p.batch * p.heads * p.keys, 3);
  }
  return p;
}

// Every combination that has a meaning.
template <class Body>
void for_all_problems(std::uint64_t seed, Body body, bool random_shapes = false) {
  generator random(seed);
  for (const auto kind : {recurrence::additive, recurrence::no_decay, recurrence::constant_decay})
    for (const auto order : {traversal::causal, traversal::global, traversal::bidirectional})
      for (const auto position :
           {encoding::none, encoding::cosine, encoding::rotate_halves, encoding::rotate_neighbours})
        for (const bool masked : {false, true})
          for (const bool with_state : {false, true})
            for (const bool extreme : {false, true}) {
              const bool additive = kind == recurrence::additive;
              if (extreme && !additive) continue;
              if (order == traversal::global && kind == recurrence::constant_decay) continue;
              if (order == traversal::bidirectional && with_state) continue;
              if (additive && rotates(position) && (order != traversal::global || with_state)) continue;
              const shape size = random_shapes ? random_shape(random) : shape{};
              body(random_problem(random, kind, order, position, masked, with_state, extreme, size));
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

double units(const std::vector<double>& got, const oracle::recurrence_answer& expected) {
  return oracle::error_in_units(got, expected.o_long, expected.unit, oracle::double_epsilon);
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
    INFO("kind ", static_cast<int>(p.kind), " order ", static_cast<int>(p.order), " position ",
         static_cast<int>(p.position), " masked ", !p.mask.empty(), " state ", !p.s0.empty(), " tokens ", p.tokens,
         " keys ", p.keys);
    const auto one = oracle::naive_recurrence(p);
    const auto two = oracle::quadratic_form(p);
    const double error_o = units(two.o, one);
    const double error_s = oracle::error_in_units(two.s, one.s, one.s_unit, oracle::double_epsilon);
    CHECK(one.o.size() == p.v.size());
    CHECK(error_o < 32);
    CHECK(error_s < 32);
    REQUIRE(one.z.size() == two.z.size());
    for (std::size_t n = 0; n < one.z.size(); ++n) {
      if (one.z[n] != two.z[n]) CHECK(std::abs(one.z[n] - two.z[n]) <= 0x1p-51 * (2 + std::abs(one.z[n])));
    }
    for (std::size_t n = 0; n < one.o.size(); ++n) CHECK(std::abs(one.o[n]) <= one.unit[n] * (1 + 0x1p-50));
    worst_o = std::max(worst_o, error_o);
    worst_s = std::max(worst_s, error_s);
    ++problems;
  };
  for (const std::uint64_t seed : {1U, 2U}) for_all_problems(seed, check);
  for (const std::uint64_t seed : {3U, 4U, 5U}) for_all_problems(seed, check, true);
  MESSAGE(problems, " problems, worst error ", worst_o, " units of an output, ", worst_s, " of a state");
}

TEST_CASE("oracle: a masked token is deleted, whatever its values") {
  for_all_problems(5, [&](problem p) {
    if (p.mask.empty()) return;
    std::fill(p.mask.begin(), p.mask.end(), 1.0);  // the same tokens in every sequence, so that they can be cut out
    for (std::int64_t b = 0; b < p.batch; ++b)
      for (const std::int64_t t : {0, 4, 5, 16}) p.mask[problem::at(b, p.tokens, t)] = 0;
    problem shorter = p;
    shorter.mask.clear();
    shorter.tokens = p.tokens - 4;
    for (auto* x : {&shorter.q, &shorter.k, &shorter.v}) x->clear();
    shorter.angles.clear();
    for (std::int64_t b = 0; b < p.batch; ++b)
      for (std::int64_t t = 0; t < p.tokens; ++t)
        for (std::int64_t h = 0; h < p.heads; ++h) {
          const bool on = p.on(b, t);
          for (std::int64_t i = 0; i < p.keys; ++i) {
            const std::size_t place = problem::at(b, p.tokens, t, p.heads, h, p.keys, i);
            if (on) shorter.q.push_back(p.q[place]);
            if (on) shorter.k.push_back(p.k[place]);
            if (!on) p.q[place] = p.k[place] = not_a_number;
          }
          for (std::int64_t j = 0; j < p.values; ++j) {
            const std::size_t place = problem::at(b, p.tokens, t, p.heads, h, p.values, j);
            if (on) shorter.v.push_back(p.v[place]);
            if (!on) p.v[place] = not_a_number;
          }
          for (std::int64_t a = 0; a < p.angle_count() && on && b == 0; ++a)
            shorter.angles.push_back(p.angle_at(t, h, a));
        }
    const auto whole = oracle::naive_recurrence(p);
    const auto expected = oracle::naive_recurrence(shorter);
    std::vector<double> kept;
    for (std::size_t n = 0; n < whole.o.size(); ++n) {
      const auto token = static_cast<std::int64_t>(n) / (p.heads * p.values);
      if (p.on(token / p.tokens, token % p.tokens))
        kept.push_back(whole.o[n]);
      else
        CHECK(whole.o[n] == 0);
    }
    CHECK(kept == expected.o);
    CHECK(whole.s == expected.s);
    CHECK(whole.z == expected.z);
    const auto quadratic = oracle::quadratic_form(p);
    CHECK(units(quadratic.o, whole) < 32);
  });
}

TEST_CASE("oracle: values of one are read as one") {
  generator random(7);
  for (const auto order : {traversal::causal, traversal::global}) {
    problem p = random_problem(random, recurrence::additive, order, encoding::none, false, false, true);
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

TEST_CASE("oracle: the order of the tokens matters to a decay only, and the state can be handed over") {
  for_all_problems(10, [&](const problem& p) {
    if (p.order == traversal::bidirectional) return;
    const bool additive = p.kind == recurrence::additive;
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
    for (auto* x : {&reversed.q, &reversed.k, &reversed.v, &reversed.mask})
      if (!x->empty()) reverse(*x, p.batch, p.tokens);
    if (!p.angles.empty()) reverse(reversed.angles, 1, p.tokens);
    const auto other = oracle::naive_recurrence(reversed);
    const double moved = oracle::error_in_units(other.s, whole.s, whole.s_unit, oracle::double_epsilon);
    if (p.kind == recurrence::constant_decay)
      CHECK(moved > 1e6);
    else
      CHECK(moved < 4);
    CHECK(largest_difference(other.z, whole.z) <= 2e-12);  // one rounding of 1e4

    // The first 6 tokens, then the other 11 from the state that they left.
    if (p.order == traversal::global) return;
    const auto part = [&](std::int64_t first, std::int64_t last) {
      problem piece = p;
      piece.tokens = last - first;
      const auto cut = [&](auto& x, std::int64_t groups) {
        const auto copy = x;
        const auto width = static_cast<std::int64_t>(x.size()) / (groups * p.tokens);
        x.clear();
        for (std::int64_t g = 0; g < groups; ++g)
          for (std::int64_t t = first; t < last; ++t)
            for (std::int64_t n = 0; n < width; ++n) x.push_back(copy[problem::at(g, p.tokens, t, width, n)]);
      };
      for (auto* x : {&piece.q, &piece.k, &piece.v, &piece.mask}) cut(*x, p.batch);
      cut(piece.angles, 1);
      return piece;
    };
    const auto start = oracle::naive_recurrence(part(0, 6));
    problem rest = part(6, p.tokens);
    rest.z0 = start.z;
    rest.s0 = start.s;
    const auto end = oracle::naive_recurrence(rest);
    // z is handed over in double: one rounding of a logit of 1e4 is 1e-12 of every weight.
    const double tolerance = additive ? 4e4 : 32;
    CHECK(oracle::error_in_units(end.s, whole.s, whole.s_unit, oracle::double_epsilon) < tolerance);
    std::vector<double> expected, unit;
    for (std::int64_t b = 0; b < p.batch; ++b) {
      const auto from = static_cast<std::ptrdiff_t>(problem::at(b, p.tokens, 6, p.heads * p.values, 0));
      const auto to = static_cast<std::ptrdiff_t>(problem::at(b, p.tokens, p.tokens, p.heads * p.values, 0));
      expected.insert(expected.end(), whole.o.begin() + from, whole.o.begin() + to);
      unit.insert(unit.end(), whole.unit.begin() + from, whole.unit.begin() + to);
    }
    CHECK(oracle::error_in_units(end.o, expected, unit, oracle::double_epsilon) < tolerance);
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
    problem p = random_problem(random, recurrence::constant_decay, traversal::causal, position, false, false);
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
    return random_problem(random, kind, order, position, false, with_state);
  };
  refused(make(recurrence::constant_decay, traversal::global, encoding::none, false));
  refused(make(recurrence::additive, traversal::causal, encoding::rotate_halves, false));
  refused(make(recurrence::additive, traversal::bidirectional, encoding::rotate_neighbours, false));
  refused(make(recurrence::additive, traversal::global, encoding::rotate_halves, true));
  refused(make(recurrence::no_decay, traversal::bidirectional, encoding::none, true));
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
