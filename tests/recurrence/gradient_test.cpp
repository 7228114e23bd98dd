// SPDX-License-Identifier: Apache-2.0
// The gradients of scan by finite differences in double, for every input; the sums that they must give; and those of
// the other storage types against them.
#include <doctest/doctest.h>

#include <map>

#include "../oracle/gradient.hpp"
#include "cases.hpp"
#include "random_question.hpp"
#include "relative_error.hpp"

using namespace cases;

namespace {

// The sequence that token t of batch entry b belongs to.
std::int64_t sequence_of(const problem& p, std::int64_t b, std::int64_t t) {
  if (p.cumulative_lengths.empty()) return b;
  std::int64_t s = 0;
  while (t >= p.sequence(s).last) ++s;
  return s;
}

// What the gradients of `to` are gradients of, one loss for every sequence and head: they have nothing to do with each
// other. The normaliser of a channel that stays empty does not count.
numbers losses(const operation& op, const question& x, const incoming& to) {
  const problem& p = x.p;
  const answer came = op.forward(x);
  numbers sums(static_cast<std::size_t>(p.sequences() * p.heads), 0);
  const auto add = [&](std::int64_t s, std::int64_t h, double part) {
    sums[static_cast<std::size_t>(s * p.heads + h)] += part;
  };
  for (std::int64_t n = 0; n < static_cast<std::int64_t>(to.o.size()); ++n) {
    const std::int64_t h = n / p.values % p.heads, token = n / p.values / p.heads;
    add(sequence_of(p, token / p.tokens, token % p.tokens), h,
        to.o[static_cast<std::size_t>(n)] * came.o[static_cast<std::size_t>(n)]);
  }
  const auto add_state = [&](const numbers& weights, const numbers& values, std::int64_t width) {
    for (std::int64_t n = 0; n < static_cast<std::int64_t>(weights.size()); ++n) {
      const double value = values[static_cast<std::size_t>(n)];
      if (value != -inf) add(n / width / p.heads, n / width % p.heads, weights[static_cast<std::size_t>(n)] * value);
    }
  };
  if (!to.s.empty()) add_state(to.s, mean_state(came.state, p), p.features() * p.values);
  if (!to.z.empty()) add_state(to.z, log_normaliser(came.state), p.weights());
  return sums;
}

// Puts NaN where a token is deleted.
void hide_deleted(question& x) {
  each_token_array(x.p, [&](numbers& values, std::int64_t width) {
    if (&values == &x.p.mask) return;
    for (std::size_t n = 0; n < x.p.mask.size(); ++n) {
      if (x.p.mask[n] == 0) std::fill_n(values.begin() + static_cast<std::ptrdiff_t>(n) * width, width, not_a_number);
    }
  });
}

void check_differences(const operation& op, const question& x, const incoming& to, const gradients& came) {
  const problem& p = x.p;
  oracle::gradient_options options{.samples = 150, .step = 0x1p-9, .smallest_scale = 1e-3};
  const auto check = [&](const std::string& name, const numbers& from, const numbers& gradient, auto place, auto lane) {
    INFO(name);
    const auto moved = [&](const numbers& values) {
      question y = x;
      place(y) = values;
      numbers sums = losses(op, y, to);
      if (lane(0) < sums.size()) return sums;
      return numbers(sums.size() + 1, std::accumulate(sums.begin(), sums.end(), 0.0));  // one loss after all
    };
    CHECK(oracle::check_gradients_apart(op.name + " d" + name, moved, lane, from, gradient, options) <= 1e-7);
  };
  // Whose loss an entry belongs to: of a token array [B, N, H, width], of a state [S, H, width], or everyone's.
  const auto of_token = [&](std::int64_t width) {
    return [&p, width](std::size_t entry) {
      const std::int64_t n = static_cast<std::int64_t>(entry) / width, token = n / p.heads;
      return static_cast<std::size_t>(sequence_of(p, token / p.tokens, token % p.tokens) * p.heads + n % p.heads);
    };
  };
  const auto of_state = [](std::int64_t width) {
    return [width](std::size_t entry) { return static_cast<std::size_t>(static_cast<std::int64_t>(entry) / width); };
  };
  const auto of_all = [&](std::size_t) { return static_cast<std::size_t>(p.sequences() * p.heads); };

  check(
      "q", p.q, came.q, [](question& y) -> numbers& { return y.p.q; }, of_token(p.keys));
  if (!p.k.empty())
    check(
        "k", p.k, came.k, [](question& y) -> numbers& { return y.p.k; }, of_token(p.keys));
  check(
      "v", p.v, came.v, [](question& y) -> numbers& { return y.p.v; }, of_token(p.values));
  if (!came.z0.empty())
    check(
        "z0", p.z0, came.z0, [](question& y) -> numbers& { return y.p.z0; }, of_state(p.weights()));
  if (!came.s0.empty()) {
    check(
        "s0", p.s0, came.s0, [](question& y) -> numbers& { return y.p.s0; }, of_state(p.features() * p.values));
  }
  if (!came.theta.empty())
    check(
        "theta", x.theta, came.theta, [](question& y) -> numbers& { return y.theta; }, of_all);
  if (came.logits.empty()) return;
  if (op.decays()) options.high = p.with_sign ? 1 : 0;
  if (p.with_sign) options.low = -1;
  const auto place = [](question& y) -> numbers& { return logits_of(y.p); };
  if (logit_width(p) > 0) {
    check("logits", logits_of(p), came.logits, place, of_token(p.weights()));
  } else {
    check("logits", logits_of(p), came.logits, place, of_all);
  }
}

// What is deleted has no gradient at all.
void check_deleted(const question& x, const gradients& came) {
  const problem& p = x.p;
  for (std::size_t n = 0; n < p.mask.size(); ++n) {
    if (p.mask[n] != 0) continue;
    const auto zero = [&](const numbers& gradient, std::int64_t width) {
      if (gradient.empty()) return;
      const auto first = gradient.begin() + static_cast<std::ptrdiff_t>(n) * width;
      CHECK(std::all_of(first, first + width, [](double g) { return g == 0; }));
    };
    zero(came.q, p.heads * p.keys);
    zero(came.k, p.heads * p.keys);
    zero(came.v, p.heads * p.values);
    if (logit_width(p) > 0) zero(came.logits, logit_width(p));
  }
}

// Logits shifted by a constant change z by it and nothing else: sum_t dlogit_t + dz_0 = dz_N, in every channel that is
// not empty at the end.
void check_sums(const operation& op, const question& x, const incoming& to, const gradients& came) {
  if (!op.additive() || (op.sink && !x.with_state)) return;
  const problem& p = x.p;
  const numbers z = op.stateful ? log_normaliser(op.forward(x).state) : numbers{};
  const numbers& dlogits = op.tied() ? came.k : came.logits;
  const std::int64_t width = p.heads * p.weights();
  for (std::int64_t s = 0; s < p.sequences(); ++s) {
    const oracle::span in = p.sequence(s);
    for (std::int64_t n = 0; n < width; ++n) {
      const auto of_state = static_cast<std::size_t>(s * width + n);
      double sum = came.z0.empty() ? 0 : came.z0[of_state], scale = 1;
      for (std::int64_t t = in.first; t < in.last; ++t) {
        const double d = dlogits[static_cast<std::size_t>((in.batch * p.tokens + t) * width + n)];
        sum += d;
        scale += std::abs(d);
      }
      const double expected = to.z.empty() || z[of_state] == -inf ? 0 : to.z[of_state];
      CHECK(std::abs(sum - expected) <= 1e-12 * scale);
    }
  }
}

// The largest sum of |q dq| over a sequence and head: gradients of logits, decays and angles are differences of such
// sums.
double largest_reads(const problem& p, const numbers& dq) {
  numbers sums(static_cast<std::size_t>(p.batch * p.heads), 0);
  for (std::size_t n = 0; n < dq.size(); ++n) {
    const std::int64_t row = static_cast<std::int64_t>(n) / p.keys;
    const double part = std::abs(p.q[n] * dq[n]);
    sums[static_cast<std::size_t>(row / p.heads / p.tokens * p.heads + row % p.heads)] += std::isnan(part) ? 0 : part;
  }
  return *std::max_element(sums.begin(), sums.end());
}

}  // namespace

TEST_CASE("scan_backward: every case by finite differences") {
  const std::vector<std::int64_t> grids[] = {{19}, {3, 5}, {2, 3, 2}, {2, 3, 1, 2}};
  for (const operation& op : operations()) {
    generator random(2, op);
    if (!op.is_double()) continue;
    for (int round = 0; round < 6; ++round) {
      options want;
      want.masked = round % 2 == 1;
      want.with_state = round / 2 % 2 == 1;
      want.extreme = round % 3 == 2;
      want.packed = op.dims == 1 && round >= 4;
      want.logits = round % 3 == 1 ? 150 : 3;  // jumps that cut the rows
      want.log_decays = round % 3 == 0 ? -2 : 0;
      want.batch = 2;
      want.heads = 2;
      want.values = 3 + round % 2;
      want.keys = 5 + round % 3;
      want.grid = grids[op.dims - 1];
      question x = random_question(op, random, want);
      x.chunk = random.one_of<std::int64_t>({1, 4, 7, 32});
      for (std::int64_t& offset : x.where.offsets) offset %= 4;
      if (round % 4 == 1) hide_deleted(x);
      INFO(describe(op, x));
      const incoming to = random_incoming(op, x, random);
      const gradients came = op.backward(x, to);
      CHECK_FALSE(came.outside);
      check_differences(op, x, to, came);
      check_deleted(x, came);
      check_sums(op, x, to, came);
    }
  }
  MESSAGE(oracle::gradient_report());
  CHECK(oracle::gradient_record().entries >= 100000);
}

TEST_CASE("scan_backward: the other storage types agree with double") {
  std::map<dtype, double> worst;
  for (const operation& op : operations()) {
    generator random(33, op);
    if (op.is_double()) continue;
    const operation& wide = find(op.name.substr(0, op.name.rfind(' ')) + " double");
    for (int round = 0; round < 3; ++round) {
      question x = random_question(op, random, {.masked = round == 1, .with_state = round > 0, .log_decays = -2});
      for (std::int64_t& offset : x.where.offsets) offset %= 4;
      INFO(describe(op, x));
      incoming to = random_incoming(op, x, random);
      for (double& d : to.o) d = op.rounded(d);
      for (numbers* d : {&to.s, &to.z}) {
        for (double& one : *d) one = op.rounded_sum(one);
      }
      const gradients expected = wide.backward(x, to), came = op.backward(x, to);
      CHECK_FALSE(came.outside);
      const auto compare = [&](const std::string& name, numbers gradients::*part, double scale) {
        INFO(name);
        const double error = relative_error(came.*part, expected.*part, scale) / op.storage_epsilon();
        worst[op.type] = std::max(worst[op.type], error);
        // Gradients of two bytes are rounded once a pass.
        const double passes = op.like.order == oracle::traversal::axial           ? 2 * op.dims
                              : op.like.order == oracle::traversal::bidirectional ? 2
                                                                                  : 1;
        const double once = op.runs_on == device::cuda && op.uses_tiles ? 4 : 0.75;  // operands are rounded there
        CHECK(error <= (op.is_half() ? once + passes / 2 : 64));
      };
      const double reads = largest_reads(x.p, expected.q);
      double place = 0;
      for (std::size_t axis = 0; axis < x.where.extents.size(); ++axis)
        place = std::max(place, static_cast<double>(x.where.extents[axis] + x.where.offsets[axis]));
      compare("dq", &gradients::q, 0.1);
      compare("dk", &gradients::k, op.tied() ? reads : 0.1);
      compare("dv", &gradients::v, 0.1);
      compare("dlogits", &gradients::logits, reads);
      compare("dz0", &gradients::z0, reads);
      compare("ds0", &gradients::s0, 0.1);
      compare("dtheta", &gradients::theta, reads * place);
    }
  }
  MESSAGE("worst errors over the largest gradient, in roundings: float ", worst[dtype::float32], ", bfloat16 ",
          worst[dtype::bfloat16], ", float16 ", worst[dtype::float16]);
}
