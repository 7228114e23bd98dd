// SPDX-License-Identifier: Apache-2.0
// States that are passed on, and bits that depend on nothing but the numbers.
#include <doctest/doctest.h>

#include "../oracle/recurrence.hpp"
#include "cases.hpp"

using namespace cases;

namespace {

// Tokens [first, last) of a question without prefix, cut along the first axis of its grid.
question part_of(const question& x, std::int64_t first, std::int64_t last) {
  question part = x;
  problem& p = part.p;
  const std::int64_t slice = x.where.stride(0);
  part.where.extents[0] = last - first;
  part.where.offsets[0] += first;
  p.tokens = (last - first) * slice;
  const auto cut = [&](numbers& values, std::int64_t width) {
    const numbers whole = std::move(values);
    values.clear();
    for (std::int64_t b = 0; b < p.batch && !whole.empty(); ++b) {
      const auto at = whole.begin() + static_cast<std::ptrdiff_t>((b * x.p.tokens + first * slice) * width);
      values.insert(values.end(), at, at + static_cast<std::ptrdiff_t>(p.tokens * width));
    }
  };
  cut(p.q, p.heads * p.keys);
  cut(p.k, p.heads * p.keys);
  cut(p.v, p.heads * p.values);
  cut(p.mask, 1);
  return part;
}

// One sequence of a question, or one head of it.
question alone(const question& x, std::int64_t b, std::int64_t h) {
  question one = x;
  problem& p = one.p;
  const problem& all = x.p;
  p.batch = 1;
  p.heads = 1;
  const auto pick = [&](numbers& values, std::int64_t outer, std::int64_t width) {  // [B, outer, H, width]
    const numbers whole = std::move(values);
    values.clear();
    for (std::int64_t n = 0; n < outer && !whole.empty(); ++n) {
      const auto at = whole.begin() + static_cast<std::ptrdiff_t>(((b * outer + n) * all.heads + h) * width);
      values.insert(values.end(), at, at + static_cast<std::ptrdiff_t>(width));
    }
  };
  pick(p.q, p.tokens, p.keys);
  pick(p.k, p.tokens, p.keys);
  pick(p.v, p.tokens, p.values);
  pick(p.z0, 1, p.keys);
  pick(p.s0, 1, p.features() * p.values);
  if (!p.mask.empty()) p.mask.assign(all.mask.begin() + b * p.tokens, all.mask.begin() + (b + 1) * p.tokens);
  if (!p.log_decay.empty()) p.log_decay = {all.log_decay[static_cast<std::size_t>(h)]};
  one.default_log_decay = false;  // its default depends on the number of heads
  if (!x.theta.empty()) {
    const std::int64_t share = oracle::lrpe_share(p.position, p.keys, x.where.axes());
    const std::int64_t row = static_cast<std::int64_t>(x.theta.size()) == share ? 0 : h;
    one.theta.assign(x.theta.begin() + row * share, x.theta.begin() + (row + 1) * share);
  }
  return one;
}

// The numbers of one sequence and head in an array [B, outer, H, width].
numbers picked(const numbers& all, const problem& p, std::int64_t b, std::int64_t h, std::int64_t outer,
               std::int64_t width) {
  numbers some;
  for (std::int64_t n = 0; n < outer && !all.empty(); ++n) {
    const auto at = all.begin() + static_cast<std::ptrdiff_t>(((b * outer + n) * p.heads + h) * width);
    some.insert(some.end(), at, at + static_cast<std::ptrdiff_t>(width));
  }
  return some;
}

incoming random_incoming(const operation& op, const question& x, generator& random) {
  incoming to{random.many(static_cast<std::int64_t>(x.p.v.size()), 1), {}, {}};
  if (!op.stateful) return to;
  to.s = random.many(x.p.batch * x.p.heads * x.p.features() * x.p.values, 1);
  if (op.additive()) to.z = random.many(x.p.batch * x.p.heads * x.p.keys, 1);
  return to;
}

bool same(const raw_state& a, const raw_state& b) {
  return a.exponent == b.exponent && cases::same(a.normaliser, b.normaliser) && cases::same(a.sum, b.sum);
}
bool same(const gradients& a, const gradients& b) {
  return cases::same(a.q, b.q) && cases::same(a.k, b.k) && cases::same(a.v, b.v) && cases::same(a.z0, b.z0) &&
         cases::same(a.s0, b.s0) && cases::same(a.log_decay, b.log_decay) && cases::same(a.theta, b.theta);
}

}  // namespace

TEST_CASE("scan: whole, split anywhere and step by step give the same") {
  generator random(11);
  double worst = 0;
  for (const operation& op : operations()) {
    if (!op.stateful) continue;
    const std::int64_t length = op.dims == 1 ? 130 : 13;
    std::vector<std::int64_t> grid = {length, 5, 2};
    grid.resize(static_cast<std::size_t>(op.dims));
    for (int round = 0; round < 2; ++round) {
      const question x = random_question(op, random,
                                         {.masked = round == 1,
                                          .with_state = round == 1,
                                          .extreme = round == 1,
                                          .keys = 7,
                                          .values = 3,
                                          .batch = 2,
                                          .heads = 2,
                                          .grid = grid,
                                          .prefix = 0});
      INFO(describe(op, x));
      auto expected = oracle::naive_recurrence(x.p);
      for (numbers* unit : {&expected.unit, &expected.s_unit}) {
        for (double& size : *unit) size += op.smallest() / op.epsilon();
      }
      for (std::int64_t cut = 0; cut <= length; ++cut) {
        question second = part_of(x, cut, length);
        const answer one = op.forward(part_of(x, 0, cut));
        second.with_state = true;
        second.raw = one.state;
        const answer two = op.forward(second);
        const auto error = [&](const numbers& got, const auto& wanted, const numbers& unit) {
          const double units = oracle::error_in_units(got, wanted, unit, op.epsilon());
          worst = std::max(worst, units);
          return units;
        };
        CHECK(error(mean_state(two.state, x.p), expected.s, expected.s_unit) <= 32);
        if (op.order != oracle::traversal::causal) continue;
        numbers o;
        for (std::int64_t b = 0; b < x.p.batch; ++b) {
          for (const answer* half : {&one, &two}) {
            const auto size = static_cast<std::ptrdiff_t>(half->o.size()) / x.p.batch;
            o.insert(o.end(), half->o.begin() + b * size, half->o.begin() + (b + 1) * size);
          }
        }
        CHECK(error(o, expected.o_long, expected.unit) <= 32);
      }
    }
  }
  MESSAGE("worst error in units ", worst);
}

TEST_CASE("scan: the bits depend neither on threads nor on the rest of the batch") {
  generator random(12);
  for (const operation& op : operations()) {
    for (int round = 0; round < 4; ++round) {
      question x = random_question(op, random,
                                   {.masked = round % 2 == 1,
                                    .with_state = round / 2 == 1,
                                    .extreme = round == 3,
                                    .logits = round == 2 ? 100.0 : 3.0,
                                    .batch = 3,
                                    .heads = 2});
      INFO(describe(op, x));
      const incoming to = random_incoming(op, x, random);
      const answer expected = op.forward(x);
      const gradients gradient = op.backward(x, to);
      for (int threads = 1; threads <= 5; ++threads) {
        x.threads = threads;
        const answer came = op.forward(x);
        CHECK(cases::same(came.o, expected.o));
        CHECK(same(came.state, expected.state));
        CHECK(same(op.backward(x, to), gradient));
      }
      const problem& p = x.p;
      for (std::int64_t b = 0; b < p.batch; ++b) {
        for (std::int64_t h = 0; h < p.heads; ++h) {
          question one = alone(x, b, h);
          one.memory = random.one_of<layout>({layout::dense, layout::gapped, layout::tangled});
          const answer came = op.forward(one);
          CHECK(cases::same(came.o, picked(expected.o, p, b, h, p.tokens, p.values)));
          CHECK(cases::same(came.state.sum, picked(expected.state.sum, p, b, h, 1, p.features() * p.values)));
          CHECK(cases::same(came.state.normaliser, picked(expected.state.normaliser, p, b, h, 1, p.keys)));
          const gradients d =
              op.backward(one, {picked(to.o, p, b, h, p.tokens, p.values), picked(to.z, p, b, h, 1, p.keys),
                                picked(to.s, p, b, h, 1, p.features() * p.values)});
          CHECK(cases::same(d.q, picked(gradient.q, p, b, h, p.tokens, p.keys)));
          CHECK(cases::same(d.k, picked(gradient.k, p, b, h, p.tokens, p.keys)));
          CHECK(cases::same(d.v, picked(gradient.v, p, b, h, p.tokens, p.values)));
          CHECK(cases::same(d.z0, picked(gradient.z0, p, b, h, 1, p.keys)));
          CHECK(cases::same(d.s0, picked(gradient.s0, p, b, h, 1, p.features() * p.values)));
        }
      }
    }
  }
}

TEST_CASE("scan: the bits of a column do not depend on its place") {
  generator random(13);
  for (const operation& op : operations()) {
    question x = random_question(op, random, {.with_state = true, .values = 39, .batch = 1});
    x.chunk = 64;
    INFO(describe(op, x));
    const problem& p = x.p;
    const answer expected = op.forward(x);
    for (const std::int64_t j : {0, 3, 17, 38}) {
      question one = x;
      one.p.values = 1;
      const auto column = [&](const numbers& from) {
        numbers some;
        for (std::size_t n = static_cast<std::size_t>(j); n < from.size(); n += 39) some.push_back(from[n]);
        return some;
      };
      one.p.v = column(p.v);
      one.p.s0 = column(p.s0);
      const answer came = op.forward(one);
      CHECK(cases::same(came.o, column(expected.o)));
      CHECK(cases::same(came.state.sum, column(expected.state.sum)));
    }
  }
}
