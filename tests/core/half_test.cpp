// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <lightnet/backend/cpu/convert.hpp>
#include <lightnet/core/half.hpp>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

namespace ln = lightnet;

namespace {

/// The format in words of its definition: magnitudes in long double, infinity as the power of two that would follow.
template <class T>
struct oracle {
  static constexpr int fraction = std::is_same_v<T, ln::bfloat16> ? 7 : 10;
  static constexpr int bias = std::is_same_v<T, ln::bfloat16> ? 127 : 15;
  static constexpr int infinity = (2 * bias + 1) << fraction;
  std::vector<long double> magnitudes;

  oracle() {
    for (int bits = 0; bits <= infinity; ++bits) {
      const int exponent = bits >> fraction, rest = bits & ((1 << fraction) - 1);
      magnitudes.push_back(
          exponent == 0 ? std::ldexp(static_cast<long double>(rest), 1 - bias - fraction)
                        : std::ldexp(static_cast<long double>(rest + (1 << fraction)), exponent - bias - fraction));
    }
  }

  bool nan(std::uint16_t bits) const { return (bits & 0x7FFF) > infinity; }

  long double middle(int bits) const { return (magnitudes[std::size_t(bits)] + magnitudes[std::size_t(bits) + 1]) / 2; }

  /// The nearest, of two the even one: by search.
  std::uint16_t round(long double x) const {
    const long double magnitude = std::abs(x);
    const auto above = std::upper_bound(magnitudes.begin(), magnitudes.end(), magnitude);
    int bits = static_cast<int>(above - magnitudes.begin()) - 1;
    if (bits < infinity && (magnitude > middle(bits) || (magnitude == middle(bits) && bits % 2 == 1))) ++bits;
    return static_cast<std::uint16_t>(bits | (std::signbit(x) ? 0x8000 : 0));
  }
};

/// Counts what differs and keeps the first.
struct differences {
  long double first = 0;
  std::int64_t count = 0, checks = 0;

  void add(bool same, long double x) {
    if (!same && count++ == 0) first = x;
    ++checks;
  }
  void report(std::int64_t least) const {
    INFO("first at ", static_cast<double>(first));
    CHECK(count == 0);
    CHECK(checks >= least);
  }
};

/// x, its neighbours in its own type, and all of these negative.
template <class X>
void with_neighbours(X x, std::vector<X>& into) {
  constexpr X infinity = std::numeric_limits<X>::infinity();
  X below = x, above = x;
  for (int i = 0; i < 4; ++i) {
    for (const X each : {below, above}) {
      into.push_back(each);
      into.push_back(-each);
    }
    below = std::nextafter(below, -infinity);
    above = std::nextafter(above, infinity);
  }
}

/// Every number of the format and every middle of two, each with its neighbours in X.
template <class T, class X>
std::vector<X> boundaries(const oracle<T>& expected) {
  std::vector<X> all;
  for (int bits = 0; bits < expected.infinity; ++bits) {
    with_neighbours(static_cast<X>(expected.magnitudes[std::size_t(bits)]), all);
    with_neighbours(static_cast<X>(expected.middle(bits)), all);
  }
  all.push_back(std::numeric_limits<X>::infinity());
  all.push_back(-std::numeric_limits<X>::infinity());
  return all;
}

struct xorshift {
  std::uint64_t state = 88172645463325252U;
  std::uint64_t operator()() {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
  }
};

std::vector<float> random_bit_patterns(std::size_t count) {
  xorshift next;
  std::vector<float> all(count);
  for (float& each : all) each = std::bit_cast<float>(static_cast<std::uint32_t>(next() >> 16));
  return all;
}

/// NaN for NaN, quiet and of the same sign; else the bits of the oracle.
template <class T>
bool rounded_well(const oracle<T>& expected, T got, long double x) {
  if (!std::isnan(x)) return got.bits() == expected.round(x);
  constexpr int quiet = 1 << (oracle<T>::fraction - 1);
  return expected.nan(got.bits()) && (got.bits() & quiet) != 0 && (got.bits() >> 15 != 0) == std::signbit(x);
}

/// The numbers in one array, and the same ones in arrays of 0 to 40 of them: lanes and remainders.
template <class To, class From>
std::vector<To> convert_in_pieces(const std::vector<From>& from) {
  std::vector<To> to(from.size(), To(std::numeric_limits<float>::quiet_NaN()));
  const auto count = static_cast<std::int64_t>(from.size()), half = count / 2;
  ln::detail::convert(from.data(), to.data(), half);
  for (std::int64_t i = half, length = 0; i < count; length = (length + 1) % 41) {
    const std::int64_t now = std::min(length, count - i);
    ln::detail::convert(from.data() + i, to.data() + i, now);
    i += now;
  }
  return to;
}

template <class To, class From>
void check_convert(const std::vector<From>& from) {
  using word = std::conditional_t<sizeof(To) == 2, std::uint16_t,
                                  std::conditional_t<sizeof(To) == 4, std::uint32_t, std::uint64_t>>;
  const std::vector<To> to = convert_in_pieces<To>(from);
  differences found;
  for (std::size_t i = 0; i < from.size(); ++i) {
    found.add(std::bit_cast<word>(to[i]) == std::bit_cast<word>(static_cast<To>(from[i])),
              static_cast<long double>(from[i]));
  }
  found.report(60000);
}

template <class T>
std::vector<T> every_number() {
  std::vector<T> all;
  for (int bits = 0; bits < 65536; ++bits) all.push_back(T::from_bits(static_cast<std::uint16_t>(bits)));
  return all;
}

template <class T>
void check_integers(const oracle<T>& expected, differences& found) {
  xorshift next;
  for (int n = 0; n < 200000; ++n) {
    // Few bits, then a sticky one far below: where rounding twice goes wrong.
    const std::uint64_t head = (next() >> 54 << 1 | 1) << (next() % 54), random = next() >> (next() % 64);
    for (const std::uint64_t x : {head - 1, head, head + 1, random}) {
      const auto with_sign = static_cast<std::int64_t>(x);
      const auto narrow = static_cast<std::int32_t>(static_cast<std::uint32_t>(x));
      found.add(T(x).bits() == expected.round(static_cast<long double>(x)), static_cast<long double>(x));
      found.add(T(with_sign).bits() == expected.round(static_cast<long double>(with_sign)),
                static_cast<long double>(with_sign));
      found.add(T(narrow).bits() == expected.round(static_cast<long double>(narrow)), static_cast<long double>(narrow));
    }
  }
}

}  // namespace

TEST_CASE_TEMPLATE("half: plain memory of two bytes", T, ln::bfloat16, ln::float16) {
  static_assert(sizeof(T) == 2 && alignof(T) == 2 && std::is_standard_layout_v<T>);
  static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_default_constructible_v<T>);
  static_assert(std::is_convertible_v<T, float> && !std::is_convertible_v<float, T>);
  static_assert(!std::is_convertible_v<double, T> && !std::is_convertible_v<int, T>);
  static_assert(std::is_constructible_v<ln::float16, ln::bfloat16>);
  static_assert(std::is_same_v<decltype(std::declval<T>() + std::declval<T>()), float>);
  static_assert(ln::storage_type<T> && ln::storage_type<float> && ln::storage_type<double>);
  static_assert(!ln::storage_type<int> && !ln::storage_type<long double> && !ln::storage_type<std::uint16_t>);
  static_assert(std::is_same_v<ln::accumulator<T>, float> && std::is_same_v<ln::accumulator<float>, float> &&
                std::is_same_v<ln::accumulator<double>, double>);
  static_assert(T(1.5) == 1.5F && T(2) > T(1.5F) && T(0.0) == T(-0.0) && T(3) != T(-3));
  constexpr T nan = std::numeric_limits<T>::quiet_NaN();
  CHECK(!(nan == nan));
  CHECK(!(nan < T(1)));
}

TEST_CASE_TEMPLATE("half: all 65536 values to float and double and back", T, ln::bfloat16, ln::float16) {
  const oracle<T> expected;
  differences widened, back;
  for (int i = 0; i < 65536; ++i) {
    const auto bits = static_cast<std::uint16_t>(i);
    const T x = T::from_bits(bits);
    const auto wide = static_cast<float>(x);
    const int magnitude = bits & 0x7FFF;
    if (expected.nan(bits)) {
      const T again(wide);
      widened.add(std::isnan(wide) && std::signbit(wide) == (i >= 0x8000), i);
      back.add(again.bits() == (bits | 1 << (expected.fraction - 1)), i);  // the payload stays
      back.add(std::isnan(static_cast<double>(x)) && std::isnan(static_cast<float>(T(static_cast<double>(x)))), i);
    } else {
      const long double value = magnitude == expected.infinity ? std::numeric_limits<long double>::infinity()
                                                               : expected.magnitudes[std::size_t(magnitude)];
      widened.add(std::signbit(wide) == (i >= 0x8000) && std::abs(wide) == value, i);
      widened.add(static_cast<double>(x) == static_cast<double>(wide), i);
      back.add(T(wide).bits() == bits && T(static_cast<double>(x)).bits() == bits, i);
    }
  }
  widened.report(65536);
  back.report(65536);
}

TEST_CASE_TEMPLATE("half: float rounds to the nearest, ties to even", T, ln::bfloat16, ln::float16) {
  const oracle<T> expected;
  differences found;
  for (const float x : boundaries<T, float>(expected)) found.add(rounded_well(expected, T(x), x), x);
  for (const float x : random_bit_patterns(2000000)) found.add(rounded_well(expected, T(x), x), x);
  found.report(3000000);
}

TEST_CASE_TEMPLATE("half: wider types round once", T, ln::bfloat16, ln::float16) {
  const oracle<T> expected;
  differences found, wrong_if_twice;
  for (const double x : boundaries<T, double>(expected)) {
    found.add(rounded_well(expected, T(x), x), x);
    wrong_if_twice.add(T(static_cast<float>(x)).bits() == T(x).bits(), x);
  }
  CHECK(wrong_if_twice.count > 10000);  // these numbers do tell
  for (const long double x : boundaries<T, long double>(expected)) found.add(rounded_well(expected, T(x), x), x);
  xorshift next;
  for (int n = 0; n < 300000; ++n) {
    const auto x = std::bit_cast<double>(next());
    found.add(rounded_well(expected, T(x), x), x);
  }
  check_integers(expected, found);
  for (const double x : {1e39, 1e300, std::numeric_limits<double>::max()}) {
    found.add(T(x) == std::numeric_limits<T>::infinity() && T(-x) == -std::numeric_limits<float>::infinity(), x);
  }
  found.add(T(1e-300).bits() == 0 && T(-1e-300).bits() == 0x8000, 0);
  found.report(3000000);
}

TEST_CASE("half: the other half type rounds once too") {
  const oracle<ln::float16> expected;
  differences found;
  for (const ln::bfloat16 x : every_number<ln::bfloat16>()) {
    found.add(rounded_well(expected, ln::float16(x), static_cast<float>(x)), static_cast<float>(x));
  }
  found.report(65536);
}

#if defined(__FLT16_MANT_DIG__)
TEST_CASE("float16: bit for bit the compiler's _Float16") {
  differences found;
  const auto check = [&found](float x) {
    const ln::float16 got(x);
    const auto theirs = static_cast<_Float16>(x);
    found.add(std::isnan(x) ? std::isnan(got) : got.bits() == std::bit_cast<std::uint16_t>(theirs), x);
  };
  for (const float x : random_bit_patterns(500000)) check(x);
  for (const float x : boundaries<ln::float16, float>({})) check(x);
  for (const double x : boundaries<ln::float16, double>({})) {
    found.add(ln::float16(x).bits() == std::bit_cast<std::uint16_t>(static_cast<_Float16>(x)), x);
  }
  for (const ln::float16 x : every_number<ln::float16>()) {
    const auto theirs = static_cast<float>(std::bit_cast<_Float16>(x));
    found.add(std::isnan(x) ? std::isnan(theirs) : theirs == x, x);
  }
  found.report(1000000);
}
#endif

#if defined(__BFLT16_MANT_DIG__)
TEST_CASE("bfloat16: bit for bit the compiler's __bf16") {
  differences found;
  const auto check = [&found](float x) {
    const ln::bfloat16 got(x);
    const auto theirs = static_cast<__bf16>(x);
    const bool subnormal = std::abs(x) < std::numeric_limits<float>::min();  // the processor's instruction drops these
    if (!subnormal) found.add(std::isnan(x) ? std::isnan(got) : got.bits() == std::bit_cast<std::uint16_t>(theirs), x);
  };
  for (const float x : random_bit_patterns(500000)) check(x);
  for (const float x : boundaries<ln::bfloat16, float>({})) check(x);
  found.report(1000000);
}
#endif

TEST_CASE_TEMPLATE("half: numeric_limits", T, ln::bfloat16, ln::float16) {
  using limits = std::numeric_limits<T>;
  const oracle<T> expected;
  static_assert(limits::is_specialized && limits::has_infinity && limits::has_quiet_NaN && limits::is_signed &&
                !limits::is_integer && !limits::is_exact && limits::radix == 2);
  CHECK(std::numeric_limits<const T>::digits == expected.fraction + 1);
  CHECK(limits::digits10 == (expected.fraction == 7 ? 2 : 3));
  CHECK(limits::max_digits10 == (expected.fraction == 7 ? 4 : 5));
  CHECK(limits::max() == expected.magnitudes[std::size_t(expected.infinity) - 1]);
  CHECK(limits::lowest() == -expected.magnitudes[std::size_t(expected.infinity) - 1]);
  CHECK(limits::denorm_min() == expected.magnitudes[1]);
  CHECK(limits::min() == std::ldexp(1.0F, limits::min_exponent - 1));
  CHECK(limits::min() == expected.magnitudes[std::size_t(1) << expected.fraction]);
  CHECK(limits::max() == std::ldexp(1.0F - std::ldexp(1.0F, -limits::digits), limits::max_exponent));
  CHECK(std::pow(10.0, limits::max_exponent10) <= limits::max());
  CHECK(std::pow(10.0, limits::max_exponent10 + 1) > limits::max());
  CHECK(std::pow(10.0, limits::min_exponent10) >= limits::min());
  CHECK(std::pow(10.0, limits::min_exponent10 - 1) < limits::min());
  CHECK(limits::epsilon() == T::from_bits(static_cast<std::uint16_t>(T(1).bits() + 1)) - T(1));
  CHECK(limits::round_error() == 0.5F);
  CHECK(limits::infinity() == std::numeric_limits<float>::infinity());
  CHECK(limits::quiet_NaN().bits() == T(std::numeric_limits<float>::quiet_NaN()).bits());
  CHECK(std::isnan(limits::signaling_NaN()));
  CHECK(limits::signaling_NaN().bits() != limits::quiet_NaN().bits());
}

TEST_CASE_TEMPLATE("convert: the bits of static_cast, whatever the length", T, ln::bfloat16, ln::float16) {
  check_convert<float>(every_number<T>());
  check_convert<double>(every_number<T>());
  check_convert<ln::bfloat16>(every_number<T>());
  check_convert<ln::float16>(every_number<T>());
  check_convert<T>(boundaries<T, float>({}));
  check_convert<T>(boundaries<T, double>({}));
  const std::vector<float> random = random_bit_patterns(1000003);
  check_convert<T>(random);
  check_convert<float>(random);
}

TEST_CASE("convert: writes the given number of elements and no other") {
  const std::vector<float> from(37, 1.0F);
  for (std::int64_t count = 0; count <= 37; ++count) {
    std::vector<ln::float16> to(41, std::numeric_limits<ln::float16>::quiet_NaN());
    ln::detail::convert(from.data(), to.data() + 1, count);
    CHECK(std::count_if(to.begin(), to.end(), [](float x) { return x == 1; }) == count);
    CHECK(std::isnan(to[0]));
    CHECK(std::isnan(to[static_cast<std::size_t>(count) + 1]));
  }
}
