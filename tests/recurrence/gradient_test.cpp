// SPDX-License-Identifier: Apache-2.0
// The gradients of scan by finite differences in double, for every input, and the sums that they must give.
#include <doctest/doctest.h>

#include "../oracle/gradient.hpp"
#include "cases.hpp"

using namespace cases;

namespace {

double dot(const numbers& a, const numbers& b) {
  REQUIRE(a.size() == b.size());
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

incoming random_incoming(const operation& op, const problem& p, generator& random) {
  incoming to;
  to.o = random.many(p.batch * p.tokens * p.heads * p.values, 1);
  if (!op.stateful) return to;
  to.s = random.many(p.batch * p.heads * p.features() * p.values, 1);
  if (op.additive()) to.z = random.many(p.batch * p.heads * p.keys, 1);
  return to;
}

// What the gradients of `to` are gradients of. The normaliser of a channel that stays empty does not count.
double loss(const operation& op, const question& x, const incoming& to) {
  const answer came = op.forward(x);
  double sum = dot(to.o, came.o);
  if (!to.s.empty()) sum += dot(to.s, mean_state(came.state, x.p));
  if (!to.z.empty()) {
    const numbers z = log_normaliser(came.state);
    for (std::size_t n = 0; n < z.size(); ++n) sum += z[n] == -inf ? 0 : to.z[n] * z[n];
  }
  return sum;
}

void check_all(const operation& op, const question& x, generator& random) {
  INFO(describe(op, x));
  const incoming to = random_incoming(op, x.p, random);
  const gradients came = op.backward(x, to);
  const oracle::gradient_options options{.samples = 30, .step = 0x1p-9, .smallest_scale = 1e-3, .seed = 3};
  const auto check = [&](const std::string& name, const numbers& from, const numbers& gradient, auto place) {
    INFO(name);
    const auto changed = [&](const numbers& values) {
      question y = x;
      place(y) = values;
      if (!y.theta.empty()) give_angles(y);
      return loss(op, y, to);
    };
    CHECK(oracle::check_gradient(op.name + " d" + name, changed, from, gradient, options) <= 1e-7);
  };
  check("q", x.p.q, came.q, [](question& y) -> numbers& { return y.p.q; });
  check("k", x.p.k, came.k, [](question& y) -> numbers& { return y.p.k; });
  check("v", x.p.v, came.v, [](question& y) -> numbers& { return y.p.v; });
  if (!came.z0.empty()) check("z0", x.p.z0, came.z0, [](question& y) -> numbers& { return y.p.z0; });
  if (!came.s0.empty()) check("s0", x.p.s0, came.s0, [](question& y) -> numbers& { return y.p.s0; });
  if (!came.log_decay.empty()) {
    check("log_decay", x.p.log_decay, came.log_decay, [](question& y) -> numbers& { return y.p.log_decay; });
  }
  if (!came.theta.empty()) check("theta", x.theta, came.theta, [](question& y) -> numbers& { return y.theta; });

  // What is masked has no gradient at all.
  for (std::size_t n = 0; n < x.p.mask.size(); ++n) {
    if (x.p.mask[n] != 0) continue;
    const auto zero = [&](const numbers& gradient, std::int64_t width) {
      const auto first = gradient.begin() + static_cast<std::ptrdiff_t>(n) * width;
      CHECK(std::all_of(first, first + width, [](double g) { return g == 0; }));
    };
    zero(came.q, x.p.heads * x.p.keys);
    zero(came.k, x.p.heads * x.p.keys);
    zero(came.v, x.p.heads * x.p.values);
  }

  // sum_t dk_t + dz_0 = dz_N, in every channel that is not empty at the end.
  if (!op.additive() || (op.sink && !x.with_state) || op.order == oracle::traversal::bidirectional) return;
  const numbers z = op.stateful ? log_normaliser(op.forward(x).state) : numbers{};
  for (std::int64_t b = 0; b < x.p.batch; ++b) {
    for (std::int64_t n = b * x.p.heads * x.p.keys; n < (b + 1) * x.p.heads * x.p.keys; ++n) {
      const auto place = static_cast<std::size_t>(n);
      double sum = came.z0.empty() ? 0 : came.z0[place], scale = 1;
      for (std::int64_t t = 0; t < x.p.tokens; ++t) {
        const double dk = came.k[static_cast<std::size_t>((b * x.p.tokens + t - b) * x.p.heads * x.p.keys + n)];
        sum += dk;
        scale += std::abs(dk);
      }
      const double expected = to.z.empty() || z[place] == -inf ? 0 : to.z[place];
      CHECK(std::abs(sum - expected) <= 1e-12 * scale);
    }
  }
}

}  // namespace

TEST_CASE("scan_backward: every case by finite differences") {
  generator random(2);
  const std::vector<std::int64_t> grids[] = {{19}, {3, 5}, {2, 3, 2}};
  for (const operation& op : operations()) {
    if (!op.is_double) continue;
    for (int round = 0; round < 12; ++round) {
      options want;
      want.masked = round % 2 == 1;
      want.with_state = round / 2 % 2 == 1;
      want.extreme = round % 3 == 2;
      want.logits = round % 3 == 1 ? 150 : 3;  // jumps that cut the rows
      want.batch = 2;
      want.values = 3 + round % 2;
      want.keys = 5 + round % 3;
      want.grid = grids[op.dims - 1];
      question x = random_question(op, random, want);
      x.chunk = random.one_of<std::int64_t>({1, 4, 7, 64});
      for (std::int64_t& offset : x.where.offsets) offset %= 4;
      give_angles(x);
      if (!x.default_log_decay) {  // the first is mild: the gradient of a strong decay is nothing but noise
        for (double& rate : x.p.log_decay) rate = random.one_of<double>({-0.02, -1.7, -90, -3000, -inf});
        if (!op.additive()) x.p.log_decay[0] = random.one_of<double>({-0.02, -1.7});
      }
      for (std::size_t n = 0; n < x.p.mask.size(); ++n) {
        if (x.p.mask[n] != 0 || round % 4 != 1) continue;
        const auto hide = [&](numbers& values, std::int64_t width) {
          std::fill_n(values.begin() + static_cast<std::ptrdiff_t>(n) * width, width, not_a_number);
        };
        hide(x.p.q, x.p.heads * x.p.keys);
        hide(x.p.k, x.p.heads * x.p.keys);
        hide(x.p.v, x.p.heads * x.p.values);
      }
      check_all(op, x, random);
    }
  }
  MESSAGE(oracle::gradient_report());
}
