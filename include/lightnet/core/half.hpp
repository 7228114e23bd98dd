// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/bits.hpp>

#include <concepts>
#include <cstdint>
#include <limits>
#include <type_traits>

// The storage types of two bytes. They hold numbers; arithmetic is done in float. They round by code of our own, so that
// a number has the same bits on every device: Eigen's types differ between g++ and nvcc, and a processor may turn
// subnormal numbers into zero on the way to bfloat16, or NaN into another NaN.

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// bfloat16 is the upper half of a float.
LIGHTNET_HOST_DEVICE constexpr float widen_bfloat16(std::uint16_t bits) noexcept {
  return bits_as<float>(static_cast<std::uint32_t>(bits) << 16);
}

/// Rounds to nearest, ties to even. What is above the largest number carries into the exponent of infinity.
LIGHTNET_HOST_DEVICE constexpr std::uint16_t round_to_bfloat16(float x) noexcept {
  const auto bits = bits_as<std::uint32_t>(x);
  const std::uint32_t rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
  const std::uint32_t quiet = (bits >> 16) | 0x40;
  return static_cast<std::uint16_t>((bits & 0x7FFFFFFF) > 0x7F800000 ? quiet : rounded);
}

/// Exact; a signalling NaN becomes quiet, as in the processor's conversion.
LIGHTNET_HOST_DEVICE constexpr float widen_float16(std::uint16_t bits) noexcept {
  constexpr std::uint32_t rebias = (127 - 15) << 23;
  const std::uint32_t magnitude = bits & 0x7FFFU, sign = (bits & 0x8000U) << 16;
  const auto subnormal = bits_as<std::uint32_t>(static_cast<float>(static_cast<std::int32_t>(magnitude)) * 0x1p-24F);
  const std::uint32_t normal = (magnitude << 13) + rebias;
  const std::uint32_t special = (normal + rebias) | (magnitude > 0x7C00 ? 0x400000U : 0U);
  return bits_as<float>(sign | (magnitude < 0x400 ? subnormal : (magnitude < 0x7C00 ? normal : special)));
}

/// Rounds to nearest, ties to even; from 65520 on that is infinity.
LIGHTNET_HOST_DEVICE constexpr std::uint16_t round_to_float16(float x) noexcept {
  constexpr std::uint32_t rebias = (127 - 15) << 23, smallest_normal = 0x38800000;
  const auto bits = bits_as<std::uint32_t>(x);
  const std::uint32_t magnitude = bits & 0x7FFFFFFF, sign = (bits & 0x80000000) >> 16;
  // A float in [0.5, 1) has steps of 2^-24, those of a subnormal float16: this sum does the rounding.
  const float shifted = bits_as<float>(magnitude < smallest_normal ? magnitude : smallest_normal) + 0.5F;
  const std::uint32_t subnormal = bits_as<std::uint32_t>(shifted) - bits_as<std::uint32_t>(0.5F);
  const std::uint32_t carried = (magnitude - rebias + 0xFFF + ((magnitude >> 13) & 1)) >> 13;
  const std::uint32_t normal = carried < 0x7C00 ? carried : 0x7C00;
  const std::uint32_t quiet = 0x7E00 | ((magnitude >> 13) & 0x3FF);
  const std::uint32_t number = magnitude < smallest_normal ? subnormal : normal;
  return static_cast<std::uint16_t>(sign | (magnitude > 0x7F800000 ? quiet : number));
}

/// The neighbour of x in To whose last bit is odd, or x where To has it. Rounding that once more, to a type at least two
/// bits narrower, gives what rounding x itself would.
template <class To, class From>
LIGHTNET_HOST_DEVICE constexpr To round_to_odd(From x) noexcept {
  using word = std::conditional_t<sizeof(To) == sizeof(float), std::uint32_t, std::uint64_t>;
  const To nearest = static_cast<To>(x);
  const From back = static_cast<From>(nearest);
  const bool above = x < From(0) ? back < x : back > x, below = x < From(0) ? back > x : back < x;  // in magnitude
  const auto bits = bits_as<word>(nearest);
  const auto even = static_cast<word>(~bits & 1);
  return bits_as<To>(static_cast<word>(bits + (below ? even : word(0)) - (above ? even : word(0))));
}

/// x as a float that rounds to 11 bits or fewer as x itself would.
template <class X>
LIGHTNET_HOST_DEVICE constexpr float narrow_to_float(X x) noexcept {
  if constexpr (std::is_same_v<X, float>) {
    return x;
  } else if constexpr (std::is_same_v<X, double>) {
    return round_to_odd<float>(x);
  } else if constexpr (std::is_floating_point_v<X>) {
    return round_to_odd<float>(round_to_odd<double>(x));
  } else if constexpr (sizeof(X) < sizeof(std::int64_t)) {
    return round_to_odd<float>(static_cast<double>(x));
  } else {
    // To odd by hand where a double does not hold the integer.
    const X above = static_cast<X>(x >> 53), rest = static_cast<X>(x & 2047);
    const bool fits = above == 0 || above == static_cast<X>(-1);
    const X odd = static_cast<X>((x - rest) | (rest != 0 ? 2048 : 0));
    return round_to_odd<float>(static_cast<double>(fits ? x : odd));
  }
}

}  // namespace detail

/// A number of one sign bit, `ExponentBits` bits of exponent and the rest of 16 bits of fraction: `bfloat16` or
/// `float16`. It becomes a float by itself, and is made from other numbers by name: rounded once, to nearest, ties to
/// even, with infinity above the largest number; NaN stays NaN.
template <int ExponentBits>
class half_precision {
  static_assert(ExponentBits == 5 || ExponentBits == 8, "lightnet::half_precision: use lightnet::float16 or bfloat16");

 public:
  half_precision() = default;

  LIGHTNET_HOST_DEVICE explicit constexpr half_precision(float x) noexcept
      : bits_(ExponentBits == 8 ? detail::round_to_bfloat16(x) : detail::round_to_float16(x)) {}

  template <class X>
    requires(std::is_arithmetic_v<X>)
  LIGHTNET_HOST_DEVICE explicit constexpr half_precision(X x) noexcept : half_precision(detail::narrow_to_float(x)) {}

  /// The number whose 16 bits these are.
  LIGHTNET_HOST_DEVICE static constexpr half_precision from_bits(std::uint16_t bits) noexcept {
    half_precision x;
    x.bits_ = bits;
    return x;
  }

  /// Sign, exponent and fraction, from the highest bit.
  LIGHTNET_HOST_DEVICE constexpr std::uint16_t bits() const noexcept { return bits_; }

  /// The same number.
  LIGHTNET_HOST_DEVICE constexpr operator float() const noexcept {
    return ExponentBits == 8 ? detail::widen_bfloat16(bits_) : detail::widen_float16(bits_);
  }

 private:
  std::uint16_t bits_;
};

/// The range of float with 8 significant bits.
using bfloat16 = half_precision<8>;
/// 11 significant bits up to 65504: binary16 of IEEE 754.
using float16 = half_precision<5>;

namespace detail {
template <class T>
struct accumulator_of {
  using type = T;
};
template <int ExponentBits>
struct accumulator_of<half_precision<ExponentBits>> {
  using type = float;
};
}  // namespace detail

/// A type that tensors of numbers are stored in.
template <class T>
concept storage_type =
    std::same_as<T, float> || std::same_as<T, double> || std::same_as<T, bfloat16> || std::same_as<T, float16>;

/// The type that sums over tokens are made in: float for the types of two bytes, else T.
template <class T>
using accumulator = typename detail::accumulator_of<T>::type;

LIGHTNET_END_NAMESPACE

/// What is not said here is as in float.
template <int ExponentBits>
struct std::numeric_limits<lightnet::half_precision<ExponentBits>> : std::numeric_limits<float> {
 private:
  using number = lightnet::half_precision<ExponentBits>;
  static constexpr int fraction = 15 - ExponentBits, bias = (1 << (ExponentBits - 1)) - 1;
  static constexpr int top = (1 << 15) - (1 << fraction);  // infinity

  static constexpr number from(int bits) noexcept { return number::from_bits(static_cast<std::uint16_t>(bits)); }

 public:
  static constexpr int digits = fraction + 1;
  static constexpr int digits10 = fraction * 30103 / 100000;
  static constexpr int max_digits10 = 2 + digits * 30103 / 100000;
  static constexpr int min_exponent = 2 - bias, min_exponent10 = ExponentBits == 8 ? -37 : -4;
  static constexpr int max_exponent = bias + 1, max_exponent10 = ExponentBits == 8 ? 38 : 4;

  static constexpr number min() noexcept { return from(1 << fraction); }
  static constexpr number max() noexcept { return from(top - 1); }
  static constexpr number lowest() noexcept { return from((1 << 15) | (top - 1)); }
  static constexpr number epsilon() noexcept { return from((bias - fraction) << fraction); }
  static constexpr number round_error() noexcept { return from((bias - 1) << fraction); }
  static constexpr number infinity() noexcept { return from(top); }
  static constexpr number quiet_NaN() noexcept { return from(top | (1 << (fraction - 1))); }
  static constexpr number signaling_NaN() noexcept { return from(top | (1 << (fraction - 2))); }
  static constexpr number denorm_min() noexcept { return from(1); }
};
