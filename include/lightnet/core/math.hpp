// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/config.hpp>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

// Scalar functions that every backend shares, free of branches so that a loop over them becomes vector code. They do
// not call the vector mathematics of another library: Eigen 3.4.0 gives exp(-inf) = 2.9e-39 and other last bits in a
// vector than in its tail.

LIGHTNET_BEGIN_NAMESPACE

/// a * b + c, rounded once where the processor does that in one instruction and twice elsewhere; the same choice for
/// every lane of a loop, so that an element's bits do not depend on its place.
template <class T>
LIGHTNET_HOST_DEVICE constexpr T multiply_add(T a, T b, T c) noexcept {
#if defined(__CUDA_ARCH__) || defined(__FP_FAST_FMAF) || defined(__FMA__)
  if constexpr (sizeof(T) == sizeof(float)) {
    return __builtin_fmaf(a, b, c);
  } else {
    return __builtin_fma(a, b, c);
  }
#else
  return a * b + c;
#endif
}

/// The exponent of an empty frame: below that of any logit, and far enough from the ends of std::int32_t that
/// differences do not overflow.
inline constexpr std::int32_t empty_exponent = -(1 << 30);

namespace detail {
template <class T>
struct binary;
template <>
struct binary<float> {
  using bits = std::int32_t;
  static constexpr int mantissa = 23, bias = 127, terms = 7;
  // ln 2 in three parts; the first two times any |n| < 2^16 are exact.
  static constexpr float ln2_high = 0.6875F, ln2_middle = 0.005645751953125F, ln2_low = 1.42860677e-6F;
};
template <>
struct binary<double> {
  using bits = std::int64_t;
  static constexpr int mantissa = 52, bias = 1023, terms = 13;
  static constexpr double ln2_high = 0x1.62e42fefp-1, ln2_middle = 0x1.473de6af2p-34, ln2_low = 0x1.e3b39803f2f6bp-72;
};

template <class T>
struct reciprocal_factorials {
  T values[14];
  constexpr reciprocal_factorials() : values{} {
    double factorial = 1;
    for (int i = 0; i < 14; ++i) {
      values[i] = static_cast<T>(1 / factorial);
      factorial *= i + 1;
    }
  }
};
}  // namespace detail

/// 2^exponent for an exponent of the normal range of T.
template <class T>
LIGHTNET_HOST_DEVICE constexpr T power_of_two(std::int32_t exponent) noexcept {
  using binary = detail::binary<T>;
  return std::bit_cast<T>(static_cast<typename binary::bits>(exponent + binary::bias) << binary::mantissa);
}

/// x * 2^exponent, exact but where the result is below the normal range. Any exponent: those that would take 1 out of
/// the range of T, and as far again, count as the last that does.
template <class T>
LIGHTNET_HOST_DEVICE constexpr T scale_by_power_of_two(T x, std::int32_t exponent) noexcept {
  constexpr std::int32_t most = 2 * (detail::binary<T>::bias - 1);
  const std::int32_t bounded = exponent < -most ? -most : (exponent > most ? most : exponent);
  const std::int32_t half = bounded / 2;
  return x * power_of_two<T>(half) * power_of_two<T>(bounded - half);
}

/// A positive number as mantissa * 2^exponent, the mantissa in [0.7, 1.42); zero is (0, empty_exponent).
template <class T>
struct scaled {
  T mantissa;
  std::int32_t exponent;
};

/// e^(x + tail) without overflow or underflow: x may be -inf (giving zero) and is bounded at +-1.8e8; `tail` is a
/// correction far below x. NaN is not for this function.
template <class T>
LIGHTNET_HOST_DEVICE inline scaled<T> scaled_exponential(T x, T tail = T(0)) noexcept {
  using binary = detail::binary<T>;
  constexpr detail::reciprocal_factorials<T> coefficients{};
  constexpr T bound = T(1.8e8), reach = T(0.35);
  const T bounded = x < -bound ? -bound : (x > bound ? bound : x);
  const T n = std::rint(bounded * T(1.44269504088896340736));
  T r = multiply_add(-n, binary::ln2_high, bounded);
  r = multiply_add(-n, binary::ln2_middle, r);
  r = multiply_add(-n, binary::ln2_low, r) + tail;
  r = r < -reach ? -reach : (r > reach ? reach : r);
  T p = coefficients.values[binary::terms];
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC unroll 16
#endif
  for (int i = binary::terms - 1; i >= 0; --i) p = multiply_add(p, r, coefficients.values[i]);
  const bool zero = x < -std::numeric_limits<T>::max();
  return {zero ? T(0) : p, zero ? empty_exponent : static_cast<std::int32_t>(n)};
}

/// e^x within 2 ulp; e^-inf = 0, e^NaN = NaN.
template <class T>
LIGHTNET_HOST_DEVICE inline T exponential(T x) noexcept {
  constexpr T low = T(-2) * detail::binary<T>::bias, high = -low;
  const bool ordered = x == x;
  const T bounded = x < low ? low : (x > high ? high : (ordered ? x : T(0)));
  const scaled<T> e = scaled_exponential(bounded);
  return ordered ? scale_by_power_of_two(e.mantissa, e.exponent) : x;
}

/// 1 / (1 + e^-x).
template <class T>
LIGHTNET_HOST_DEVICE inline T sigmoid(T x) noexcept {
  const T e = exponential(x < T(0) ? x : -x);
  return (x < T(0) ? e : T(1)) / (T(1) + e);
}

/// x * sigmoid(x), the activation of the paper (Swish, SiLU).
template <class T>
LIGHTNET_HOST_DEVICE inline T silu(T x) noexcept {
  return x * sigmoid(x);
}

/// The derivative of silu, s (1 + x (1 - s)); 1 - s is sigmoid(-x), which a difference would lose digits of.
template <class T>
LIGHTNET_HOST_DEVICE inline T dsilu(T x) noexcept {
  const T e = exponential(x < T(0) ? x : -x);
  const T larger = T(1) / (T(1) + e), smaller = e * larger;
  const T s = x < T(0) ? smaller : larger;
  const T rest = x < T(0) ? larger : smaller;
  return s * multiply_add(x, rest, T(1));
}

/// A sum with its rounding error beside it: running logarithms keep twice the digits of T.
template <class T>
struct compensated {
  T sum = T(0), error = T(0);

  LIGHTNET_HOST_DEVICE constexpr compensated plus(T x) const noexcept {
    const T total = sum + x;
    const T back = total - sum;
    return {total, error + ((sum - (total - back)) + (x - back))};
  }
};

LIGHTNET_END_NAMESPACE
