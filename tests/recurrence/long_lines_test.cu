// SPDX-License-Identifier: Apache-2.0
// Lines that the kernels of bfloat16 cut into stretches, of 4096 tokens where there are more than 8192.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "../few.hpp"
#include "../oracle/recurrence.hpp"
#include "cases.hpp"
#include "random_question.hpp"

namespace {

using namespace cases;

std::vector<operation> cut_cases() {
  std::vector<operation> some;
  for (const operation& op : operations()) {
    if (op.type == dtype::bfloat16 && op.dims == 1) some.push_back(op);
  }
  return some;
}

// How much a gradient by the decay of a head may be off. It is the sum of those by the decays of its tokens, each known to a
// few roundings of the operands; and, as every one of these is what it and later tokens read less what they are read as, a sum
// of float of what token t reads counts t times. (Of one sign nothing cancels, and it is as any other: see below.)
double allowed_of_heads(const operation& op, const question& x, const incoming& to, const numbers& dq) {
  question y = x;
  const std::string name = op.name.substr(op.name.find(' '), op.name.rfind(' ') - op.name.find(' '));
  const operation& of_tokens = find("scalar_decay" + name + " double");
  const auto heads = static_cast<std::size_t>(x.p.heads), keys = static_cast<std::size_t>(x.p.keys);
  y.p.kind = of_tokens.like.kind;
  y.p.log_decay.clear();
  for (std::int64_t t = 0; t < x.p.batch * x.p.tokens; ++t) {
    y.p.log_decay.insert(y.p.log_decay.end(), x.p.log_decay.begin(), x.p.log_decay.end());
  }
  const numbers d_tokens = of_tokens.backward(y, to).logits;
  numbers by_tokens(heads, 0), by_reads(heads, 0);
  for (std::size_t row = 0; row < d_tokens.size(); ++row) {
    double read = 0;
    for (std::size_t n = row * keys; n < (row + 1) * keys; ++n) read += x.p.q[n] * dq[n];
    by_tokens[row % heads] += std::abs(d_tokens[row]);
    by_reads[row % heads] += static_cast<double>(1 + row / heads) * std::abs(read);
  }
  double most = 0;
  for (std::size_t h = 0; h < heads; ++h) {
    most = std::max(most, op.storage_epsilon() * by_tokens[h] + oracle::float_epsilon * by_reads[h]);
  }
  return 8 * most;
}

// Makes numbers of one sign: nothing of what they are multiplied to cancels.
void make_positive(numbers& x) {
  for (double& number : x) number = std::abs(number);
}

// Asks for the gradients of a question, or of one of positive numbers, against those of another type.
void gradients_are_near(const operation& op, const operation& wide, question x, generator& random,
                        bool positive = false) {
  incoming to = random_incoming(op, x, random);
  to.s.clear();
  to.z.clear();
  for (double& d : to.o) d = op.rounded(d);
  if (positive) {
    for (numbers* const one : {&x.p.q, &x.p.k, &x.p.v, &to.o}) make_positive(*one);
  }
  INFO(describe(op, x), positive ? ", positive" : "");
  const gradients expected = wide.backward(x, to), came = op.backward(x, to);
  CHECK_FALSE(came.outside);
  for (const auto part : {&gradients::q, &gradients::k, &gradients::v, &gradients::logits}) {
    double largest = 0, error = 0;
    for (std::size_t n = 0; n < (expected.*part).size(); ++n) {
      largest = std::max(largest, std::abs((expected.*part)[n]));
      const double apart = std::abs((came.*part)[n] - (expected.*part)[n]);
      error = std::max(error, std::isnan(apart) ? inf : apart);
    }
    if ((expected.*part).empty()) continue;
    const bool of_heads = part == &gradients::logits && op.like.kind == oracle::recurrence::constant_decay && !positive;
    CHECK(error <= (of_heads ? allowed_of_heads(op, x, to, expected.q) : 8 * op.storage_epsilon() * largest));
  }
}

}  // namespace

TEST_CASE("long lines: outputs and states are those of the oracle") {
  generator random(81);
  for (const operation& op : cut_cases()) {
    for (int round = often(4) - 1; round >= 0; --round) {
      const question x = random_question(op, random,
                                         {.masked = round == 1,
                                          .with_state = round > 0,
                                          .extreme = round == 2,
                                          .packed = round == 3,
                                          .log_decays = round == 2 ? 0.0 : -0.01,
                                          .keys = random.one_of<std::int64_t>({7, 20}),
                                          .values = random.one_of<std::int64_t>({9, 16}),
                                          .batch = 1,
                                          .heads = 2,
                                          .grid = {random.one_of<std::int64_t>({8193, 12288, 17003})},
                                          .prefix = 0});
      INFO(describe(op, x));
      const auto expected = oracle::naive_recurrence(x.p);
      const answer came = op.forward(x);
      CHECK_FALSE(came.outside);
      CHECK(op.output_error(came.o, expected.o_long, expected.unit) <= op.tolerance());
      if (op.stateful)
        CHECK(op.state_error(mean_state(came.state, x.p), expected.s, expected.s_unit) <= op.tolerance());
    }
  }
}

TEST_CASE("long lines: a sequence and head has the bits alone that it has in a batch, and packed") {
  generator random(82);
  for (const operation& op : cut_cases()) {
    for (int round = 0; round < 4; ++round) {
      const bool packed = round % 2 == 1;
      question x = random_question(op, random,
                                   {.masked = round > 1,
                                    .with_state = random.coin(),
                                    .packed = packed,
                                    .keys = 10,
                                    .values = 12,
                                    .batch = 3,
                                    .heads = 2,
                                    .grid = {packed ? 30011 : 9001},
                                    .prefix = 0});
      x.default_log_decay = false;
      INFO(describe(op, x));
      const problem& p = x.p;
      const answer whole = op.forward(x);
      CHECK_FALSE(whole.outside);
      if (!packed) {
        const answer came = op.forward(alone(x, 1, 1));
        CHECK(same(came.o, picked(whole.o, p, 1, 1, p.tokens, p.values)));
        CHECK(same(came.state.sum, picked(whole.state.sum, p, 1, 1, 1, p.features() * p.values)));
        CHECK(same(came.state.normaliser, picked(whole.state.normaliser, p, 1, 1, 1, p.weights())));
        CHECK(same(came.state.decay, picked(whole.state.decay, p, 1, 1, 1, p.weights())));
        continue;
      }
      numbers o, sum;
      for (std::int64_t s = 0; s < p.sequences(); ++s) {
        const answer came = op.forward(unpacked(x, s));
        o.insert(o.end(), came.o.begin(), came.o.end());
        sum.insert(sum.end(), came.state.sum.begin(), came.state.sum.end());
      }
      CHECK(same(o, whole.o));
      CHECK(same(sum, whole.state.sum));
    }
  }
}

TEST_CASE("long lines: what is no number reaches the tokens after it, over all stretches, and nothing else") {
  constexpr std::int64_t tokens = 12500;
  generator random(83);
  for (const operation& op : cut_cases()) {
    for (const std::int64_t bad_token : {100, 5000, 12400}) {
      question x =
          random_question(op, random, {.keys = 6, .values = 8, .batch = 1, .heads = 2, .grid = {tokens}, .prefix = 0});
      const std::int64_t column = random.integer(8), head = random.integer(2);
      const std::size_t place = static_cast<std::size_t>((bad_token * 2 + head) * 8 + column);
      x.p.v[place] = 0;
      INFO(describe(op, x), ", token ", bad_token);
      const answer harmless = op.forward(x);
      x.p.v[place] = random.one_of<double>({inf, -inf, not_a_number});
      const answer came = op.forward(x);
      bool as_said = true;
      for (std::size_t n = 0; n < came.o.size(); ++n) {
        const auto at = static_cast<std::int64_t>(n);
        const bool reached = at % 8 == column && at / 8 % 2 == head && (at / 16 >= bad_token || !op.causal());
        as_said = as_said && (reached ? std::isnan(came.o[n]) : same({came.o[n]}, {harmless.o[n]}));
      }
      for (std::size_t n = 0; n < came.state.sum.size(); ++n) {
        const auto at = static_cast<std::int64_t>(n);
        const bool reached = at % 8 == column && at / 48 == head;
        as_said =
            as_said && (reached ? std::isnan(came.state.sum[n]) : same({came.state.sum[n]}, {harmless.state.sum[n]}));
      }
      CHECK(as_said);
    }
  }
}

TEST_CASE("long lines: gradients of the global traversal are those of float, masked and packed") {
  generator random(84);
  for (const operation& op : cut_cases()) {
    if (op.like.order != oracle::traversal::global) continue;
    const operation& wide = find(op.name.substr(0, op.name.rfind(' ')) + " float");
    for (int round = 0; round < often(6); ++round) {
      const question x = random_question(op, random,
                                         {.masked = round % 2 == 1,
                                          .packed = round % 3 == 2,
                                          .logits = round == 4 ? 150.0 : 3.0,
                                          .keys = random.one_of<std::int64_t>({10, 64, 70, 128}),
                                          .values = random.one_of<std::int64_t>({12, 64, 128}),
                                          .batch = 1,
                                          .heads = 2,
                                          .grid = {random.one_of<std::int64_t>({2048, 2049, 5001})},
                                          .prefix = 0});
      gradients_are_near(op, wide, x, random);
    }
  }
}

TEST_CASE("long lines: gradients of decays are those of double, whatever decays, whose last tile is whole or not") {
  generator random(86);
  for (const operation& op : cut_cases()) {
    if (!op.decays()) continue;
    const operation& wide = find(op.name.substr(0, op.name.rfind(' ')) + " double");
    for (int round = 0; round < often(6); ++round) {
      const question x = random_question(op, random,
                                         {.masked = round == 1,
                                          .packed = round == 2,
                                          .log_decays = round == 3   ? 0.0
                                                        : round == 4 ? -1.5
                                                                     : -0.02,
                                          .keys = random.one_of<std::int64_t>({10, 64, 128}),
                                          .values = random.one_of<std::int64_t>({12, 64, 128}),
                                          .batch = 1,
                                          .heads = 2,
                                          .grid = {random.one_of<std::int64_t>({640, 1000, 1001})},
                                          .prefix = 0});
      gradients_are_near(op, wide, x, random);
      if (round == 0 || round == 4) gradients_are_near(op, wide, x, random, true);
    }
  }
}

TEST_CASE("long lines: weights that climb, slowly, by steps and out of nothing, or little enough that both count") {
  generator random(85);
  struct climb {
    double (*added)(std::int64_t token);
    double range;  // of the logits besides
  };
  const climb climbs[] = {
      {[](std::int64_t t) { return 0.4 * static_cast<double>(t); }, 3},
      {[](std::int64_t t) { return t == 1900 ? 6.5 : 0.0; }, 0.3},
      {[](std::int64_t t) { return t < 700    ? 0.0
                                   : t < 2100 ? 200.0
                                              : 208.0; }, 3},
      {[](std::int64_t t) { return t < 150 ? -inf : 0.0; }, 3},
  };
  for (const operation& op : cut_cases()) {
    if (!op.additive()) continue;
    for (int n = 0; n < often(4); ++n) {
      question x = random_question(
          op, random,
          {.logits = climbs[n].range, .keys = 20, .values = 16, .batch = 1, .heads = 2, .grid = {3001}, .prefix = 0});
      numbers& logits = op.tied() ? x.p.k : x.p.logits;
      const std::size_t width = logits.size() / 3001;
      // Every second weight, so that they do not climb alike.
      for (std::size_t i = 0; i < logits.size(); i += 2) {
        logits[i] = op.rounded(logits[i] + climbs[n].added(static_cast<std::int64_t>(i / width)));
      }
      INFO(describe(op, x));
      const auto expected = oracle::naive_recurrence(x.p);
      const answer came = op.forward(x);
      CHECK(op.output_error(came.o, expected.o_long, expected.unit) <= op.tolerance());
      if (op.stateful)
        CHECK(op.state_error(mean_state(came.state, x.p), expected.s, expected.s_unit) <= op.tolerance());
    }
  }
}
