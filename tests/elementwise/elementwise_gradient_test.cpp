// SPDX-License-Identifier: Apache-2.0
// The gradients of the element-wise recurrence: finite differences in double, and what they promise bit for bit.
#include <doctest/doctest.h>

#include <cmath>
#include <random>

#include "../oracle/gradient.hpp"
#include "elementwise.hpp"

namespace {

namespace ln = lightnet;
using elementwise::hgrn;
using elementwise::index;
using elementwise::layout;
using elementwise::question;
using elementwise::signed_hgrn;
using numbers::list;

// All gradients of a question, at every entry or at some.
template <class Recurrence, class Traversal, int Dims>
void check(const std::string& name, const question<Recurrence, Traversal, Dims>& q, std::size_t samples = 0) {
  using question_type = question<Recurrence, Traversal, Dims>;
  const auto weights = q.random_incoming();
  const auto d = q.backward(weights);
  const auto loss = [&](list<double> question_type::*input) {
    return [&, input](const list<double>& values) {
      question_type other = q;
      other.*input = values;
      const auto got = other.forward();
      return numbers::weighted_sum(got.o, weights.o) +
             (weights.h.empty() ? 0 : numbers::weighted_sum(got.h, weights.h));
    };
  };
  // Where every line has one token, decays have no gradient but noise.
  const oracle::gradient_options some{.samples = samples, .smallest_scale = 1e-3};
  const std::string title = name + " " + Traversal::name + " " + std::to_string(Dims);
  CHECK(oracle::check_gradient(title + " x", loss(&question_type::x), q.x, d.x, some) <= 1e-7);
  CHECK(oracle::check_gradient(title + " decay", loss(&question_type::decay), q.decay, d.decay, some) <= 1e-7);
  if (!q.initial.empty()) {
    CHECK(oracle::check_gradient(title + " state", loss(&question_type::initial), q.initial, d.h, some) <= 1e-7);
  }
  for (std::int64_t i = 0; i < q.size(); ++i) {
    if (q.on(i / q.row() / q.tokens(), i / q.row() % q.tokens())) continue;
    CHECK(d.x[index(i)] == 0);
    CHECK(d.decay[index(i)] == 0);
  }
}

template <class Recurrence>
void check_all(const std::string& name) {
  check(name, question<Recurrence, ln::causal>(2, {7}, 3, 5).from_state());
  check(name, question<Recurrence, ln::causal>(2, {11}, 2, 3).masked().from_state().laid_out(layout::tangled));
  check(name, question<Recurrence, ln::causal>(1, {19}, 2, 3).packed({0, 5, 5, 6, 19}).from_state());
  check(name, question<Recurrence, ln::causal, 2>(2, {3, 5}, 3, 2).laid_out(layout::gapped, true));
  check(name, question<Recurrence, ln::causal, 3>(1, {2, 3, 4}, 1, 5).masked().from_state());
  check(name, question<Recurrence, ln::bidirectional>(2, {9}, 3, 2).masked());
  check(name, question<Recurrence, ln::bidirectional>(1, {17}, 1, 3).packed({0, 3, 11, 17}).laid_out(layout::gapped));
  check(name, question<Recurrence, ln::bidirectional, 2>(1, {3, 4}, 2, 5).laid_out(layout::tangled));
  check(name, question<Recurrence, ln::axial>(2, {8}, 1, 3).masked());
  check(name, question<Recurrence, ln::axial, 2>(2, {3, 5}, 2, 3).masked().laid_out(layout::tangled, true));
  check(name, question<Recurrence, ln::axial, 3>(1, {4, 2, 3}, 2, 3));
  check(name, question<Recurrence, ln::axial, 4>(1, {2, 3, 1, 4}, 1, 5).laid_out(layout::gapped));
  // Several segments of the walk back, and their ends.
  for (const std::int64_t tokens : {31, 32, 33, 64, 130}) {
    check(name, question<Recurrence, ln::causal>(1, {tokens}, 1, 3, 100).from_state(), 60);
    check(name, question<Recurrence, ln::bidirectional>(1, {tokens}, 2, 2, 200).masked(), 40);
  }
}

// Questions of any shape, mask, state, layout and packing.
template <class Recurrence, class Traversal, int Dims>
void check_random(const std::string& name, std::uint64_t seeds) {
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    std::mt19937_64 random(seed);
    const auto draw = [&](std::int64_t low, std::int64_t high) {
      return low + static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(high - low + 1));
    };
    std::array<std::int64_t, static_cast<std::size_t>(Dims)> extents{};
    for (std::int64_t& extent : extents) extent = draw(1, Dims == 1 ? 40 : (Dims == 2 ? 7 : 3));
    const bool packed = Dims == 1 && draw(0, 2) == 0;
    const std::int64_t batch = packed ? 1 : draw(1, 3), heads = draw(1, 3), channels = draw(1, 4);
    question<Recurrence, Traversal, Dims> q(batch, extents, heads, channels, 1000 + seed);
    if (packed) {
      const std::int64_t first = draw(0, extents[0]);
      q.packed({0, first, draw(first, extents[0]), extents[0]});
    }
    if (draw(0, 1) == 1) q.masked();
    if (Traversal::stateful && draw(0, 1) == 1) q.from_state(seed);
    const auto how = static_cast<layout>(draw(0, 2));
    check(name + " random", q.laid_out(how, draw(0, 1) == 1));
  }
}

template <class Question>
bool same_gradients(const Question& a, const Question& b) {
  const auto weights = a.random_incoming();
  const auto left = a.backward(weights), right = b.backward(weights);
  return numbers::same_bits(left.x, right.x) && numbers::same_bits(left.decay, right.decay) &&
         numbers::same_bits(left.h, right.h);
}

list<double> part_of(const list<double>& all, std::int64_t first, std::int64_t count) {
  return {all.begin() + first, all.begin() + first + count};
}

}  // namespace

TEST_CASE("the gradients of the element-wise recurrence are those of finite differences") {
  check_all<hgrn>("elementwise");
  check_all<signed_hgrn>("signed elementwise");
  check_random<hgrn, ln::causal, 1>("elementwise", 12);
  check_random<hgrn, ln::causal, 2>("elementwise", 8);
  check_random<hgrn, ln::bidirectional, 1>("elementwise", 8);
  check_random<hgrn, ln::axial, 2>("elementwise", 8);
  check_random<hgrn, ln::axial, 3>("elementwise", 8);
  check_random<hgrn, ln::bidirectional, 4>("elementwise", 4);
  check_random<signed_hgrn, ln::causal, 1>("signed elementwise", 12);
  check_random<signed_hgrn, ln::bidirectional, 2>("signed elementwise", 8);
  check_random<signed_hgrn, ln::axial, 1>("signed elementwise", 8);
  check_random<signed_hgrn, ln::axial, 4>("signed elementwise", 4);
  MESSAGE(oracle::gradient_report());
}

TEST_CASE("a gradient runs through states: parts give the bits of the whole") {
  const auto split_at = [](const auto& q, std::int64_t split) {
    const auto weights = q.random_incoming();
    const auto whole = q.backward(weights);
    const std::int64_t rest = q.tokens() - split, row = q.row();
    auto left = q.part(0, 0, split), right = q.part(0, split, rest);
    left.initial = q.initial;
    right.initial = left.forward().h;
    const auto of_right = right.backward({part_of(weights.o, split * row, rest * row), weights.h});
    const auto of_left = left.backward({part_of(weights.o, 0, split * row), of_right.h});
    auto dx = of_left.x, ddecay = of_left.decay;
    dx.insert(dx.end(), of_right.x.begin(), of_right.x.end());
    ddecay.insert(ddecay.end(), of_right.decay.begin(), of_right.decay.end());
    CHECK(numbers::same_bits(dx, whole.x));
    CHECK(numbers::same_bits(ddecay, whole.decay));
    CHECK(numbers::same_bits(of_left.h, whole.h));
  };
  for (std::int64_t split = 0; split <= 130; ++split) {
    split_at(question<hgrn, ln::causal, 1, float>(1, {130}, 2, 5).masked().from_state(), split);
    split_at(question<signed_hgrn, ln::causal>(1, {130}, 1, 3).from_state(), split);
  }
}

TEST_CASE("what comes back to a masked token does not matter") {
  const auto check_masked = [](auto q) {
    q.masked();
    auto weights = q.random_incoming();
    const auto expected = q.backward(weights);
    for (std::int64_t i = 0; i < q.size(); ++i) {
      if (!q.on(0, i / q.row())) weights.o[index(i)] = numbers::not_a_number;
    }
    const auto got = q.backward(weights);
    CHECK(numbers::same_bits(got.x, expected.x));
    CHECK(numbers::same_bits(got.decay, expected.decay));
    for (const double value : got.x) CHECK(std::isfinite(value));
  };
  check_masked(question<hgrn, ln::causal, 1, float>(1, {41}, 3, 5));
  check_masked(question<signed_hgrn, ln::axial, 2>(1, {5, 7}, 3, 2));
}

TEST_CASE("gradients of packed sequences are those of each alone, bit for bit") {
  const auto check_packed = [](auto q) {
    const list<std::int64_t> lengths{0, 33, 33, 34, 101};
    q.packed(lengths).on_threads(2);
    const auto weights = q.random_incoming();
    const auto whole = q.backward(weights);
    for (std::size_t s = 0; s + 1 < lengths.size(); ++s) {
      const std::int64_t first = lengths[s] * q.row(), count = (lengths[s + 1] - lengths[s]) * q.row();
      const std::int64_t state = static_cast<std::int64_t>(s) * q.row();
      const auto alone = q.part(0, lengths[s], lengths[s + 1] - lengths[s]);
      const auto got = alone.backward(
          {part_of(weights.o, first, count), weights.h.empty() ? list<double>{} : part_of(weights.h, state, q.row())});
      CHECK(numbers::same_bits(got.x, part_of(whole.x, first, count)));
      CHECK(numbers::same_bits(got.decay, part_of(whole.decay, first, count)));
      if (!weights.h.empty()) CHECK(numbers::same_bits(got.h, part_of(whole.h, state, q.row())));
    }
  };
  check_packed(question<hgrn, ln::causal, 1, float>(1, {101}, 3, 5).masked());
  check_packed(question<hgrn, ln::bidirectional, 1, ln::bfloat16>(1, {101}, 2, 7));
  check_packed(question<signed_hgrn, ln::axial>(1, {101}, 1, 3).laid_out(layout::tangled));
}

TEST_CASE("gradients have the same bits for 1 to 17 threads and any layout") {
  const auto check_bits = [](auto q) {
    auto other = q;
    for (int threads = 2; threads <= 17; ++threads) CHECK(same_gradients(q, other.on_threads(threads)));
    CHECK(same_gradients(q, other.laid_out(layout::tangled)));
    CHECK(same_gradients(q, other.laid_out(layout::gapped, true)));
  };
  check_bits(question<hgrn, ln::causal, 1, float>(1, {43}, 3, 139).from_state());
  check_bits(question<signed_hgrn, ln::axial, 2, float>(2, {4, 11}, 3, 73).masked());
  check_bits(question<hgrn, ln::bidirectional, 3, ln::bfloat16>(3, {2, 3, 5}, 1, 7));
}

TEST_CASE("gradients that outgrow the caches have the bits that those of each head have alone") {
  using numbers_of_heads = ln::tensor<ln::rank<4>, float>;
  constexpr std::int64_t tokens = 4001, heads = 3, channels = 177;  // 8 MiB together
  const auto normal = [](unsigned seed, const auto& of) {
    numbers_of_heads made{{{1, tokens, heads, channels}}};
    std::mt19937 engine(seed);
    std::normal_distribution<float> distribution;
    for (std::int64_t i = 0; i < tokens * heads * channels; ++i) made.data()[i] = of(distribution(engine));
    return made;
  };
  const auto same = [](float x) { return x; };
  const numbers_of_heads x = normal(1, same), incoming = normal(2, same);
  const numbers_of_heads log_decay = normal(3, [](float z) { return -std::log1p(std::exp(-z)); });
  const auto unwritten = [&] { return normal(4, [](float) { return std::numeric_limits<float>::quiet_NaN(); }); };
  numbers_of_heads dx = unwritten(), ddecay = unwritten(), dx_alone = unwritten(), ddecay_alone = unwritten();
  ln::execution<ln::cpu> on(2);
  const auto backward = [&](std::int64_t first, std::int64_t count, numbers_of_heads& by_x,
                            numbers_of_heads& by_decay) {
    const auto part = [&](auto& of) { return of.view().slice(2, first, count); };
    ln::scan_backward<ln::elementwise, ln::causal>(on, {.x = part(x), .log_decay = part(log_decay)},
                                                   {.o = part(incoming)},
                                                   {.x = part(by_x), .log_decay = part(by_decay)});
  };
  backward(0, heads, dx, ddecay);
  for (std::int64_t h = 0; h < heads; ++h) backward(h, 1, dx_alone, ddecay_alone);
  std::int64_t differ = 0;
  for (std::int64_t i = 0; i < tokens * heads * channels; ++i) {
    differ += dx.data()[i] != dx_alone.data()[i] || ddecay.data()[i] != ddecay_alone.data()[i];
  }
  CHECK(differ == 0);
}

TEST_CASE("in float and in two bytes the gradients are those of double, rounded once") {
  const auto compare = [](const auto& q, const auto& in_double, double epsilon) {
    auto reference = in_double;
    reference.x = q.x;
    reference.decay = q.decay;
    reference.initial = q.initial;
    reference.keep = q.keep;
    const auto weights = q.random_incoming();
    const auto got = q.backward(weights), expected = reference.backward(weights);
    const auto near = [&](const list<double>& a, const list<double>& b, double rounding) {
      CHECK(a.size() == b.size());
      for (std::size_t i = 0; i < b.size(); ++i) CHECK(std::abs(a[i] - b[i]) <= rounding * std::abs(b[i]) + 0x1p-19);
    };
    near(got.x, expected.x, epsilon);
    near(got.decay, expected.decay, epsilon);
    if (!q.initial.empty()) near(got.h, expected.h, 0);
  };
  compare(question<hgrn, ln::causal, 1, float>(2, {71}, 3, 5).from_state(), question<hgrn, ln::causal>(2, {71}, 3, 5),
          0);
  compare(question<hgrn, ln::causal, 1, ln::bfloat16>(2, {71}, 3, 5).from_state().masked(),
          question<hgrn, ln::causal>(2, {71}, 3, 5), 0x1p-8);
  compare(question<hgrn, ln::axial, 2, ln::bfloat16>(2, {5, 7}, 3, 5), question<hgrn, ln::axial, 2>(2, {5, 7}, 3, 5),
          0x1p-8);
  compare(question<signed_hgrn, ln::bidirectional, 1, ln::float16>(1, {37}, 2, 3).masked(),
          question<signed_hgrn, ln::bidirectional>(1, {37}, 2, 3), 0x1p-11);
}

TEST_CASE("each gradient alone is the same, and nothing has the gradient of nothing") {
  const question<hgrn, ln::causal, 1, float> q(1, {37}, 2, 3);
  const auto weights = q.random_incoming();
  const auto all = q.backward(weights);
  ln::execution<ln::cpu> on(1);
  const std::array<std::int64_t, 4> shape{1, 37, 2, 3};
  const list<float> x = numbers::cast<float>(q.x), a = numbers::cast<float>(q.decay);
  const list<float> dout = numbers::cast<float>(weights.o), dlast = numbers::cast<float>(weights.h);
  list<float> dx = numbers::unwritten<float>(q.size()), ddecay = dx, dinitial = numbers::unwritten<float>(6);
  const ln::scan_inputs<hgrn> in{.x = numbers::view_of<4>(x, shape), .log_decay = numbers::view_of<4>(a, shape)};
  const ln::scan_incoming<hgrn> from{.o = numbers::view_of<4>(dout, shape),
                                     .state = numbers::view_of<3>(dlast, {1, 2, 3})};
  ln::scan_backward<hgrn, ln::causal>(on, in, from, {.x = numbers::view_of<4>(dx, shape)});
  ln::scan_backward<hgrn, ln::causal>(on, in, from, {.log_decay = numbers::view_of<4>(ddecay, shape)});
  ln::scan_backward<hgrn, ln::causal>(on, in, from, {.state = numbers::view_of<3>(dinitial, {1, 2, 3})});
  CHECK(numbers::same_bits(numbers::cast<double>(dx), all.x));
  CHECK(numbers::same_bits(numbers::cast<double>(ddecay), all.decay));
  CHECK(numbers::same_bits(numbers::cast<double>(dinitial), all.h));

  question<hgrn, ln::causal> none(2, {0}, 3, 5);
  const auto end = none.random_incoming();
  CHECK(numbers::same_bits(none.backward(end).h, end.h));
  CHECK(question<hgrn, ln::axial, 2>(2, {7, 3}, 2, 0).backward({}).x.empty());
  CHECK(question<hgrn, ln::bidirectional, 2, ln::bfloat16>(2, {3, 0}, 2, 5).backward({}).x.empty());
}
