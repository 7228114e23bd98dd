// SPDX-License-Identifier: Apache-2.0
// Two states are one: the states of the parts of any partition, merged, are the state of the whole.
#include <doctest/doctest.h>

#include <numeric>

#include "../oracle/recurrence.hpp"
#include "cases.hpp"
#include "random_question.hpp"

using namespace cases;

namespace {

// The parts as they follow each other, neighbours merged in any order until one is left.
raw_state merge_all(const operation& op, const question& x, std::vector<raw_state> parts, generator& random) {
  while (parts.size() > 1) {
    const auto n = static_cast<std::size_t>(random.integer(static_cast<std::int64_t>(parts.size()) - 1));
    parts[n] = op.merge(x, parts[n], parts[n + 1], merge_into::another);
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(n) + 1);
  }
  return parts[0];
}

double relative(double a, double b) { return a == b ? 0 : std::abs(a - b) / std::abs(b); }

}  // namespace

TEST_CASE("merge_states: the parts of any partition give the state of the whole") {
  double worst = 0;
  for (const operation& op : operations()) {
    generator random(31, op);
    if (!op.merge) continue;
    for (int round = 0; round < 12; ++round) {
      const std::int64_t length = op.dims == 1 ? 41 : 7;
      std::vector<std::int64_t> grid = {length, 3, 2, 1};
      grid.resize(static_cast<std::size_t>(op.dims));
      question x = random_question(op, random,
                                   {.masked = round % 2 == 1,
                                    .with_state = round / 2 % 2 == 1,
                                    .extreme = round / 4 == 1,
                                    .logits = round / 4 == 2 ? 60.0 : 3.0,
                                    .keys = 5 + round % 3,
                                    .values = 3,
                                    .grid = grid,
                                    .prefix = 0});
      x.mergeable = true;
      INFO(describe(op, x));
      const auto expected = oracle::naive_recurrence(x.p);

      // Some parts may be of no tokens. The first has the initial state, or the sink.
      std::vector<std::int64_t> cuts = {0, length};
      for (std::int64_t n = 1 + random.integer(6); n > 0; --n) cuts.push_back(random.integer(length + 1));
      std::sort(cuts.begin(), cuts.end());
      std::vector<raw_state> parts;
      for (std::size_t n = 0; n + 1 < cuts.size(); ++n) {
        question part = part_of(x, cuts[n], cuts[n + 1]);
        part.memory = random.one_of<layout>({layout::dense, layout::gapped, layout::tangled});
        part.raw = n == 0 ? first_state(x, op.sink) : empty_state(x.p);
        part.with_state = n == 0 ? x.with_state : op.sink;
        parts.push_back(op.forward(part).state);
      }
      if (op.like.commutes()) std::shuffle(parts.begin(), parts.end(), random.engine);
      const raw_state merged = merge_all(op, x, parts, random);

      const double error = op.state_error(mean_state(merged, x.p), expected.s, expected.s_unit);
      CHECK(error <= op.tolerance());
      worst = std::max(worst, error);
      const numbers z = log_normaliser(merged);
      for (std::size_t n = 0; n < z.size(); ++n) {
        if (z[n] != expected.z[n])
          CHECK(std::abs(z[n] - expected.z[n]) <= 32 * op.epsilon() + 0x1p-52 * std::abs(expected.z[n]));
      }
      bool decays = merged.decay.size() == expected.decay.size();
      for (std::size_t n = 0; n < expected.decay.size() && decays; ++n) {
        const double size = std::abs(expected.decay[n]);
        decays = size < op.smallest() ? merged.decay[n] <= op.smallest()
                                      : relative(merged.decay[n], expected.decay[n]) <=
                                            64 * op.epsilon() * (1 + std::abs(std::log(size)));
      }
      CHECK(decays);
      if (!expected.input.empty())
        CHECK(op.state_error(merged.input, expected.input, expected.input_unit) <= op.tolerance());

      // What the right side does not give is asked for; the left side may go without, and so may the result.
      raw_state bare = parts[0];
      bare.input.clear();
      bare.decay.clear();
      question without = x;
      without.mergeable = false;
      const raw_state full = op.merge(x, parts[0], parts[1], merge_into::another),
                      half = op.merge(without, bare, parts[1], merge_into::another);
      CHECK(same(half.sum, full.sum));
      CHECK(same(half.normaliser, full.normaliser));
      CHECK(half.exponent == full.exponent);
      CHECK(same(op.merge(x, parts[0], parts[1], merge_into::left), full));
      CHECK(same(op.merge(x, parts[0], parts[1], merge_into::right), full));
    }
  }
  MESSAGE("worst error in units ", worst);
}

TEST_CASE("merge_states: the identity is the state of no tokens, and order matters where it should") {
  for (const operation& op : operations()) {
    generator random(32, op);
    if (!op.merge) continue;
    question x = random_question(op, random, {.log_decays = -0.5, .keys = 6, .values = 3});
    x.mergeable = true;
    INFO(describe(op, x));
    question other = random_question(op, random,
                                     {.log_decays = -0.5,
                                      .keys = x.p.keys,
                                      .values = 3,
                                      .batch = x.p.batch,
                                      .heads = x.p.heads,
                                      .grid = x.where.extents,
                                      .prefix = x.where.prefix});
    other.mergeable = true;
    const raw_state state = op.forward(x).state, next = op.forward(other).state, nothing = empty_state(x.p);
    const auto merged = [&](const raw_state& left, const raw_state& right) {
      return op.merge(x, left, right, merge_into::another);
    };
    CHECK(same(merged(state, nothing), state));
    CHECK(same(merged(nothing, state), state));
    const numbers one = mean_state(merged(state, next), x.p), two = mean_state(merged(next, state), x.p);
    double difference = 0;
    for (std::size_t n = 0; n < one.size(); ++n) difference = std::max(difference, std::abs(one[n] - two[n]));
    if (op.like.commutes()) {
      CHECK(same(one, two));
    } else {
      CHECK(difference > 1e-3);
    }
  }
}
