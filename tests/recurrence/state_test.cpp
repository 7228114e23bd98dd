// SPDX-License-Identifier: Apache-2.0
// One question in pieces: chunks, splits, steps, packed sequences. The stated tolerance where sums are made in another
// order, the same bits where they are not.
#include <doctest/doctest.h>

#include "../oracle/recurrence.hpp"
#include "cases.hpp"
#include "random_question.hpp"
#include "relative_error.hpp"

using namespace cases;

namespace {

// A grid of some 130 tokens, 130 along the first axis where it has but one.
std::vector<std::int64_t> long_grid(int dims) {
  std::vector<std::int64_t> grid = {dims == 1 ? 130 : 13, 5, 2, 1};
  grid.resize(static_cast<std::size_t>(dims));
  return grid;
}

// Sequences of the batch one after the other: token arrays [B, first part, ..] and [B, second part, ..] as one.
numbers joined(const numbers& first, const numbers& second, std::int64_t batch) {
  numbers all;
  for (std::int64_t b = 0; b < batch; ++b) {
    for (const numbers* part : {&first, &second}) {
      const auto size = static_cast<std::ptrdiff_t>(part->size()) / batch;
      all.insert(all.end(), part->begin() + b * size, part->begin() + (b + 1) * size);
    }
  }
  return all;
}

}  // namespace

TEST_CASE("scan: every chunk size gives the same") {
  double worst = 0, worst_gradient = 0;
  for (const operation& op : operations()) {
    generator random(21, op);
    question x = random_question(op, random,
                                 {.masked = random.coin(),
                                  .with_state = true,
                                  .keys = 7,
                                  .values = 3,
                                  .batch = 1,
                                  .heads = 2,
                                  .grid = long_grid(op.dims),
                                  .prefix = 0});
    for (std::int64_t& offset : x.where.offsets) offset %= 4;  // the gradient of theta is a sum of places
    give_angles(x);
    INFO(describe(op, x));
    const auto expected = oracle::naive_recurrence(x.p);
    for (x.chunk = 1; x.chunk <= 128; ++x.chunk) {
      const answer came = op.forward(x);
      const double error = op.output_error(came.o, expected.o_long, expected.unit);
      CHECK(error <= op.tolerance());
      worst = std::max(worst, error);
      if (!op.stateful) continue;
      CHECK(op.state_error(mean_state(came.state, x.p), expected.s, expected.s_unit) <= op.tolerance());
    }
    if (!op.is_double()) continue;
    const incoming to = random_incoming(op, x, random);
    x.chunk = 32;
    const gradients whole = op.backward(x, to);
    const double product = std::max(largest_product(x.p.q, whole.q), largest_product(x.p.k, whole.k));
    for (const std::int64_t chunk : {1, 2, 3, 7, 16, 33, 64, 100, 128}) {
      x.chunk = chunk;
      const gradients d = op.backward(x, to);
      for (numbers gradients::*part : {&gradients::q, &gradients::k, &gradients::v, &gradients::logits, &gradients::z0,
                                       &gradients::s0, &gradients::theta}) {
        const bool of_products = part == &gradients::logits || part == &gradients::theta;
        const double error = relative_error(d.*part, whole.*part, of_products ? product : 0);
        CHECK(error <= 1e-12);
        worst_gradient = std::max(worst_gradient, error);
      }
    }
  }
  MESSAGE("worst error in units ", worst, ", of gradients ", worst_gradient);
}

TEST_CASE("scan: split anywhere, the state handed over, gives the same") {
  double worst = 0;
  for (const operation& op : operations()) {
    generator random(11, op);
    if (!op.stateful) continue;
    const std::vector<std::int64_t> grid = long_grid(op.dims);
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
      const auto expected = oracle::naive_recurrence(x.p);
      for (std::int64_t cut = 0; cut <= grid[0]; ++cut) {
        question second = part_of(x, cut, grid[0]);
        const answer one = op.forward(part_of(x, 0, cut));
        second.with_state = true;
        second.raw = one.state;
        const answer two = op.forward(second);
        const double state = op.state_error(mean_state(two.state, x.p), expected.s, expected.s_unit);
        CHECK(state <= op.tolerance());
        worst = std::max(worst, state);
        if (!op.causal()) continue;
        const double error = op.output_error(joined(one.o, two.o, x.p.batch), expected.o_long, expected.unit);
        CHECK(error <= op.tolerance());
        worst = std::max(worst, error);
      }
    }
  }
  MESSAGE("worst error in units ", worst);
}

TEST_CASE("scan: a packed sequence has the bits that it has alone") {
  for (const operation& op : operations()) {
    generator random(22, op);
    if (op.dims != 1) continue;
    for (int round = 0; round < 3; ++round) {
      question x = random_question(op, random,
                                   {.masked = round == 1,
                                    .with_state = round > 0,
                                    .extreme = round == 2,
                                    .packed = true,
                                    .heads = 2,
                                    .grid = {97 + 10 * round}});
      x.default_log_decay = false;
      x.threads = 1 + round;
      INFO(describe(op, x));
      const problem& p = x.p;
      const incoming to = random_incoming(op, x, random);
      const answer whole = op.forward(x);
      const gradients gradient = op.backward(x, to);
      CHECK_FALSE(whole.outside);
      CHECK_FALSE(gradient.outside);
      answer came;
      gradients d;
      for (std::int64_t s = 0; s < p.sequences(); ++s) {
        const oracle::span in = p.sequence(s);
        const auto slice = [&](const numbers& from, std::int64_t first, std::int64_t last, std::int64_t width) {
          if (from.empty()) return numbers{};
          return numbers(from.begin() + first * width, from.begin() + last * width);
        };
        const auto append = [](numbers& all, const numbers& part) { all.insert(all.end(), part.begin(), part.end()); };
        question one = unpacked(x, s);
        one.memory = random.one_of<layout>({layout::dense, layout::gapped, layout::tangled});
        const answer part = op.forward(one);
        append(came.o, part.o);
        append(came.state.normaliser, part.state.normaliser);
        append(came.state.sum, part.state.sum);
        append(came.state.input, part.state.input);
        append(came.state.decay, part.state.decay);
        came.state.exponent.insert(came.state.exponent.end(), part.state.exponent.begin(), part.state.exponent.end());
        const gradients share = op.backward(
            one, {slice(to.o, in.first, in.last, p.heads * p.values), slice(to.z, s, s + 1, p.heads * p.weights()),
                  slice(to.s, s, s + 1, p.heads * p.features() * p.values)});
        append(d.q, share.q);
        append(d.k, share.k);
        append(d.v, share.v);
        append(d.z0, share.z0);
        append(d.s0, share.s0);
        if (logit_width(p) > 0) append(d.logits, share.logits);
      }
      CHECK(same(came.o, whole.o));
      CHECK(same(came.state, whole.state));
      if (logit_width(p) == 0) d.logits = gradient.logits;  // of a head: a sum over the sequences
      d.theta = gradient.theta;
      CHECK(same(d, gradient));
    }
  }
}

TEST_CASE("scan: the bits depend neither on threads nor on the rest of the batch") {
  for (const operation& op : operations()) {
    generator random(12, op);
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
      for (const int threads : {2 + round, 6 + 3 * round}) {
        x.threads = threads;
        const answer came = op.forward(x);
        CHECK(cases::same(came.o, expected.o));
        CHECK(cases::same(came.state, expected.state));
        CHECK(cases::same(op.backward(x, to), gradient));
      }
      const problem& p = x.p;
      const std::int64_t b = random.integer(p.batch), h = random.integer(p.heads);
      question one = alone(x, b, h);
      one.threads = 1;
      one.memory = random.one_of<layout>({layout::dense, layout::gapped, layout::tangled});
      const answer came = op.forward(one);
      CHECK(same(came.o, picked(expected.o, p, b, h, p.tokens, p.values)));
      CHECK(same(came.state.sum, picked(expected.state.sum, p, b, h, 1, p.features() * p.values)));
      CHECK(same(came.state.input, picked(expected.state.input, p, b, h, 1, p.features() * p.values)));
      CHECK(same(came.state.normaliser, picked(expected.state.normaliser, p, b, h, 1, p.weights())));
      CHECK(same(came.state.decay, picked(expected.state.decay, p, b, h, 1, p.weights())));
      const gradients d =
          op.backward(one, {picked(to.o, p, b, h, p.tokens, p.values), picked(to.z, p, b, h, 1, p.weights()),
                            picked(to.s, p, b, h, 1, p.features() * p.values)});
      CHECK(same(d.q, picked(gradient.q, p, b, h, p.tokens, p.keys)));
      CHECK(same(d.k, picked(gradient.k, p, b, h, p.tokens, p.keys)));
      CHECK(same(d.v, picked(gradient.v, p, b, h, p.tokens, p.values)));
      if (logit_width(p) > 0) CHECK(same(d.logits, picked(gradient.logits, p, b, h, p.tokens, p.weights())));
      CHECK(same(d.z0, picked(gradient.z0, p, b, h, 1, p.weights())));
      CHECK(same(d.s0, picked(gradient.s0, p, b, h, 1, p.features() * p.values)));
    }
  }
}

TEST_CASE("scan: one long sequence of one head has the same bits for 1 to 17 threads") {
  for (const operation& op : operations()) {
    generator random(23, op);
    if (op.dims != 1 || op.type == dtype::float64 || op.like.order == oracle::traversal::axial) continue;
    question x = random_question(op, random,
                                 {.masked = random.coin(),
                                  .with_state = true,
                                  .extreme = random.coin(),
                                  .keys = 11,
                                  .values = 21,
                                  .batch = 1,
                                  .heads = 1,
                                  .grid = {700},
                                  .prefix = 1});
    x.chunk = 8;  // 88 chunks: several for each of 17 threads
    INFO(describe(op, x));
    const incoming to = random_incoming(op, x, random);
    const answer expected = op.forward(x);
    const gradients gradient = op.backward(x, to);
    for (x.threads = 2; x.threads <= 17; ++x.threads) {
      const answer came = op.forward(x);
      CHECK(same(came.o, expected.o));
      CHECK(same(came.state, expected.state));
      CHECK(same(op.backward(x, to), gradient));
    }
  }
}

TEST_CASE("scan: the bits of a column do not depend on its place") {
  for (const operation& op : operations()) {
    generator random(13, op);
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
      CHECK(same(came.o, column(expected.o)));
      CHECK(same(came.state.sum, column(expected.state.sum)));
    }
  }
}
