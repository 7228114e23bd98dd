// SPDX-License-Identifier: Apache-2.0
// The laws of a monoid, which make chunks, threads and steps give the same.
#include <doctest/doctest.h>

#include <lightnet/core/concepts.hpp>
#include <lightnet/monoid/affine.hpp>
#include <lightnet/monoid/log_sum_exp.hpp>
#include <lightnet/recurrence/additive.hpp>
#include <lightnet/recurrence/constant_decay.hpp>

#include <cmath>
#include <cstdint>
#include <random>

namespace ln = lightnet;

namespace {

template <class M>
constexpr bool identity_is_neutral(typename M::element a) {
  return M::combine(M::identity(), a) == a && M::combine(a, M::identity()) == a;
}
template <class M>
constexpr bool associates(typename M::element a, typename M::element b, typename M::element c) {
  return M::combine(M::combine(a, b), c) == M::combine(a, M::combine(b, c));
}
template <class M>
constexpr bool commutes(typename M::element a, typename M::element b) {
  return M::combine(a, b) == M::combine(b, a);
}

using affine = ln::affine<double>;
using sums = ln::log_sum_exp<double>;
using weighed = ln::log_sum_exp<double, double>;

static_assert(ln::monoid<affine> && ln::monoid<sums> && ln::monoid<weighed> && ln::monoid<ln::affine<float>>);
static_assert(ln::recurrence<ln::additive> && ln::recurrence<ln::additive_with_sink>);
static_assert(ln::recurrence<ln::constant_decay>);

// At compile time, with numbers that are exact.
constexpr affine::element slow{0.5, 3}, fast{0.25, -2}, reset{0, 7};
static_assert(identity_is_neutral<affine>(slow) && identity_is_neutral<affine>(reset));
static_assert(associates<affine>(slow, fast, reset) && associates<affine>(reset, slow, fast));
static_assert(affine::combine(slow, fast) == affine::element{0.125, 0.25 * 3 - 2});
static_assert(!affine::commutative && !commutes<affine>(slow, fast));

constexpr weighed::element small{-7, 1.25, 3}, large{40, 0.75, -2}, first{0, 1, 1};
static_assert(identity_is_neutral<weighed>(small) && identity_is_neutral<weighed>(weighed::identity()));
static_assert(associates<weighed>(small, small, first) && associates<weighed>(first, small, first));
static_assert(weighed::combine(first, small) == weighed::element{0, 1 + 1.25 / 128, 1 + 3.0 / 128});
static_assert(weighed::commutative && commutes<weighed>(small, large) && commutes<weighed>(weighed::identity(), large));
static_assert(sums::combine({3, 1.0, {}}, {1, 1.0, {}}) == sums::element{3, 1.25, {}});
// So far below that nothing is left, in either order, and without an overflow of the exponents.
static_assert(weighed::combine(small, {1 << 28, 1, 5}) == weighed::element{1 << 28, 1, 5});
static_assert(commutes<weighed>(weighed::identity(), {1 << 28, 1, 5}));

static_assert(ln::additive::commutative && ln::additive_with_sink::commutative && !ln::constant_decay::commutative);

}  // namespace

TEST_CASE_TEMPLATE("monoids: random elements obey the laws", T, float, double) {
  std::mt19937_64 engine(1);
  std::uniform_real_distribution<double> number(-2, 2);
  std::uniform_int_distribution<std::int32_t> exponent(-60, 60);
  const auto epsilon = static_cast<double>(std::numeric_limits<T>::epsilon());
  const auto near = [&](double a, double b, double size) { return std::abs(a - b) <= 4 * epsilon * size; };
  using lse = ln::log_sum_exp<T, T>;
  using map = ln::affine<T>;
  bool commutes_always = true;
  for (int round = 0; round < 2000; ++round) {
    const auto element = [&] {
      return typename lse::element{exponent(engine), static_cast<T>(1 + std::abs(number(engine))),
                                   static_cast<T>(number(engine))};
    };
    const auto a = element(), b = element(), c = element();
    const auto left = lse::combine(lse::combine(a, b), c), right = lse::combine(a, lse::combine(b, c));
    CHECK(left.exponent == right.exponent);
    CHECK(near(static_cast<double>(left.sum), static_cast<double>(right.sum), 9));
    CHECK(near(static_cast<double>(left.payload), static_cast<double>(right.payload), 6));
    CHECK(commutes<lse>(a, b));  // to the bit
    CHECK(identity_is_neutral<lse>(a));
    // What it stands for: log(e^z + e^z').
    const auto z = [](const typename lse::element& x) {
      return static_cast<double>(x.exponent) * std::log(2.0) + std::log(static_cast<double>(x.sum));
    };
    const double above = std::max(z(a), z(b)), below = std::min(z(a), z(b));
    CHECK(std::abs(z(lse::combine(a, b)) - (above + std::log1p(std::exp(below - above)))) <= 4 * epsilon + 1e-13);

    const auto random_map = [&] {
      return typename map::element{static_cast<T>(std::abs(number(engine)) / 2), static_cast<T>(number(engine))};
    };
    const auto f = random_map(), g = random_map(), h = random_map();
    const auto one = map::combine(map::combine(f, g), h), two = map::combine(f, map::combine(g, h));
    CHECK(near(static_cast<double>(one.decay), static_cast<double>(two.decay), 1));
    CHECK(near(static_cast<double>(one.payload), static_cast<double>(two.payload), 6));
    CHECK(identity_is_neutral<map>(f));
    commutes_always = commutes_always && commutes<map>(f, g);
  }
  CHECK_FALSE(commutes_always);
}
