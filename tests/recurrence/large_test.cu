// SPDX-License-Identifier: Apache-2.0
// Recurrences on the GPU at sizes that break what counts in 32 bits or expects a chunk: many lines, many elements, every
// length to 300, one long line, narrow heads, and strides beyond 2^31.
#include <lightnet/backend/random.hpp>
#include <lightnet/recurrence/additive.hpp>
#include <lightnet/recurrence/elementwise.hpp>
#include <lightnet/recurrence/elementwise_scan.hpp>
#include <lightnet/recurrence/scan.hpp>

#include "../cuda/memory.cuh"
#include "../oracle/recurrence.hpp"
#include "cases.hpp"
#include "random_question.hpp"
#include "relative_error.hpp"

namespace {

namespace ln = lightnet;
using namespace cases;

// --- Questions of the list of cases

// A question without resets, whose decays have room on both sides.
question smooth_question(const operation& op, generator& random, options want) {
  want.log_decays = -2;
  question x = random_question(op, random, want);
  if (op.decays()) {
    for (double& a : logits_of(x.p)) a = op.rounded(op.like.with_sign ? 0.8 * a : std::min(a, -0.2));
  }
  return x;
}

void check_forward(const operation& op, const question& x) {
  const auto expected = oracle::naive_recurrence(x.p);
  const answer came = op.forward(x);
  CHECK_FALSE(came.outside);
  CHECK(op.output_error(came.o, expected.o_long, expected.unit) <= op.tolerance());
  if (op.stateful) CHECK(op.state_error(mean_state(came.state, x.p), expected.s, expected.s_unit) <= op.tolerance());
}

double dot(const numbers& a, const numbers& b) {
  long double sum = 0;
  for (std::size_t n = 0; n < a.size(); ++n) sum += b[n] == 0 ? 0 : static_cast<long double>(a[n]) * b[n];
  return static_cast<double>(sum);
}

// What the gradients of `to` are gradients of.
double loss(const operation& op, const question& x, const incoming& to) {
  const answer came = op.forward(x);
  double sum = dot(to.o, came.o);
  if (!to.s.empty()) sum += dot(to.s, mean_state(came.state, x.p));
  if (!to.z.empty()) sum += dot(to.z, log_normaliser(came.state));
  return sum;
}

// The gradients in double along one random direction of all inputs, by central differences of two steps.
void check_direction(const operation& op, const question& x, generator& random) {
  const incoming to = random_incoming(op, x, random);
  const gradients came = op.backward(x, to);
  CHECK_FALSE(came.outside);
  struct part {
    numbers* from;
    const numbers* gradient;
    numbers direction;
  };
  question moved = x;
  std::vector<part> parts;
  double expected = 0, scale = 1e-30;
  const auto along = [&](numbers& from, const numbers& gradient) {
    if (from.empty() || gradient.empty()) return;
    REQUIRE(from.size() == gradient.size());
    parts.push_back({&from, &gradient, random.many(static_cast<std::int64_t>(from.size()), 1)});
    const numbers& direction = parts.back().direction;
    expected += dot(gradient, direction);
    for (std::size_t n = 0; n < gradient.size(); ++n) scale += std::abs(gradient[n] * direction[n]);
  };
  along(moved.p.q, came.q);
  along(moved.p.k, came.k);
  along(moved.p.v, came.v);
  if (!op.tied()) along(logits_of(moved.p), came.logits);
  along(moved.p.z0, came.z0);
  along(moved.p.s0, came.s0);
  const std::vector<part> all = parts;
  std::vector<numbers> at;
  for (const part& one : all) at.push_back(*one.from);
  const auto loss_at = [&](double step) {
    for (std::size_t n = 0; n < all.size(); ++n) {
      for (std::size_t i = 0; i < at[n].size(); ++i) (*all[n].from)[i] = at[n][i] + step * all[n].direction[i];
    }
    return loss(op, moved, to);
  };
  const auto slope = [&](double step) { return (loss_at(step) - loss_at(-step)) / (2 * step); };
  constexpr double step = 0x1p-10;
  const double found = (4 * slope(step) - slope(2 * step)) / 3;
  INFO("along a direction ", expected, ", by differences ", found, ", of terms that add up to ", scale);
  CHECK(std::abs(found - expected) <= 1e-8 * scale);
}

// The gradients in another type against those of double: the worst error over the largest of each and, of those that are
// differences of sums, over the largest sum where that is given; in roundings. Without states faster kernels may do it.
double error_against_double(const operation& op, const question& x, generator& random, bool over_sums) {
  incoming to = random_incoming(op, x, random);
  if (!x.with_state) to.s.clear(), to.z.clear();
  for (double& d : to.o) d = op.rounded(d);
  for (numbers* d : {&to.s, &to.z}) {
    for (double& one : *d) one = op.rounded_sum(one);
  }
  const gradients expected = find(op.name.substr(0, op.name.rfind(' ')) + " double").backward(x, to);
  const gradients came = op.backward(x, to);
  CHECK_FALSE(came.outside);
  double reads = 0, worst = 0;
  for (std::size_t n = 0; n < expected.q.size(); ++n) reads += std::abs(expected.q[n] * x.p.q[n]);
  const numbers* const got[] = {&came.q, &came.k, &came.v, &came.logits, &came.z0, &came.s0};
  const numbers* const wanted[] = {&expected.q, &expected.k, &expected.v, &expected.logits, &expected.z0, &expected.s0};
  for (std::size_t part = 0; part < std::size(got); ++part) {
    const double error = relative_error(*got[part], *wanted[part], over_sums ? 1 + reads : 0);
    worst = std::max(worst, error / op.storage_epsilon());
  }
  return worst;
}

// The grid of a line of tokens along the first or the last axis.
std::vector<std::int64_t> line_of(const operation& op, std::int64_t tokens, bool first) {
  std::vector<std::int64_t> grid(static_cast<std::size_t>(op.dims), 1);
  (first ? grid.front() : grid.back()) = tokens;
  return grid;
}

// --- Views of device memory

using half_view = ln::dynamic_view<4, ln::bfloat16, ln::cuda>;
using half_tensor = ln::tensor<ln::rank<4>, ln::bfloat16, ln::cuda>;
using additive_inputs = ln::scan_inputs<ln::additive, 1, ln::bfloat16, ln::cuda>;

void fill(ln::execution<ln::cuda>& on, half_tensor& to, std::uint64_t seed) {
  ln::fill_normal(on, ln::random_stream{seed}, 0,
                  ln::dynamic_view<1, ln::bfloat16, ln::cuda>{to.data(), {{to.size()}}});
}
half_view part(half_tensor& of, std::int64_t b) { return of.view().slice(0, b, 1); }

void forward(ln::execution<ln::cuda>& on, bool global, const half_view& q, const half_view& k, const half_view& v,
             const half_view& o) {
  const additive_inputs in{.q = q, .k = k, .v = v};
  if (global) {
    ln::scan<ln::additive, ln::global, ln::no_position, 1, ln::bfloat16>(on, in, {.o = o});
  } else {
    ln::scan<ln::additive, ln::causal, ln::no_position, 1, ln::bfloat16>(on, in, {.o = o});
  }
}
void backward(ln::execution<ln::cuda>& on, const half_view& q, const half_view& k, const half_view& v,
              const half_view& incoming, const half_view& dq, const half_view& dk, const half_view& dv) {
  const additive_inputs in{.q = q, .k = k, .v = v};
  ln::scan_backward<ln::additive, ln::causal, ln::no_position, 1, ln::bfloat16>(on, in, {.o = incoming},
                                                                                {.q = dq, .k = dk, .v = dv});
}

}  // namespace

TEST_CASE("large: 65538 sequences and heads") {
  generator random(71);
  std::int64_t asked = 0;
  for (const operation& op : operations()) {
    const std::vector<std::int64_t> grids[] = {{3}, {3, 1}, {1, 3, 1}, {1, 1, 1, 3}};
    const question x = smooth_question(
        op, random, {.keys = 2, .values = 3, .batch = 331, .heads = 198, .grid = grids[op.dims - 1], .prefix = 0});
    const problem& p = x.p;
    INFO(describe(op, x));
    const incoming to = random_incoming(op, x, random);
    const answer came = op.forward(x);
    const gradients d = op.backward(x, to);
    CHECK_FALSE(came.outside);
    CHECK_FALSE(d.outside);
    if (op.dims == 1 && op.type == dtype::float32 && asked++ < 5) {  // each takes the oracle a second
      const auto expected = oracle::naive_recurrence(p);
      CHECK(op.output_error(came.o, expected.o_long, expected.unit) <= op.tolerance());
    }
    for (const std::int64_t line :
         {std::int64_t{0}, std::int64_t{65534}, std::int64_t{65535}, std::int64_t{65536}, std::int64_t{65537}}) {
      const std::int64_t b = line / p.heads, h = line % p.heads;
      const question one = alone(x, b, h);
      CHECK(same(op.forward(one).o, picked(came.o, p, b, h, p.tokens, p.values)));
      const gradients of_one =
          op.backward(one, {picked(to.o, p, b, h, p.tokens, p.values), picked(to.z, p, b, h, 1, p.weights()),
                            picked(to.s, p, b, h, 1, p.features() * p.values)});
      CHECK(same(of_one.q, picked(d.q, p, b, h, p.tokens, p.keys)));
      CHECK(same(of_one.k, picked(d.k, p, b, h, p.tokens, p.keys)));
      CHECK(same(of_one.v, picked(d.v, p, b, h, p.tokens, p.values)));
    }
  }
}

TEST_CASE("long: every number of tokens from 1 to 300, values and gradients") {
  generator random(72);
  const auto& all = operations();
  for (std::int64_t tokens = 1; tokens <= 300; ++tokens) {
    for (std::size_t n = 0; n < all.size(); ++n) {
      if ((tokens + static_cast<std::int64_t>(n)) % 3 != 0) continue;  // each case at every third number
      const operation& op = all[n];
      const question x = smooth_question(op, random,
                                         {.with_state = random.coin(),
                                          .keys = 3,
                                          .values = 5,
                                          .batch = 1,
                                          .heads = 2,
                                          .grid = line_of(op, tokens, random.coin()),
                                          .prefix = 0});
      INFO(describe(op, x));
      check_forward(op, x);
      if (op.is_double()) check_direction(op, x, random);
      if (op.is_half()) CHECK(error_against_double(op, x, random, true) <= 8);
    }
  }
}

TEST_CASE("long: 65537 tokens, values and gradients") {
  generator random(73);
  for (const operation& op : operations()) {
    if (op.dims != 1 || op.is_half()) continue;
    const question x = smooth_question(
        op, random, {.keys = 3, .values = 2, .batch = 1, .heads = 1, .grid = line_of(op, 65537, true), .prefix = 0});
    INFO(describe(op, x));
    if (op.is_double()) {
      check_direction(op, x, random);
    } else {
      check_forward(op, x);
    }
  }
}

// What sums along the whole line must not lose its digits: errors are measured by the largest gradient. The CPU's are up to
// 1.4 roundings in two bytes, and 103 in float.
TEST_CASE("long: gradients in every type keep their digits over 65537 tokens") {
  generator random(75);
  for (const operation& op : operations()) {
    if (op.dims != 1 || op.is_double() || op.like.kind == oracle::recurrence::constant_decay) continue;
    for (const std::int64_t tokens : {200, 4096, 65537}) {
      const question x = smooth_question(
          op, random, {.keys = 7, .values = 5, .batch = 1, .heads = 1, .grid = line_of(op, tokens, true), .prefix = 0});
      const double error = error_against_double(op, x, random, false);
      MESSAGE(op.name, ", ", tokens, " tokens: ", error, " roundings");
      CHECK(error <= (op.is_half() ? 8 : 256));
    }
  }
}

TEST_CASE("cuda: gradients in two bytes without states, masked, packed and with jumps") {
  generator random(76);
  for (const operation& op : operations()) {
    if (!op.is_half()) continue;
    for (int round = 0; round < 24; ++round) {
      const question x = random_question(op, random,
                                         {.masked = round % 2 == 1,
                                          .packed = op.dims == 1 && round % 4 >= 2,
                                          .logits = round % 3 == 2 ? 150.0 : 3.0,
                                          .log_decays = -2,
                                          .keys = random.one_of<std::int64_t>({1, 7, 16, 63, 64, 65, 128, 129}),
                                          .values = random.one_of<std::int64_t>({1, 9, 32, 64, 65, 127, 128})});
      INFO(describe(op, x));
      CHECK(error_against_double(op, x, random, true) <= 8);
    }
  }
}

TEST_CASE("cuda: few keys and many values, and the other way round") {
  generator random(74);
  const auto& all = operations();
  for (std::size_t n = 0; n < all.size(); ++n) {
    const operation& op = all[n];
    for (const std::int64_t few : {1, 2, 3, 4, 5, 8, 9}) {
      for (const std::int64_t many : {127, 128, 129, 143, 203, 256}) {
        for (const bool few_keys : {true, false}) {
          if (random.integer(few <= 4 ? 2 : 8) != 0) continue;
          const question x = smooth_question(op, random,
                                             {.with_state = random.coin(),
                                              .keys = few_keys ? few : many,
                                              .values = few_keys ? many : few,
                                              .batch = 1,
                                              .heads = 1,
                                              .grid = line_of(op, 7, true),
                                              .prefix = 0});
          INFO(describe(op, x));
          check_forward(op, x);
          if (op.is_double()) {
            check_direction(op, x, random);
            continue;
          }
          CHECK(error_against_double(op, x, random, true) <= (op.is_half() ? 8 : 64));
        }
      }
    }
  }
}

TEST_CASE("large: tensors of more than 2^31 elements give a sequence the bits that it has alone") {
  constexpr std::int64_t batch = 1025, tokens = 4099, heads = 8, width = 64, row = tokens * heads * width;
  constexpr std::int64_t size = batch * row;
  static_assert(size > std::int64_t{1} << 31 && (batch - 2) * row < std::int64_t{1} << 31);
  // Four tensors of two bytes, and in the workspace three of four: a, w and 1 / Z.
  if (!memory::is_free(size * (4 * 2 + 3 * 4) + (std::int64_t{4} << 30))) return;
  const ln::rank<4> whole{{{batch, tokens, heads, width}}}, one{{{1, tokens, heads, width}}};
  ln::execution<ln::cuda> beside;
  half_tensor q{whole}, k{whole}, v{whole}, o{whole}, alone{one};
  fill(beside, q, 1);
  fill(beside, k, 2);
  fill(beside, v, 3);
  const auto compare = [&](half_tensor& all, const half_tensor& of_one, std::int64_t b) {
    CHECK(memory::same(beside, part(all, b).data(), of_one.data(), row));
  };
  for (const bool global : {false, true}) {
    CAPTURE(global);
    ln::execution<ln::cuda> on;  // whose workspace goes before the next takes one
    forward(on, global, q.view(), k.view(), v.view(), o.view());
    on.check();
    for (const std::int64_t b : {std::int64_t{0}, batch - 2, batch - 1}) {
      CAPTURE(b);
      forward(beside, global, part(q, b), part(k, b), part(v, b), alone.view());
      compare(o, alone, b);
    }
  }
  // dq, dk and dv, and eight arrays of sums.
  if (!memory::is_free(size * (3 * 2 + 8 * 4) + (std::int64_t{4} << 30))) return;
  half_tensor dq{whole}, dk{whole}, dv{whole}, dk_alone{one}, dv_alone{one};
  {
    ln::execution<ln::cuda> on;
    backward(on, q.view(), k.view(), v.view(), o.view(), dq.view(), dk.view(), dv.view());
    on.check();
  }
  for (const std::int64_t b : {std::int64_t{0}, batch - 2, batch - 1}) {
    CAPTURE(b);
    backward(beside, part(q, b), part(k, b), part(v, b), part(o, b), alone.view(), dk_alone.view(), dv_alone.view());
    compare(dq, alone, b);
    compare(dk, dk_alone, b);
    compare(dv, dv_alone, b);
  }
}

TEST_CASE("large: the element-wise recurrence of more than 2^31 elements") {
  using hgrn = ln::elementwise;
  constexpr std::int64_t batch = 4091, tokens = 8209, width = 64, row = tokens * width, size = batch * row;
  static_assert(size > std::int64_t{1} << 31 && (batch - 4) * row < std::int64_t{1} << 31);
  if (!memory::is_free(size * 3 * 2 + size / 256 * 3 * 8 * 2)) return;
  const ln::rank<4> whole{{{batch, tokens, 1, width}}};
  ln::execution<ln::cuda> on;
  half_tensor x{whole}, o{whole}, alone{ln::rank<4>{{{1, tokens, 1, width}}}};
  fill(on, x, 4);
  // A decay of one number, read everywhere.
  half_tensor decay{ln::rank<4>{{{1, 1, 1, 1}}}};
  const ln::bfloat16 rate{-0.0625F};
  ln::cuda::copy(decay.data(), &rate, sizeof rate);
  const auto ask = [&](const half_view& from, const half_view& to) {
    const half_view everywhere{decay.data(), {from.extents()}, {0, 0, 0, 0}};
    ln::scan<hgrn, ln::causal, ln::no_position, 1, ln::bfloat16>(on, {.x = from, .log_decay = everywhere}, {.o = to});
  };
  ask(x.view(), o.view());
  for (const std::int64_t b : {std::int64_t{0}, batch - 2, batch - 1}) {
    CAPTURE(b);
    ask(part(x, b), alone.view());
    CHECK(memory::same(on, part(o, b).data(), alone.data(), row));
  }
}

TEST_CASE("large: odd, negative and misaligned strides beyond 2^31") {
  constexpr std::int64_t batch = 2, tokens = 37, heads = 3, keys = 11, values = 7, apart = (std::int64_t{1} << 31) + 7;
  constexpr std::int64_t region = 5000, regions = 8;
  if (!memory::is_free((apart + region * regions) * 2)) return;
  ln::tensor<ln::rank<1>, ln::bfloat16, ln::cuda> block{{{apart + region * regions}}};
  // Sequence 0 lies `apart` elements before sequence 1, or behind it; tokens and heads run either way, channels in threes.
  const auto strided = [&](std::int64_t n, std::int64_t channels) -> half_view {
    const bool back = n % 2 == 1, down = n % 3 == 1, left = n % 4 == 2;
    const std::int64_t of_head = 3 * channels + 2, of_token = heads * of_head + 1;
    const std::int64_t first =
        n * region + 1 + (back ? apart : 0) + (down ? (tokens - 1) * of_token : 0) + (left ? (heads - 1) * of_head : 0);
    return {block.data() + first,
            {{{batch, tokens, heads, channels}}},
            {back ? -apart : apart, down ? -of_token : of_token, left ? -of_head : of_head, 3}};
  };
  const ln::rank<4> of_keys{{{batch, tokens, heads, keys}}}, of_values{{{batch, tokens, heads, values}}};
  ln::execution<ln::cuda> on;
  half_tensor q{of_keys}, k{of_keys}, v{of_values}, incoming{of_values};
  half_tensor o{of_values}, dq{of_keys}, dk{of_keys}, dv{of_values};
  std::uint64_t seed = 10;
  for (half_tensor* each : {&q, &k, &v, &incoming}) fill(on, *each, seed++);
  half_tensor* const all[] = {&q, &k, &v, &incoming, &o, &dq, &dk, &dv};
  std::vector<half_view> views;
  for (std::int64_t n = 0; n < regions; ++n) views.push_back(strided(n, all[n]->extent(3)));
  using sequence = ln::head_sequence<1, ln::bfloat16, ln::cuda>;
  using const_sequence = ln::head_sequence<1, const ln::bfloat16, ln::cuda>;
  const auto copy = [&](const half_view& from, const half_view& to) {
    ln::detail::convert_sequence<ln::bfloat16, ln::bfloat16>(on, const_sequence{sequence{from}}, sequence{to});
  };
  for (std::size_t n = 0; n < 4; ++n) copy(all[n]->view(), views[n]);
  for (const bool global : {false, true}) {
    CAPTURE(global);
    forward(on, global, views[0], views[1], views[2], views[4]);
    forward(on, global, q.view(), k.view(), v.view(), o.view());
    half_tensor back{of_values};
    copy(views[4], back.view());
    CHECK(memory::same(on, back.data(), o.data(), o.size()));
  }
  backward(on, views[0], views[1], views[2], views[3], views[5], views[6], views[7]);
  backward(on, q.view(), k.view(), v.view(), incoming.view(), dq.view(), dk.view(), dv.view());
  for (std::size_t n = 5; n < 8; ++n) {
    CAPTURE(n);
    half_tensor back{ln::rank<4>{all[n]->extents()}};
    copy(views[n], back.view());
    CHECK(memory::same(on, back.data(), all[n]->data(), back.size()));
  }
}
