// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <lightnet/backend/cpu/parallel.hpp>
#include <lightnet/core/random.hpp>
#include <set>
#include <vector>

#if __has_include(<Random123/philox.h>)
#define LIGHTNET_TEST_RANDOM123
#include <Random123/philox.h>

#include <Random123/uniform.hpp>
#endif

namespace ln = lightnet;

namespace {

using words = ln::random_words<4>;

/// The words behind normal numbers 2 pair and 2 pair + 1.
words words_of_pair(std::uint64_t seed, std::uint64_t stream, std::uint64_t pair) {
  return ln::philox(
      {static_cast<std::uint32_t>(pair), static_cast<std::uint32_t>(pair >> 32), static_cast<std::uint32_t>(stream), 1},
      {static_cast<std::uint32_t>(seed),
       static_cast<std::uint32_t>(seed >> 32) ^ static_cast<std::uint32_t>(stream >> 32)});
}

long double open_unit(std::uint32_t word) { return (static_cast<long double>(word) + 0.5L) * 0x1p-32L; }

/// The error in units of 2^-52 of the number.
double ulps(double got, long double expected) {
  return static_cast<double>(std::abs((static_cast<long double>(got) - expected) / expected)) * 0x1p52;
}

}  // namespace

TEST_CASE("philox: the known answers published with Random123") {
  CHECK(ln::philox({0, 0, 0, 0}, {0, 0}) == words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(ln::philox({~0U, ~0U, ~0U, ~0U}, {~0U, ~0U}) == words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(ln::philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
  static_assert(ln::philox({0, 0, 0, 0}, {0, 0})[0] == 0x6627e8d5);
}

#if defined(LIGHTNET_TEST_RANDOM123)
TEST_CASE("philox and uniform: bit for bit those of Random123") {
  r123::Philox4x32 reference;
  std::uint64_t mixed = 88172645463325252U;
  const auto next = [&mixed] {  // Marsaglia's xorshift
    mixed ^= mixed << 13;
    mixed ^= mixed >> 7;
    mixed ^= mixed << 17;
    return static_cast<std::uint32_t>(mixed >> 16);
  };
  for (int n = 0; n < 20000; ++n) {
    const words counter{next(), next(), next(), next()};
    const ln::random_words<2> key{next(), next()};
    const auto expected = reference({{counter[0], counter[1], counter[2], counter[3]}}, {{key[0], key[1]}});
    const words got = ln::philox(counter, key);
    REQUIRE(std::memcmp(got.values, expected.v, sizeof got) == 0);
  }
  for (const std::uint64_t seed : {0ULL, 1ULL, 0x123456789ABCDEFULL, ~0ULL}) {
    for (const std::uint64_t stream : {0ULL, 3ULL, 0xFFFFFFFF00000002ULL}) {
      const ln::random_stream random{seed, stream};
      for (const std::uint64_t base : {0ULL, 0x3FFFFFFFCULL, 0xFFFFFFFFFFFFFFF0ULL}) {
        for (std::uint64_t index = base; index < base + 15; ++index) {
          const std::uint64_t block = index / 4;
          const auto expected =
              reference({{static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(block >> 32),
                          static_cast<std::uint32_t>(stream), 0}},
                        {{static_cast<std::uint32_t>(seed),
                          static_cast<std::uint32_t>(seed >> 32) ^ static_cast<std::uint32_t>(stream >> 32)}});
          REQUIRE(random.bits(index) == expected[index % 4]);
          REQUIRE(random.uniform(index) == r123::u01<double>(expected[index % 4]));
        }
      }
    }
  }
}
#endif

TEST_CASE("normal: within 2 ulp of Box and Muller in long double") {
  // The angle is a double by definition. What that rounding moves is far below what 32 bits of angle resolve, but near
  // a zero of the cosine it is many ulp: so it is measured apart, against the radius.
  constexpr long double two_pi = 6.283185307179586476925286766559005768L;
  double worst = 0, worst_angle = 0;
  for (const std::uint64_t seed : {7ULL, 0xFEDCBA9876543210ULL}) {
    const ln::random_stream random{seed, 5};
    for (std::uint64_t pair = 0; pair < 200000; ++pair) {
      const words word = words_of_pair(seed, 5, pair);
      const long double radius = std::sqrt(-2 * std::log(open_unit(word[0])));
      const long double angle = static_cast<double>(two_pi) * static_cast<double>(open_unit(word[1]));
      const double x = random.normal(2 * pair), y = random.normal(2 * pair + 1);
      worst = std::max({worst, ulps(x, radius * std::cos(angle)), ulps(y, radius * std::sin(angle))});
      const long double exact_angle = two_pi * open_unit(word[1]);
      worst_angle = std::max({worst_angle, static_cast<double>(std::abs(x / radius - std::cos(exact_angle))),
                              static_cast<double>(std::abs(y / radius - std::sin(exact_angle)))});
    }
  }
  MESSAGE("normal: worst error ", worst, " ulp; with the exact angle ", worst_angle * 0x1p53, " * 2^-53 of the radius");
  CHECK(worst <= 2);
  CHECK(worst_angle <= 8 * 0x1p-53);
}

TEST_CASE("random_stream: distributions") {
  constexpr std::uint64_t count = 200000;
  const ln::random_stream random{42, 1};
  SUBCASE("uniform numbers fill their bins evenly and stay inside (0, 1)") {
    std::array<int, 64> bins{};
    double sum = 0;
    for (std::uint64_t i = 0; i < count; ++i) {
      const double x = random.uniform(i);
      REQUIRE((x > 0 && x < 1));
      sum += x;
      ++bins[static_cast<std::size_t>(x * 64)];
    }
    CHECK(sum / count == doctest::Approx(0.5).epsilon(0.005));
    double chi_square = 0;  // 63 degrees of freedom: mean 63, standard deviation 11
    for (const int bin : bins) chi_square += std::pow(bin - count / 64.0, 2) / (count / 64.0);
    CHECK(chi_square > 25);
    CHECK(chi_square < 115);
  }
  SUBCASE("normal numbers have the moments of theirs") {
    std::array<double, 5> moments{};
    for (std::uint64_t i = 0; i < count; ++i) {
      double power = 1;
      for (double& moment : moments) {
        moment += power / count;
        power *= random.normal(i);
      }
    }
    CHECK(std::abs(moments[1]) < 0.01);
    CHECK(moments[2] == doctest::Approx(1).epsilon(0.02));
    CHECK(std::abs(moments[3]) < 0.05);
    CHECK(moments[4] == doctest::Approx(3).epsilon(0.05));
  }
  SUBCASE("truncated normal numbers stay within 2 and have the variance 0.7737") {
    double sum = 0, squares = 0;
    for (std::uint64_t i = 0; i < count; ++i) {
      const double x = random.truncated_normal(i);
      REQUIRE(std::abs(x) <= 2);
      sum += x;
      squares += x * x;
    }
    CHECK(std::abs(sum / count) < 0.01);
    CHECK(squares / count == doctest::Approx(0.77374).epsilon(0.01));
  }
  SUBCASE("below stays below, and reaches all") {
    std::set<std::uint32_t> seen;
    for (std::uint64_t i = 0; i < 1000; ++i) seen.insert(random.below(7, i));
    CHECK(seen.size() == 7);
    CHECK(*seen.rbegin() == 6);
  }
  SUBCASE("streams and seeds have nothing in common") {
    for (const ln::random_stream other :
         {ln::random_stream{42, 2}, ln::random_stream{43, 1}, ln::random_stream{42, 1 | 1ULL << 32}}) {
      double product = 0;
      int equal = 0;
      for (std::uint64_t i = 0; i < count; ++i) {
        product += (random.uniform(i) - 0.5) * (other.uniform(i) - 0.5) * 12 / count;
        equal += random.bits(i) == other.bits(i) ? 1 : 0;
      }
      CHECK(std::abs(product) < 0.012);
      CHECK(equal <= 2);
    }
  }
}

TEST_CASE("random_stream: any number of threads draws the same") {
  const ln::random_stream random{9, 4};
  constexpr std::int64_t count = 5003;
  std::vector<double> expected(count);
  for (std::int64_t i = 0; i < count; ++i) {
    expected[static_cast<std::size_t>(i)] = random.normal(static_cast<std::uint64_t>(i));
  }
  for (int threads = 1; threads <= 4; ++threads) {
    const ln::execution<ln::cpu> on{threads};
    std::vector<double> got(count);
    ln::detail::parallel_for(on, count, [&](std::int64_t i, int) {
      got[static_cast<std::size_t>(i)] = random.normal(static_cast<std::uint64_t>(i));
    });
    CHECK(got == expected);
  }
}
