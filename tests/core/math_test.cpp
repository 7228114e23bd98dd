// SPDX-License-Identifier: Apache-2.0
// Accuracy of the library's own scalar functions, and that an element's bits do not depend on its place.
#include <doctest/doctest.h>

#include <lightnet/core/math.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

namespace ln = lightnet;

namespace {

// |got - expected| in units of the last place of T at `expected`.
template <class T>
double ulps(long double got, long double expected) {
  const long double smallest = std::numeric_limits<T>::denorm_min();
  int exponent = 0;
  std::frexp(expected, &exponent);
  const long double unit = std::max(std::ldexp(1.0L, exponent - std::numeric_limits<T>::digits), smallest);
  return static_cast<double>(std::abs(got - expected) / unit);
}

// x - n ln 2, with more digits of ln 2 than a long double has.
long double beyond(long double x, std::int32_t n) {
  const auto count = static_cast<long double>(n);
  return (x - count * 0x1.62e42fefp-1L) - count * 0xa.39ef35793c76730p-37L;
}

template <class T>
std::vector<T> arguments(double range, int count) {
  std::mt19937_64 engine(2);
  std::uniform_real_distribution<double> number(-range, range);
  std::vector<T> x = {T(0), -T(0), T(1), T(-1), std::numeric_limits<T>::denorm_min(), std::numeric_limits<T>::min()};
  for (int n = 0; n < count; ++n) x.push_back(static_cast<T>(number(engine)));
  for (int n = 0; n < 64; ++n) {  // where the range reduction changes its mind
    const auto edge = static_cast<T>((n - 32 + 0.5) * std::log(2.0));
    x.insert(x.end(), {edge, std::nextafter(edge, T(1e9)), std::nextafter(edge, T(-1e9))});
  }
  x.erase(std::remove_if(x.begin(), x.end(), [&](T a) { return std::abs(static_cast<double>(a)) > range; }), x.end());
  return x;
}

template <class T>
constexpr T infinity = std::numeric_limits<T>::infinity();
template <class T>
constexpr T quiet_nan = std::numeric_limits<T>::quiet_NaN();

// f over x, from every offset: loops of every length and start, so that an element meets each lane and each tail.
template <class T, class F>
bool bits_have_no_place(const F& f, const std::vector<T>& x) {
  std::vector<T> whole(x.size());
  for (std::size_t n = 0; n < x.size(); ++n) whole[n] = f(x[n]);
  std::vector<T> part(x.size());
  for (std::size_t first = 0; first < 40; ++first) {
    for (std::size_t count = 0; count + first < 90; ++count) {
      const T* const from = x.data() + first;
      T* const to = part.data();
      for (std::size_t n = 0; n < count; ++n) to[n] = f(from[n]);
      for (std::size_t n = 0; n < count; ++n) {
        if (to[n] != whole[first + n]) return false;
      }
    }
  }
  return true;
}

static_assert(ln::power_of_two<float>(-126) == 0x1p-126F && ln::power_of_two<double>(1023) == 0x1p1023);
static_assert(ln::scale_by_power_of_two(0.75F, -3) == 0.09375F);
static_assert(ln::scale_by_power_of_two(1.5, 200) == 0x1.8p200);
static_assert(ln::scale_by_power_of_two(1.0F, ln::empty_exponent) == 0 && ln::scale_by_power_of_two(1.0, -99999) == 0);
static_assert(ln::scale_by_power_of_two(1.25F, -127) == 0x1.4p-127F);

}  // namespace

TEST_CASE_TEMPLATE("math: exponentials", T, float, double) {
  const double range = std::is_same_v<T, float> ? 87 : 708;
  double worst = 0;
  for (const T x : arguments<T>(range, 200000)) {
    worst = std::max(worst, ulps<T>(ln::exponential(x), std::exp(static_cast<long double>(x))));
  }
  CHECK(worst <= 2);
  MESSAGE("exponential: worst error ", worst, " ulp");
  for (const T x : arguments<T>(range * 1.05, 1000)) {  // to the denormals, and beyond the largest number
    const long double expected = std::exp(static_cast<long double>(x));
    if (expected > std::numeric_limits<T>::max()) {
      CHECK(ln::exponential(x) == infinity<T>);
    } else {
      CHECK(ulps<T>(ln::exponential(x), expected) <= 2);
    }
  }
  CHECK(ln::exponential(-infinity<T>) == 0);
  CHECK(ln::exponential(infinity<T>) == infinity<T>);
  CHECK(std::isnan(ln::exponential(quiet_nan<T>)));
  CHECK(ln::exponential(T(-1e30)) == 0);
  CHECK(ln::exponential(std::numeric_limits<T>::max()) == infinity<T>);
  CHECK(ln::exponential(std::numeric_limits<T>::lowest()) == 0);
  CHECK(ln::exponential(T(0)) == 1);
}

TEST_CASE_TEMPLATE("math: scaled exponentials do not overflow", T, float, double) {
  double worst = 0;
  for (const double range : {3.0, 1e4}) {
    for (const T x : arguments<T>(range, 100000)) {
      const ln::scaled<T> e = ln::scaled_exponential(x);
      CHECK(e.mantissa >= T(0.7));
      CHECK(e.mantissa <= T(1.42));
      const long double exact = std::exp(beyond(static_cast<long double>(x), e.exponent));
      worst = std::max(worst, ulps<T>(e.mantissa, exact));
    }
  }
  CHECK(worst <= 2);
  MESSAGE("scaled_exponential: worst error ", worst, " ulp");

  const ln::scaled<T> none = ln::scaled_exponential(-infinity<T>);
  CHECK(none.mantissa == 0);
  CHECK(none.exponent == ln::empty_exponent);
  for (const T x : {T(1e7), T(-1e7), T(1e30), T(-1e30)}) {
    const ln::scaled<T> far = ln::scaled_exponential(x);
    CHECK(far.mantissa >= T(0.7));
    CHECK(far.mantissa <= T(1.42));
    CHECK(std::abs(far.exponent) < -ln::empty_exponent / 2);
  }
  // A correction far below x counts.
  const T x = T(1000), tail = std::numeric_limits<T>::epsilon() * T(100);
  const ln::scaled<T> e = ln::scaled_exponential(x, tail);
  const long double exact = std::exp(beyond(1000.0L, e.exponent) + static_cast<long double>(tail));
  CHECK(ulps<T>(e.mantissa, exact) <= 3);
}

TEST_CASE_TEMPLATE("math: sigmoid and silu", T, float, double) {
  double worst = 0, worst_derivative = 0;
  for (const T x : arguments<T>(std::is_same_v<T, float> ? 80 : 600, 100000)) {
    const auto a = static_cast<long double>(x);
    const long double s = 1 / (1 + std::exp(-a));
    worst = std::max({worst, ulps<T>(ln::sigmoid(x), s), ulps<T>(ln::silu(x), a * s)});
    const long double derivative = s * (1 + a * (1 - s));
    worst_derivative = std::max(worst_derivative, static_cast<double>(std::abs(ln::dsilu(x) - derivative)));
  }
  CHECK(worst <= 5);
  CHECK(worst_derivative <= 2 * static_cast<double>(std::numeric_limits<T>::epsilon()));
  MESSAGE("sigmoid, silu: worst error ", worst, " ulp; dsilu: ", worst_derivative);
  CHECK(ln::sigmoid(infinity<T>) == 1);
  CHECK(ln::sigmoid(-infinity<T>) == 0);
  CHECK(ln::silu(std::numeric_limits<T>::lowest()) == 0);
  CHECK(std::isnan(ln::sigmoid(quiet_nan<T>)));
  CHECK(std::isnan(ln::silu(quiet_nan<T>)));
}

TEST_CASE_TEMPLATE("math: the logarithm of sigmoid", T, float, double) {
  double worst = 0;
  for (const T x : arguments<T>(std::is_same_v<T, float> ? 80 : 600, 100000)) {
    const auto a = static_cast<long double>(x);
    worst = std::max(worst, ulps<T>(ln::log_sigmoid(x), std::min(a, 0.0L) - std::log1p(std::exp(-std::abs(a)))));
  }
  CHECK(worst <= 4);
  MESSAGE("log_sigmoid: worst error ", worst, " ulp");
  CHECK(ln::log_sigmoid(infinity<T>) == 0);
  CHECK(ln::log_sigmoid(-infinity<T>) == -infinity<T>);
  CHECK(ln::log_sigmoid(std::numeric_limits<T>::lowest()) == std::numeric_limits<T>::lowest());
  CHECK(std::isnan(ln::log_sigmoid(quiet_nan<T>)));
}

TEST_CASE_TEMPLATE("math: an element's bits do not depend on its place", T, float, double) {
  const std::vector<T> x = arguments<T>(40, 130);
  CHECK(bits_have_no_place([](T a) { return ln::exponential(a); }, x));
  CHECK(bits_have_no_place([](T a) { return ln::silu(a); }, x));
  CHECK(bits_have_no_place([](T a) { return ln::dsilu(a); }, x));
  CHECK(bits_have_no_place([](T a) { return ln::log_sigmoid(a); }, x));
  CHECK(bits_have_no_place([](T a) { return ln::scaled_exponential(a).mantissa; }, x));
}

TEST_CASE_TEMPLATE("math: a compensated sum keeps twice the digits", T, float, double) {
  ln::compensated<T> sum;
  long double exact = 0;
  std::mt19937_64 engine(3);
  std::uniform_real_distribution<double> number(0, 1);
  for (int n = 0; n < 10000; ++n) {
    const auto x = static_cast<T>(number(engine));
    sum = sum.plus(x);
    exact += x;
  }
  const long double came = static_cast<long double>(sum.sum) + static_cast<long double>(sum.error);
  const long double epsilon = std::numeric_limits<T>::epsilon();
  CHECK(std::abs(came - exact) <= 1e4L * exact * epsilon * epsilon + 1e-13L);
}
