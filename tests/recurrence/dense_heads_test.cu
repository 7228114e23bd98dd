// SPDX-License-Identifier: Apache-2.0
// The additive recurrence at the sizes of heads that models have, in rows that lie densely and without states, as the copy
// engine reads them: causal, global and with MD-LRPE, for logits that are mild and for such as make the frame jump.
#include <lightnet/backend/cuda/operand_maps.cuh>
#include <lightnet/backend/execution.hpp>
#include <lightnet/core/head_sequence.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "../few.hpp"
#include "../oracle/recurrence.hpp"
#include "cases.hpp"
#include "random_question.hpp"
#include "relative_error.hpp"

namespace {

using namespace cases;

double normal(generator& random) {
  // The middle of one less a uniform number, so that the logarithm is finite.
  const double radius = std::sqrt(-2 * std::log(1 - random.uniform(0, 1)));
  return radius * std::cos(2 * std::acos(-1.0) * random.uniform(0, 1));
}

// A logit of token t of T and a channel.
using logits = std::function<double(generator&, std::int64_t t, std::int64_t tokens, std::int64_t channel)>;

const std::vector<std::pair<std::string, logits>>& kinds_of_logits() {
  using random_of = generator&;
  using index = std::int64_t;
  static const std::vector<std::pair<std::string, logits>> all = {
      {"of standard deviation 1", [](random_of r, index, index, index) { return normal(r); }},
      {"of standard deviation 5", [](random_of r, index, index, index) { return 5 * normal(r); }},
      {"of standard deviation 30", [](random_of r, index, index, index) { return 30 * normal(r); }},
      {"that rise", [](random_of r, index t, index, index) { return normal(r) + 0.5 * static_cast<double>(t); }},
      {"that fall", [](random_of r, index t, index, index) { return normal(r) - 0.5 * static_cast<double>(t); }},
      {"with spikes", [](random_of r, index, index, index) { return normal(r) + (r.integer(37) == 0 ? 55 : 0); }},
      {"with a step", [](random_of r, index t, index tokens, index) { return normal(r) + (2 * t < tokens ? 0 : 200); }},
      {"of which some are -inf",
       [](random_of r, index t, index, index channel) {
         const bool late = channel % 5 == 0 && t < 70, never = channel % 7 == 3;
         return late || never || r.integer(4) == 0 ? -inf : normal(r);
       }},
  };
  return all;
}

bool asked_here(const operation& op) {
  return op.tied() && !op.sink && !op.is_double() && (op.causal() || !op.ordered()) &&
         (op.dims == 1 || (op.dims == 2 && op.like.position == oracle::encoding::cosine));
}

question dense_question(const operation& op, generator& random, std::int64_t keys, std::int64_t values,
                        std::int64_t tokens, std::int64_t batch, std::int64_t heads, const logits& of) {
  std::vector<std::int64_t> grid(static_cast<std::size_t>(op.dims), 1);
  grid.front() = tokens;
  question x = random_question(
      op, random, {.keys = keys, .values = values, .batch = batch, .heads = heads, .grid = grid, .prefix = 0});
  x.memory = layout::dense;
  x.final_state = false;
  x.chunk = 0;
  x.theta.clear();  // no gradient by it is asked for
  give_angles(x);
  problem& p = x.p;
  for (double& number : p.q) number = op.rounded(normal(random));
  for (double& number : p.v) number = op.rounded(normal(random));
  for (std::int64_t n = 0; n < static_cast<std::int64_t>(p.k.size()); ++n)
    p.k[static_cast<std::size_t>(n)] = op.rounded(of(random, n / (heads * keys) % tokens, tokens, n % keys));
  return x;
}

// How far the outputs are from the oracle's, and the gradients from those of double, at worst, the same bits coming when asked
// once more: outputs in units of rounding;
// gradients in roundings of the largest number of each, of those of keys, which are differences, of their terms.
struct errors {
  double o = 0, q = 0, k = 0, v = 0;

  void take_in(const errors& other) {
    o = std::max(o, other.o);
    q = std::max(q, other.q);
    k = std::max(k, other.k);
    v = std::max(v, other.v);
  }
};

errors errors_of(const operation& op, const question& x, generator& random) {
  const auto right = oracle::naive_recurrence(x.p);
  const answer whole = op.forward(x);
  CHECK_FALSE(whole.outside);
  if (!few_will_do()) CHECK(same(op.forward(x).o, whole.o));
  incoming to;
  for (std::size_t n = 0; n < x.p.v.size(); ++n) to.o.push_back(op.rounded(normal(random)));
  const gradients expected = find(op.name.substr(0, op.name.rfind(' ')) + " double").backward(x, to);
  const gradients came = op.backward(x, to);
  CHECK_FALSE(came.outside);
  if (!few_will_do()) CHECK(same(op.backward(x, to), came));
  const auto roundings = [&](const numbers& a, const numbers& b, double scale = 0) {
    return relative_error(a, b, scale) / op.storage_epsilon();
  };
  return {op.output_error(whole.o, right.o_long, right.unit), roundings(came.q, expected.q),
          roundings(came.k, expected.k, largest_product(x.p.q, expected.q)), roundings(came.v, expected.v)};
}

errors check(const operation& op, const question& x, generator& random) {
  const errors of = errors_of(op, x, random);
  const double allowed = op.is_half() ? 8 : x.p.tokens > 300 ? 256 : 128;  // as of other long lines
  CHECK(of.o <= op.tolerance());
  CHECK(of.q <= allowed);
  CHECK(of.k <= allowed);
  CHECK(of.v <= allowed);
  return of;
}

void tell(const operation& op, const errors& worst) {
  MESSAGE(op.name, ": outputs ", worst.o, " of ", op.tolerance(), ", gradients ", worst.q, ", ", worst.k, ", ",
          worst.v);
}

}  // namespace

TEST_CASE("dense heads: the copy engine reads those of 64 and 128 channels that lie in whole words of it") {
  if (!ln::execution<ln::cuda>{}.takes_hopper()) return;
  for (const std::int64_t channels : {64, 128}) {
    const ln::tensor<ln::rank<4>, ln::bfloat16, ln::cuda> memory{{{2, 300, 3, channels + 8}}};
    const auto whole = memory.view();
    const auto read = [&](const auto& view, std::int64_t wide) {
      CUtensorMap map;
      return ln::detail::map_operand(ln::head_sequence<1, const ln::bfloat16, ln::cuda>{view}, wide, map);
    };
    CHECK(read(whole.slice(3, 0, channels), channels));
    CHECK(read(whole.slice(3, 8, channels), channels));
    CHECK(read(whole.slice(3, 0, channels).slice(1, 299, 1), channels));
    CHECK_FALSE(read(whole.slice(3, 1, channels), channels));
    CHECK_FALSE(read(whole.slice(3, 0, channels - 8), channels));
    CHECK_FALSE(read(ln::dynamic_view<4, const ln::bfloat16, ln::cuda>{}, channels));
  }
}

TEST_CASE("dense heads: outputs are the oracle's, gradients those of double, whatever the logits") {
  using list = std::vector<std::int64_t>;
  const bool few = few_will_do();
  std::vector<std::pair<std::int64_t, std::int64_t>> sizes;
  for (const std::int64_t width : few ? list{64, 128} : list{16, 32, 64, 96, 128, 192, 256})
    sizes.emplace_back(width, width);
  if (!few) sizes.insert(sizes.end(), {{64, 128}, {128, 64}});
  const auto& kinds = kinds_of_logits();
  REQUIRE(std::any_of(operations().begin(), operations().end(), asked_here));
  for (const operation& op : operations()) {
    if (!asked_here(op)) continue;
    generator random(91, op);
    std::size_t turn = 0;
    errors worst;
    for (const auto& [keys, values] : sizes) {
      for (const std::int64_t tokens : few ? list{300} : list{1, 63, 64, 65, 129, 300, 2049}) {
        const bool one_kind = few || tokens > 300 || keys > 128;
        for (std::size_t n = 0; n < (one_kind ? 1 : kinds.size()); ++n) {
          // Of few those whose frame jumps.
          const auto& [name, of] = kinds[few ? (turn++ % 2 == 0 ? 2 : 6) : one_kind ? turn++ % kinds.size() : n];
          // Few numbers alone may all happen to be small sums of large terms.
          const std::int64_t heads = tokens == 1 ? 8 : 2;
          const question x = dense_question(op, random, keys, values, tokens, tokens > 300 ? 1 : 2, heads, of);
          INFO(describe(op, x), ", logits ", name);
          worst.take_in(check(op, x, random));
        }
      }
    }
    tell(op, worst);
  }
}

TEST_CASE("dense heads: every number of tokens from 1 to 300") {
  if (few_will_do()) return;
  const auto& kinds = kinds_of_logits();
  for (const operation& op : operations()) {
    if (!asked_here(op) || !op.is_half()) continue;
    generator random(93, op);
    errors worst;
    for (std::int64_t tokens = 1; tokens <= 300; ++tokens) {
      const auto& [name, of] = kinds[static_cast<std::size_t>(tokens) % kinds.size()];
      const std::int64_t width = tokens % 3 == 0 ? 128 : 64, heads = tokens < 16 ? 16 / tokens : 1;
      const question x = dense_question(op, random, width, width, tokens, 1, heads, of);
      INFO(describe(op, x), ", logits ", name);
      worst.take_in(check(op, x, random));
    }
    tell(op, worst);
  }
}

TEST_CASE("dense heads: the same bits in a hundred runs") {
  for (const operation& op : operations()) {
    if (!asked_here(op)) continue;
    generator random(94, op);
    for (const std::int64_t width : {64, 128}) {
      const question x = dense_question(op, random, width, width, 213, 2, 3, kinds_of_logits()[1].second);
      INFO(describe(op, x));
      incoming to;
      for (std::size_t n = 0; n < x.p.v.size(); ++n) to.o.push_back(op.rounded(normal(random)));
      const answer expected = op.forward(x);
      const gradients gradient = op.backward(x, to);
      bool kept = true;
      for (int run = 1; run < often(100); ++run) {
        kept = kept && same(op.forward(x).o, expected.o) && same(op.backward(x, to), gradient);
      }
      CHECK(kept);
    }
  }
}

TEST_CASE("dense heads: 65537 tokens of a head of 128") {
  for (const operation& op : operations()) {
    if (!asked_here(op)) continue;
    generator random(92, op);
    const question x = dense_question(op, random, 128, 128, 65537, 1, 1, kinds_of_logits().front().second);
    INFO(describe(op, x));
    tell(op, check(op, x, random));
  }
}
