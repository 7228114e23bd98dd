// SPDX-License-Identifier: Apache-2.0
// The element-wise recurrence against a naive one in long double, and what it promises bit for bit.
#include <doctest/doctest.h>

#include <cfenv>
#include <cmath>

#include "elementwise.hpp"

#if defined(_OPENMP)
#include <omp.h>
#endif

namespace {

namespace ln = lightnet;
using elementwise::hgrn;
using elementwise::index;
using elementwise::infinity;
using elementwise::layout;
using elementwise::question;
using elementwise::same_answer;
using elementwise::signed_hgrn;
using elementwise::worst_error;
using numbers::list;

static_assert(ln::elementwise_recurrence<hgrn> && ln::elementwise_recurrence<signed_hgrn>);
static_assert(!ln::matrix_recurrence<hgrn> && !hgrn::commutative && !hgrn::with_sign && signed_hgrn::with_sign);

template <class Recurrence, class Traversal, class T, int Dims>
void check_values(const std::array<std::int64_t, static_cast<std::size_t>(Dims)>& extents) {
  using question_type = question<Recurrence, Traversal, Dims, T>;
  std::uint64_t seed = 1;
  for (const layout how : {layout::dense, layout::tangled, layout::gapped}) {
    for (const bool masked : {false, true}) {
      CAPTURE(static_cast<int>(how));
      CAPTURE(masked);
      question_type q(2, extents, 3, 5, seed++);
      q.laid_out(how, masked).on_threads(masked ? 3 : 1);
      if (masked) q.masked();
      if (Traversal::stateful && how != layout::dense) q.from_state();
      CHECK(worst_error(q) <= 1);
      if (!masked) continue;
      const auto o = q.forward().o;
      for (std::int64_t i = 0; i < q.size(); ++i) {
        if (q.keep[index(i / q.row())] == 0) CHECK(o[index(i)] == 0);
      }
    }
  }
}

template <class Recurrence, class T>
void check_dimensions() {
  check_values<Recurrence, ln::causal, T, 1>({37});
  check_values<Recurrence, ln::bidirectional, T, 1>({19});
  check_values<Recurrence, ln::axial, T, 1>({11});
  check_values<Recurrence, ln::causal, T, 2>({5, 7});
  check_values<Recurrence, ln::bidirectional, T, 2>({7, 3});
  check_values<Recurrence, ln::axial, T, 2>({4, 9});
  check_values<Recurrence, ln::causal, T, 3>({3, 4, 5});
  check_values<Recurrence, ln::axial, T, 3>({4, 3, 5});
  check_values<Recurrence, ln::bidirectional, T, 4>({2, 3, 1, 5});
  check_values<Recurrence, ln::axial, T, 4>({3, 2, 5, 4});
}

// Every floating-point exception that must not happen, in every thread of a team.
int raised(int threads, const std::function<void()>& call) {
  int flags = 0;
  const auto everywhere = [&](const std::function<void()>& visit) {
#if defined(_OPENMP)
#pragma omp parallel num_threads(threads)
    {
#pragma omp critical
      visit();
    }
#else
    static_cast<void>(threads);
    visit();
#endif
  };
  everywhere([] { std::feclearexcept(FE_ALL_EXCEPT); });
  call();
  everywhere([&] { flags |= std::fetestexcept(FE_OVERFLOW | FE_INVALID | FE_DIVBYZERO); });
  return flags;
}

}  // namespace

TEST_CASE("the element-wise recurrence is the naive one, in every traversal of 1 to 4 dimensions") {
  check_dimensions<hgrn, double>();
  check_dimensions<signed_hgrn, double>();
  check_dimensions<hgrn, float>();
  check_dimensions<signed_hgrn, float>();
}

TEST_CASE("in two bytes it is that with one rounding at the end") {
  check_dimensions<hgrn, ln::bfloat16>();
  check_dimensions<hgrn, ln::float16>();
  check_dimensions<signed_hgrn, ln::bfloat16>();
}

TEST_CASE("rows of every width and long lines keep the tolerance") {
  for (const std::int64_t channels : {1, 2, 63, 64, 65, 129, 511, 512, 513, 1031}) {
    CAPTURE(channels);
    CHECK(worst_error(question<hgrn, ln::causal, 1, float>(1, {5}, 1, channels)) <= 1);
    CHECK(worst_error(question<hgrn, ln::axial, 1, ln::bfloat16>(1, {5}, 3, channels).laid_out(layout::gapped)) <= 1);
  }
  CHECK(worst_error(question<hgrn, ln::causal, 1, float>(1, {5003}, 1, 3)) <= 1);
  // Decays near one remember: the unit grows with the number of tokens.
  question<hgrn, ln::causal, 1, float> slow(1, {3001}, 1, 5);
  for (double& a : slow.decay) a = static_cast<double>(static_cast<float>(-0x1p-9 * std::abs(slow.x[0])));
  CHECK(worst_error(slow) <= 1);
}

TEST_CASE("a decay is e^log within 2 ulp, down to the subnormal numbers, and NaN above 1") {
  const auto check = [](auto low, auto step) {
    using T = decltype(low);
    using limits = std::numeric_limits<T>;
    double worst = 0;
    for (T x = low; x <= T(0); x += step) {
      const long double expected = std::exp(static_cast<long double>(x));
      const long double ulp = std::max<long double>(limits::denorm_min(), expected * limits::epsilon() / 2);
      worst = std::max(worst, static_cast<double>(std::abs(ln::detail::decay_of_logarithm(x) - expected) / ulp));
    }
    CHECK(worst <= 2);
    CHECK(worst > 0.4);
    for (const T x : {T(-infinity), limits::lowest(), T(-1e4), low}) CHECK(ln::detail::decay_of_logarithm(x) == 0);
    for (const T x : {-limits::denorm_min(), T(-0.0), T(0)}) CHECK(ln::detail::decay_of_logarithm(x) == 1);
    for (const T x : {limits::denorm_min(), T(1), T(infinity), limits::quiet_NaN()}) {
      CHECK(std::isnan(ln::detail::decay_of_logarithm(x)));
    }
  };
  check(-120.0F, 0x1p-12F);
  check(-760.0, 0x1p-9);
}

TEST_CASE("whole, split anywhere, and token by token give the same bits") {
  const auto check = [](auto q) {
    q.from_state();
    const auto whole = q.forward();
    const std::int64_t row = q.row();
    const auto follow = [&](const list<std::int64_t>& ends) {
      list<double> o, h = q.initial;
      list<double> product(index(row), 1.0);
      for (std::size_t i = 0; i + 1 < ends.size(); ++i) {
        auto part = q.part(0, ends[i], ends[i + 1] - ends[i]);
        part.initial = h;
        const auto got = part.forward();
        o.insert(o.end(), got.o.begin(), got.o.end());
        h = got.h;
        for (std::size_t c = 0; c < product.size(); ++c) product[c] *= got.decay[c];
      }
      CHECK(numbers::same_bits(o, whole.o));
      CHECK(numbers::same_bits(h, whole.h));
      CHECK(numbers::largest_difference(product, whole.decay) <= 1e-6);
    };
    for (std::int64_t split = 0; split <= 130; ++split) follow({0, split, 130});
    list<std::int64_t> each(131);
    std::iota(each.begin(), each.end(), 0);
    follow(each);
  };
  check(question<hgrn, ln::causal, 1, float>(1, {130}, 3, 7));
  check(question<signed_hgrn, ln::causal>(1, {130}, 1, 5).masked());
  check(question<hgrn, ln::causal, 1, ln::bfloat16>(1, {130}, 2, 3).laid_out(layout::tangled));
}

TEST_CASE("scan_step takes one token into the state in place") {
  constexpr std::int64_t batch = 3, heads = 2, channels = 5, tokens = 130;
  question<hgrn, ln::causal, 1, float> q(batch, {tokens}, heads, channels);
  q.masked();
  const auto whole = q.forward();
  ln::execution<ln::cpu> on(2);
  list<float> h(index(q.state_size()), 0.0F), product(index(q.state_size()), 1.0F);
  const std::array<std::int64_t, 4> shape{batch, 1, heads, channels};
  const std::array<std::int64_t, 3> state{batch, heads, channels};
  std::int64_t different = 0;
  for (std::int64_t t = 0; t < tokens; ++t) {
    list<float> x, a, o = numbers::unwritten<float>(q.state_size());
    bool keep[batch];
    for (std::int64_t b = 0; b < batch; ++b) {
      keep[b] = q.on(b, t);
      for (std::int64_t c = 0; c < q.row(); ++c) {
        x.push_back(static_cast<float>(q.x[q.at(b, t, c)]));
        a.push_back(static_cast<float>(q.decay[q.at(b, t, c)]));
      }
    }
    ln::scan_step<hgrn, ln::no_position, 1, float>(
        on,
        {.x = numbers::view_of<4>(x, shape), .log_decay = numbers::view_of<4>(a, shape), .mask = {keep, {{batch, 1}}}},
        {.o = numbers::view_of<4>(o, shape),
         .state = {numbers::view_of<3>(h, state), numbers::view_of<3>(product, state)}});
    for (std::int64_t i = 0; i < q.state_size(); ++i) {
      different += static_cast<double>(o[index(i)]) != whole.o[q.at(i / q.row(), t, i % q.row())] ? 1 : 0;
    }
  }
  CHECK(different == 0);
  CHECK(numbers::same_bits(numbers::cast<double>(h), whole.h));
  CHECK(numbers::same_bits(numbers::cast<double>(product), whole.decay));
}

TEST_CASE("merging the states of any partition gives the state of the whole") {
  constexpr std::int64_t batch = 2, heads = 2, channels = 3, tokens = 67;
  const std::array<std::int64_t, 3> shape{batch, heads, channels};
  ln::execution<ln::cpu> on(2);
  // The state of a part, [B, H, d].
  struct state {
    list<double> h, decay;
  };
  const auto view = [&](state& some) {
    return ln::vector_state<double>{numbers::view_of<3>(some.h, shape), numbers::view_of<3>(some.decay, shape)};
  };
  const auto check = [&](auto q) {
    using policy = typename decltype(q)::policy;
    const auto of = [&](std::int64_t first, std::int64_t count) {
      state all;
      for (std::int64_t b = 0; b < batch; ++b) {
        const auto got = q.part(b, first, count).forward();
        all.h.insert(all.h.end(), got.h.begin(), got.h.end());
        all.decay.insert(all.decay.end(), got.decay.begin(), got.decay.end());
      }
      return all;
    };
    // Slow decays, so that the first tokens still count at the end.
    for (double& a : q.decay) a = policy::with_sign ? a * 2 / (1 + std::abs(a)) : std::max(a, -0.25);
    for (const bool masked : {false, true}) {
      if (masked) q.masked();
      const auto whole = q.forward();
      for (std::int64_t first = 0; first <= tokens; first += 5) {
        for (std::int64_t second = first; second <= tokens; second += 7) {
          state a = of(0, first), b = of(first, second - first), c = of(second, tokens - second);
          // (a b) c and a (b c), in place.
          state left = a;
          ln::merge_states<policy, double>(on, view(left), view(b), view(left));
          ln::merge_states<policy, double>(on, view(left), view(c), view(left));
          ln::merge_states<policy, double>(on, view(b), view(c), view(c));
          ln::merge_states<policy, double>(on, view(a), view(c), view(a));
          for (const state& merged : {left, a}) {
            CHECK(numbers::largest_difference(merged.h, whole.h) <= 1e-13);
            CHECK(numbers::largest_difference(merged.decay, whole.decay) <= 1e-14);
          }
        }
      }
    }
  };
  check(question<hgrn, ln::causal>(batch, {tokens}, heads, channels));
  check(question<signed_hgrn, ln::causal>(batch, {tokens}, heads, channels));

  list<double> h(12, 1.0), other = numbers::unwritten(8);
  const auto good = numbers::view_of<3>(h, shape), bad = numbers::view_of<3>(other, {2, 2, 2});
  const auto message = [&](const ln::vector_state<double>& left, const ln::vector_state<double>& right,
                           const ln::vector_state<double>& to) {
    return numbers::message_of<ln::error>([&] { ln::merge_states<hgrn, double>(on, left, right, to); });
  };
  CHECK(
      message({good, good}, {good, {}}, {good, {}}) ==
      "lightnet: merge_states: right.decay: expected the product of the decays, by which the left state decays, got a "
      "null pointer");
  CHECK(message({good, {}}, {good, good}, {good, good}) ==
        "lightnet: merge_states: left.decay: expected a view of memory where to.decay is one, got a null pointer");
  CHECK(message({good, {}}, {bad, good}, {good, {}}) ==
        "lightnet: merge_states: h: expected extents [2, 2, 3], got [2, 2, 2]");
}

TEST_CASE("packed sequences give what they give alone, bit for bit") {
  const auto check = [](auto q, layout how) {
    q.laid_out(how).on_threads(2);
    const list<std::int64_t> lengths{0, 13, 13, 14, 51, 90};
    q.packed(lengths);
    const bool stateful = !std::isnan(q.forward().h[0]);
    if (stateful) q.from_state();
    const auto whole = q.forward();
    for (std::size_t s = 0; s + 1 < lengths.size(); ++s) {
      auto alone = q.part(0, lengths[s], lengths[s + 1] - lengths[s]);
      const auto first = static_cast<std::ptrdiff_t>(lengths[s] * q.row());
      const auto state = static_cast<std::ptrdiff_t>(static_cast<std::int64_t>(s) * q.row());
      if (stateful) alone.initial.assign(q.initial.begin() + state, q.initial.begin() + state + q.row());
      const auto got = alone.forward();
      const auto same = [](const list<double>& one, const list<double>& all, std::ptrdiff_t from) {
        const auto part = all.begin() + from;
        return numbers::same_bits(one, list<double>(part, part + static_cast<std::ptrdiff_t>(one.size())));
      };
      CHECK(same(got.o, whole.o, first));
      if (stateful) CHECK(same(got.h, whole.h, state));
      if (stateful) CHECK(same(got.decay, whole.decay, state));
    }
  };
  check(question<hgrn, ln::causal, 1, float>(1, {90}, 3, 5), layout::dense);
  check(question<hgrn, ln::bidirectional, 1, float>(1, {90}, 3, 5).masked(), layout::gapped);
  check(question<signed_hgrn, ln::causal, 1, ln::float16>(1, {90}, 1, 67).masked(), layout::tangled);
  check(question<hgrn, ln::axial, 1, ln::bfloat16>(1, {90}, 2, 3), layout::dense);
}

TEST_CASE("a masked token is deleted") {
  question<hgrn, ln::causal, 1, float> q(1, {41}, 3, 5);
  q.masked().from_state();
  const auto got = q.forward();
  list<double> x, decay;
  for (std::int64_t t = 0; t < q.tokens(); ++t) {
    for (std::int64_t c = 0; c < q.row() && q.on(0, t); ++c) {
      x.push_back(q.x[q.at(0, t, c)]);
      decay.push_back(q.decay[q.at(0, t, c)]);
    }
  }
  question<hgrn, ln::causal, 1, float> kept(1, {static_cast<std::int64_t>(x.size()) / q.row()}, 3, 5);
  kept.x = x;
  kept.decay = decay;
  kept.initial = q.initial;
  const auto expected = kept.forward();
  CHECK(numbers::same_bits(got.h, expected.h));
  CHECK(numbers::same_bits(got.decay, expected.decay));
  std::size_t next = 0;
  for (std::int64_t t = 0; t < q.tokens(); ++t) {
    for (std::int64_t c = 0; c < q.row(); ++c) {
      CHECK(got.o[q.at(0, t, c)] == (q.on(0, t) ? expected.o[next++] : 0));
    }
  }
}

TEST_CASE("1 to 17 threads, a batch and any layout give the same bits") {
  const auto check = [](auto q) {
    auto other = q;
    for (int threads = 2; threads <= 17; ++threads) CHECK(same_answer(q, other.on_threads(threads)));
    CHECK(same_answer(q, other.laid_out(layout::tangled)));
    CHECK(same_answer(q, other.laid_out(layout::gapped, true)));
  };
  check(question<hgrn, ln::causal, 1, float>(1, {43}, 3, 139).from_state());  // enough for several blocks of a row
  check(question<signed_hgrn, ln::axial, 2, float>(2, {4, 11}, 3, 73).masked());
  check(question<hgrn, ln::bidirectional, 3, ln::bfloat16>(3, {2, 3, 5}, 1, 7));
  const question<hgrn, ln::causal, 1, float> batch(3, {29}, 3, 7);
  const auto all = batch.forward();
  for (std::int64_t b = 0; b < 3; ++b) {
    const auto one = batch.part(b, 0, 29).forward();
    const auto first = all.o.begin() + b * 29 * 21;
    CHECK(numbers::same_bits(one.o, list<double>(first, first + 29 * 21)));
  }
}

TEST_CASE("nothing gives nothing, and the state as it was") {
  question<hgrn, ln::causal> none(2, {0}, 3, 5);
  none.from_state();
  const auto got = none.forward();
  CHECK(got.o.empty());
  CHECK(numbers::same_bits(got.h, none.initial));
  CHECK(numbers::same_bits(got.decay, list<double>(30, 1.0)));
  CHECK(question<hgrn, ln::causal>(0, {7}, 3, 5).forward().o.empty());
  CHECK(question<hgrn, ln::causal>(2, {7}, 0, 5).forward().o.empty());
  CHECK(question<hgrn, ln::axial, 2>(2, {7, 3}, 2, 0).forward().o.empty());
  CHECK(question<hgrn, ln::axial, 2>(2, {0, 3}, 2, 5).forward().o.empty());
  CHECK(question<hgrn, ln::bidirectional, 2, ln::bfloat16>(2, {3, 0}, 2, 5).on_threads(3).forward().o.empty());
  CHECK(question<hgrn, ln::bidirectional>(1, {0}, 2, 5).packed({0, 0, 0}).forward().o.empty());
  const question<hgrn, ln::causal> one(1, {1}, 1, 3);
  CHECK(numbers::same_bits(one.forward().o, one.x));
}

TEST_CASE("bad values poison their channel from that token on, and nothing else") {
  const auto check = [](auto clean, const list<double>& bad_decays) {
    const auto expected = clean.forward().o;
    const std::size_t place = clean.at(0, 5, 3);
    const auto compare = [&](const auto& poisoned, bool all_nan) {
      const auto got = poisoned.forward().o;
      for (std::int64_t t = 0; t < clean.tokens(); ++t) {
        for (std::int64_t c = 0; c < clean.row(); ++c) {
          const double value = got[clean.at(0, t, c)];
          if (c != 3 || t < 5) {
            CHECK(value == expected[clean.at(0, t, c)]);
          } else {
            CHECK((all_nan ? std::isnan(value) : !std::isfinite(value)));
          }
        }
      }
    };
    for (const double bad : bad_decays) {
      auto poisoned = clean;
      poisoned.decay[place] = bad;
      compare(poisoned, true);
    }
    for (const double bad : {numbers::not_a_number, infinity, -infinity}) {
      auto poisoned = clean;
      poisoned.x[place] = bad;
      compare(poisoned, std::isnan(bad));
    }
  };
  check(question<hgrn, ln::causal, 1, float>(1, {40}, 2, 11), {1e-30, 1.0, infinity, numbers::not_a_number});
  check(question<signed_hgrn, ln::causal>(1, {40}, 2, 11),
        {1 + 0x1p-52, -1 - 0x1p-52, infinity, -infinity, numbers::not_a_number});
  // The largest signed decays are good ones.
  question<signed_hgrn, ln::causal> extreme(1, {9}, 1, 2);
  for (std::size_t i = 0; i < extreme.decay.size(); ++i) extreme.decay[i] = i % 2 == 0 ? 1 : -1;
  CHECK(worst_error(extreme) <= 1);
}

TEST_CASE("extreme log decays stay finite and raise no flag, in every order of three") {
  const list<double> logs{0, -0.0, -1e-30, -1, -30, -88, -200, -1e4, -infinity};
  const auto check = [&](auto q) {
    // One channel for every order of three.
    std::int64_t c = 0;
    for (const double a : logs) {
      for (const double b : logs) {
        for (const double d : logs) {
          const double some[] = {a, b, d};
          for (std::int64_t t = 0; t < q.tokens(); ++t) q.decay[q.at(0, t, c)] = some[t % 3];
          ++c;
        }
      }
    }
    q.from_state();
    const auto weights = q.random_incoming();
    elementwise::gradients d;
    CHECK(raised(q.threads, [&] { CHECK(worst_error(q) <= 1); }) == 0);
    CHECK(raised(q.threads, [&] { d = q.backward(weights); }) == 0);
    for (const auto* values : {&d.x, &d.decay, &d.h}) {
      CHECK(std::all_of(values->begin(), values->end(), [](double value) { return std::isfinite(value); }));
    }
  };
  check(question<hgrn, ln::causal, 1, float>(1, {7}, 1, 729));
  check(question<hgrn, ln::causal, 1, float>(1, {7}, 1, 729).on_threads(2));
  check(question<hgrn, ln::causal, 1, double>(1, {7}, 1, 729));
  check(question<hgrn, ln::causal, 1, ln::bfloat16>(1, {7}, 1, 729));
}

TEST_CASE("under causal, o may be x and the final state the initial one") {
  const auto check = [](auto zero) {
    using T = decltype(zero);
    question<hgrn, ln::causal, 1, T> q(2, {33}, 3, 7);
    q.from_state();
    const auto expected = q.forward();
    ln::execution<ln::cpu> on(2);
    const std::array<std::int64_t, 4> shape{2, 33, 3, 7};
    list<T> x = numbers::cast<T>(q.x);
    const list<T> a = numbers::cast<T>(q.decay);
    list<ln::accumulator<T>> h = numbers::cast<ln::accumulator<T>>(q.initial);
    const auto state = numbers::view_of<3>(h, {2, 3, 7});
    ln::scan<hgrn, ln::causal, ln::no_position, 1, T>(
        on, {.x = numbers::view_of<4>(x, shape), .log_decay = numbers::view_of<4>(a, shape), .state = {state, {}}},
        {.o = numbers::view_of<4>(x, shape), .state = {state, {}}});
    CHECK(numbers::same_bits(numbers::cast<double>(x), expected.o));
    CHECK(numbers::same_bits(numbers::cast<double>(h), expected.h));
  };
  check(0.0F);
  check(0.0);
  check(ln::bfloat16(0));
}

TEST_CASE("what does not fit is named, and nothing is written") {
  ln::execution<ln::cpu> on(1);
  const list<float> zeros(24, 0.0F);
  list<float> o = numbers::unwritten<float>(24), h = numbers::unwritten<float>(12);
  const auto fine = numbers::view_of<4>(zeros, {2, 3, 2, 2}), other = numbers::view_of<4>(zeros, {2, 3, 1, 4});
  const auto to = numbers::view_of<4>(o, {2, 3, 2, 2});
  const auto state = numbers::view_of<3>(h, {2, 2, 2});
  using inputs = ln::scan_inputs<hgrn>;
  using outputs = ln::scan_outputs<hgrn>;
  const auto message = [&](const inputs& in, const outputs& out) {
    return numbers::message_of<ln::error>([&] { ln::scan<hgrn, ln::causal>(on, in, out); });
  };
  CHECK(message({.log_decay = fine}, {.o = to}) == "lightnet: scan: x: expected a view of memory, got a null pointer");
  CHECK(message({.x = fine}, {.o = to}) == "lightnet: scan: log_decay: expected a view of memory, got a null pointer");
  CHECK(message({.x = fine, .log_decay = other}, {.o = to}) ==
        "lightnet: scan: log_decay: expected the extents of x [2, 3, 2, 2], got [2, 3, 1, 4]");
  CHECK(message({.x = fine, .log_decay = fine, .decay = fine}, {.o = to}) ==
        "lightnet: scan: decay: expected nothing, for this recurrence takes log_decay, got an array");
  CHECK(message({.x = fine, .log_decay = fine}, {}) ==
        "lightnet: scan: o: expected a view of memory, got a null pointer");
  const ln::dynamic_view<4, float> shared{o.data(), {{2, 3, 2, 2}}, {12, 4, 0, 1}};
  CHECK(message({.x = fine, .log_decay = fine}, {.o = shared}) ==
        "lightnet: scan: o: expected a place for each element, got [2, 3, 2, 2] with a stride of 0");
  const bool keep[6] = {};
  CHECK(message({.x = fine, .log_decay = fine, .mask = {keep, {{3, 2}}}}, {.o = to}) ==
        "lightnet: scan: mask: expected extents [2, 3], got [3, 2]");
  CHECK(message({.x = fine, .log_decay = fine}, {.o = to, .state = {numbers::view_of<3>(h, {2, 2, 3}), {}}}) ==
        "lightnet: scan: outputs.state: expected extents [2, 2, 2], got [2, 2, 3]");
  CHECK(message({.x = fine, .log_decay = fine, .state = {{}, state}}, {.o = to}) ==
        "lightnet: scan: state: expected a view of memory, got a null pointer");
  CHECK(message({.x = fine, .log_decay = fine, .grid = {{3}, 1, {}}}, {.o = to}) ==
        "lightnet: scan: grid: expected as many tokens as x [2, 3, 2, 2] has, got prefix 1 and extents [3]");

  const auto single = numbers::view_of<4>(zeros, {1, 6, 2, 2});
  const auto pack = [&](const list<std::int64_t>& lengths, bool one = true) {
    return message({.x = one ? single : fine,
                    .log_decay = one ? single : fine,
                    .cumulative_lengths = numbers::view_of<1>(lengths, {static_cast<std::int64_t>(lengths.size())})},
                   {.o = numbers::view_of<4>(o, one ? single.extents() : fine.extents())});
  };
  CHECK(pack({0, 3}, false) == "lightnet: scan: x: expected a batch of 1, for packed sequences, got [2, 3, 2, 2]");
  for (const list<std::int64_t>& lengths : {list<std::int64_t>{1, 6}, {0, 5}, {0, 4, 3, 6}, {0, 7, 6}}) {
    CHECK(pack(lengths) ==
          "lightnet: scan: cumulative_lengths: expected numbers that do not fall, from 0 to the 6 tokens of x, got [" +
              std::to_string(lengths.size()) + "] that do not");
  }

  CHECK(numbers::message_of<ln::value_error>([&] {
          ln::scan<hgrn, ln::axial>(on, {.x = fine, .log_decay = fine}, {.o = to, .state = {state, {}}});
        }) == "lightnet: scan: outputs.state: expected nothing, for this traversal has no state, got a state");
  CHECK(numbers::message_of<ln::value_error>([&] {
          ln::scan<hgrn, ln::axial>(on, {.x = fine, .log_decay = fine, .grid = {{2}, 1, {}}}, {.o = to});
        }) == "lightnet: scan: grid.prefix: expected zero, for lines along axes go through places, got 1");
  CHECK(numbers::message_of<ln::device_error>([&] { ln::scan<signed_hgrn, ln::causal>(on, {.x = fine}, {.o = to}); }) ==
        "lightnet: scan: decay: expected a view of memory, got a null pointer");
  CHECK(numbers::message_of<ln::value_error>([&] {
          ln::scan<signed_hgrn, ln::causal>(on, {.x = fine, .log_decay = fine, .decay = fine}, {.o = to});
        }) == "lightnet: scan: log_decay: expected nothing, for this recurrence takes decay, got an array");

  const auto backward = [&](const ln::scan_incoming<hgrn>& in, const ln::scan_gradients<hgrn>& out) {
    return numbers::message_of<ln::error>(
        [&] { ln::scan_backward<hgrn, ln::causal>(on, {.x = fine, .log_decay = fine}, in, out); });
  };
  CHECK(backward({}, {.x = to}) ==
        "lightnet: scan_backward: incoming.o: expected a view of memory, got a null pointer");
  CHECK(backward({.o = fine, .state = numbers::view_of<3>(zeros, {2, 4, 1})}, {.x = to}) ==
        "lightnet: scan_backward: incoming.state: expected extents [2, 2, 2], got [2, 4, 1]");
  CHECK(backward({.o = fine}, {.x = numbers::view_of<4>(o, {2, 3, 4, 1})}) ==
        "lightnet: scan_backward: gradients.x: expected the extents of x [2, 3, 2, 2], got [2, 3, 4, 1]");
  CHECK(
      backward({.o = fine}, {.x = to, .decay = to}) ==
      "lightnet: scan_backward: gradients.decay: expected nothing, for this recurrence takes log_decay, got an array");
  CHECK(backward({.o = fine}, {.log_decay = shared}) ==
        "lightnet: scan_backward: gradients.log_decay: expected a place for each element, got [2, 3, 2, 2] with a "
        "stride of 0");

  const auto step = [&](const inputs& in, const outputs& out) {
    return numbers::message_of<ln::error>([&] { ln::scan_step<hgrn>(on, in, out); });
  };
  const auto token = numbers::view_of<4>(zeros, {2, 1, 2, 2});
  const auto token_to = numbers::view_of<4>(o, {2, 1, 2, 2});
  CHECK(step({.x = fine, .log_decay = fine}, {.o = to, .state = {state, {}}}) ==
        "lightnet: scan_step: x: expected one token, got [2, 3, 2, 2]");
  CHECK(step({.x = token, .log_decay = token}, {.o = token_to}) ==
        "lightnet: scan_step: outputs.state: expected a view of memory, got a null pointer");
  CHECK(step({.x = token, .log_decay = token, .state = {state, {}}}, {.o = token_to, .state = {state, {}}}) ==
        "lightnet: scan_step: state: expected nothing: a step keeps its state in outputs.state, got a state");
  for (const float value : o) CHECK(std::isnan(value));
  for (const float value : h) CHECK(std::isnan(value));
}

TEST_CASE("packed sequences have one dimension") {
  ln::execution<ln::cpu> on(1);
  const list<float> zeros(12, 0.0F);
  list<float> o = numbers::unwritten<float>(12);
  const list<std::int64_t> lengths{0, 6};
  const auto fine = numbers::view_of<5>(zeros, {1, 2, 3, 1, 2});
  CHECK(numbers::message_of<ln::value_error>([&] {
          ln::scan<hgrn, ln::causal, ln::no_position, 2, float>(
              on, {.x = fine, .log_decay = fine, .cumulative_lengths = numbers::view_of<1>(lengths, {2})},
              {.o = numbers::view_of<5>(o, {1, 2, 3, 1, 2})});
        }) == "lightnet: scan: cumulative_lengths: expected nothing, for only 1-D sequences are packed, got [2]");
  for (const float value : o) CHECK(std::isnan(value));
}
