// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/bits.hpp>

#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>
#if defined(__AVX512F__) || defined(__FMA__)
#include <immintrin.h>
#endif

// Scalar functions that every backend shares, free of branches so that a loop over them becomes vector code. They do
// not call the vector mathematics of another library: Eigen 3.4.0 gives exp(-inf) = 2.9e-39 and other last bits in a
// vector than in its tail.

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Not a vector of some. Device code knows no vectors.
template <class T>
concept single_number = std::is_arithmetic_v<T>;

}  // namespace detail

/// a * b + c of numbers or of vectors of the compilers' vector extension, rounded once where the processor does that in one
/// instruction and twice elsewhere. It is spelled out, for a compiler may join the two operations here and not there, and
/// then the same sum has other bits.
template <detail::single_number T>
LIGHTNET_HOST_DEVICE constexpr T multiply_add(T a, T b, T c) noexcept {
#if defined(__CUDA_ARCH__) || defined(__FP_FAST_FMAF) || defined(__FMA__)
  if constexpr (std::is_same_v<T, float>) {
    return __builtin_fmaf(a, b, c);
  } else if constexpr (std::is_same_v<T, double>) {
    return __builtin_fma(a, b, c);
  }
#endif
  return a * b + c;
}
template <class V>
  requires(!detail::single_number<V>)
constexpr V multiply_add(V a, V b, V c) noexcept {
#if defined(__AVX512F__)
  if constexpr (sizeof(V) == sizeof(__m512)) {
    if constexpr (std::is_same_v<std::remove_cvref_t<decltype(a[0])>, float>) {
      return (V)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
    } else {
      return (V)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
    }
  }
#elif defined(__FMA__)
  if constexpr (sizeof(V) == sizeof(__m256)) {
    if constexpr (std::is_same_v<std::remove_cvref_t<decltype(a[0])>, float>) {
      return (V)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
    } else {
      return (V)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
    }
  }
#endif
  return a * b + c;
}

/// The exponent of an empty frame: below that of any logit, and far enough from the ends of std::int32_t that
/// differences do not overflow.
inline constexpr std::int32_t empty_exponent = -(1 << 30);

namespace detail {

/// The exponent m of a final state: a bad logit fills even a channel that was empty, so that what comes next meets its NaN.
LIGHTNET_HOST_DEVICE constexpr std::int32_t final_exponent(std::int32_t m, bool bad) noexcept {
  return bad && m == empty_exponent ? 0 : m;
}

/// Numbers of std::numeric_limits, whose functions device code must not call.
template <class T>
struct limits {
  static constexpr T lowest = std::numeric_limits<T>::lowest(), largest = std::numeric_limits<T>::max();
  static constexpr T smallest_normal = std::numeric_limits<T>::min();
  static constexpr T infinity = std::numeric_limits<T>::infinity();
  static constexpr T not_a_number = std::numeric_limits<T>::quiet_NaN();
};

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

template <class T>
struct odd_reciprocals {
  static constexpr int last = std::is_same_v<T, float> ? 6 : 15;
  T values[last + 1];
  constexpr odd_reciprocals() : values{} {
    for (int i = 0; i <= last; ++i) values[i] = static_cast<T>(1.0 / (2 * i + 1));
  }
};
}  // namespace detail

/// 2^exponent for an exponent of the normal range of T.
template <class T>
LIGHTNET_HOST_DEVICE constexpr T power_of_two(std::int32_t exponent) noexcept {
  using binary = detail::binary<T>;
  return detail::bits_as<T>(static_cast<typename binary::bits>(exponent + binary::bias) << binary::mantissa);
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

namespace detail {

// The functions behind an exponential take a number or a vector of the compilers' vector extension alike, with the same
// bits: a chunk and a single step must agree on every weight.

template <class V>
struct scalar_of_vector {
  using type = std::remove_cvref_t<decltype(std::declval<V&>()[0])>;
  using exponent = decltype(std::declval<V>() < std::declval<V>());
  using bits [[gnu::vector_size(sizeof(V))]] = std::make_unsigned_t<typename binary<type>::bits>;
};
template <class T>
  requires std::is_arithmetic_v<T>
struct scalar_of_vector<T> {
  using type = T;
  using exponent = std::int32_t;
};
template <class V>
using scalar_of = typename scalar_of_vector<V>::type;
template <class V>
using exponent_of = typename scalar_of_vector<V>::exponent;

/// x in every lane.
template <single_number T>
LIGHTNET_HOST_DEVICE constexpr T all_lanes(T x) noexcept {
  return x;
}
template <class V>
  requires(!single_number<V>)
constexpr V all_lanes(scalar_of<V> x) noexcept {
  return x - V{};  // not a sum: -0 stays -0
}

template <class V>
LIGHTNET_HOST_DEVICE constexpr exponent_of<V> to_exponent(V x) noexcept {
  if constexpr (std::is_arithmetic_v<V>) {
    return static_cast<std::int32_t>(x);
  } else {
    return __builtin_convertvector(x, exponent_of<V>);
  }
}

/// x, bounded at +-bound.
template <class V>
LIGHTNET_HOST_DEVICE constexpr V within(V x, V bound) noexcept {
#if !defined(__CUDA_ARCH__) && defined(__AVX512F__)
  if constexpr (!std::is_arithmetic_v<V> && sizeof(V) == sizeof(__m512)) {  // two instructions in place of four
    if constexpr (std::is_same_v<scalar_of<V>, float>) {
      constexpr __mmask16 all = 0xFFFF;
      return (V)_mm512_maskz_min_ps(all, (__m512)bound, _mm512_maskz_max_ps(all, (__m512)-bound, (__m512)x));
    } else {
      constexpr __mmask8 all = 0xFF;
      return (V)_mm512_maskz_min_pd(all, (__m512d)bound, _mm512_maskz_max_pd(all, (__m512d)-bound, (__m512d)x));
    }
  }
#endif
  return x < -bound ? -bound : (x > bound ? bound : x);
}

/// x = n ln 2 + r with a whole n and |r| about 0.35 at most. x is bounded at +-2.9e6, where a float still rounds to a whole
/// number by an addition; NaN is not for this function.
template <class V>
struct reduced {
  V n, r;
};
template <class V>
LIGHTNET_HOST_DEVICE constexpr reduced<V> reduce_by_ln2(V x) noexcept {
  using T = scalar_of<V>;
  using binary = binary<T>;
  const V bound = all_lanes<V>(T(2.9e6));
  constexpr T whole = T(3) * static_cast<T>(std::int64_t{1} << (binary::mantissa - 1));
  const V bounded = within(x, bound);
  const V n = multiply_add(bounded, all_lanes<V>(T(1.44269504088896340736)), all_lanes<V>(whole)) - whole;
  V r = multiply_add(n, all_lanes<V>(-binary::ln2_high), bounded);
  r = multiply_add(n, all_lanes<V>(-binary::ln2_middle), r);
  return {n, multiply_add(n, all_lanes<V>(-binary::ln2_low), r)};
}

/// sum_{i >= First} r^(i - First) / i!, which is e^r for First = 0 and (e^r - 1) / r for First = 1.
template <int First, class V>
LIGHTNET_HOST_DEVICE constexpr V exponential_series(V r) noexcept {
  using T = scalar_of<V>;
  constexpr reciprocal_factorials<T> coefficients{};
  V p = all_lanes<V>(coefficients.values[binary<T>::terms]);
  LIGHTNET_UNROLL
  for (int i = binary<T>::terms - 1; i >= First; --i) p = multiply_add(p, r, all_lanes<V>(coefficients.values[i]));
  return p;
}

}  // namespace detail

/// A number as mantissa * 2^exponent, the magnitude of the mantissa in [0.7, 1.42); zero is (0, empty_exponent).
template <class V>
struct scaled {
  V mantissa;
  detail::exponent_of<V> exponent;
};

/// e^x without overflow or underflow: x may be -inf (giving zero) and is bounded at +-2.9e6. NaN is not for this function.
template <class V>
LIGHTNET_HOST_DEVICE constexpr scaled<V> scaled_exponential(V x) noexcept {
  using T = detail::scalar_of<V>;
  using exponent = detail::exponent_of<V>;
  const detail::reduced<V> part = detail::reduce_by_ln2(x);
  const V p = detail::exponential_series<0>(part.r);
  const auto zero = x < detail::all_lanes<V>(detail::limits<T>::lowest);
  return {zero ? V{} : p, zero ? exponent{} + empty_exponent : detail::to_exponent(part.n)};
}

/// e^(x + tail) for finite numbers; `tail` is a correction far below x.
template <class V>
LIGHTNET_HOST_DEVICE constexpr scaled<V> scaled_exponential(V x, V tail) noexcept {
  const detail::reduced<V> part = detail::reduce_by_ln2(x);
  return {detail::exponential_series<0>(part.r + tail), detail::to_exponent(part.n)};
}

/// x * 2^exponent for a mantissa x and an exponent <= 0, exact but below the normal range, where it is zero.
template <class V>
LIGHTNET_HOST_DEVICE constexpr V lower_by_power_of_two(V x, detail::exponent_of<V> exponent) noexcept {
  using T = detail::scalar_of<V>;
  using binary = detail::binary<T>;
  constexpr int lowest = 2 - binary::bias;
  if constexpr (std::is_arithmetic_v<V>) {
    const bool normal = exponent >= lowest && x != V(0);
    const auto shift = static_cast<typename binary::bits>(normal ? exponent : 0);
    const auto bits =
        detail::bits_as<typename binary::bits>(x) + shift * (typename binary::bits{1} << binary::mantissa);
    return normal ? detail::bits_as<V>(bits) : V(0);
  } else {
    using bits = typename detail::scalar_of_vector<V>::bits;  // a lane that is not used may hold any exponent
    const auto normal = (exponent >= lowest) & (x != V{});
    return normal ? (V)((bits)x + ((bits)exponent << binary::mantissa)) : V{};
  }
}

/// x / a for a number a of magnitude 1 or less. A divisor of (nearly) zero gives 2^150000 times more: enough that what is
/// divided by the result is zero in every type.
template <class T>
LIGHTNET_HOST_DEVICE constexpr scaled<T> divide_scaled(scaled<T> x, T a) noexcept {
  using binary = detail::binary<T>;
  const T magnitude = a < T(0) ? -a : a;
  if (magnitude < detail::limits<T>::smallest_normal) return {T(1), x.exponent + 150000};
  const auto exponent =
      static_cast<std::int32_t>(detail::bits_as<typename binary::bits>(magnitude) >> binary::mantissa) - binary::bias;
  const T quotient = x.mantissa / (a * power_of_two<T>(-exponent));  // the divisor's magnitude lies in [1, 2)
  const bool small = (quotient < T(0) ? -quotient : quotient) < T(0.7);
  return {small ? quotient + quotient : quotient, x.exponent - exponent - (small ? 1 : 0)};
}

/// 1 - e^x for x <= 0, without losing the digits of a small x; 1 for -inf.
template <class V>
LIGHTNET_HOST_DEVICE constexpr V one_minus_exponential(V x) noexcept {
  using T = detail::scalar_of<V>;
  const V low = detail::all_lanes<V>(T(1 - detail::binary<T>::bias) / 2);  // e^low is nothing beside 1
  const detail::reduced<V> part = detail::reduce_by_ln2(x < low ? low : x);
  const V scale = lower_by_power_of_two(detail::all_lanes<V>(T(1)), detail::to_exponent(part.n));
  return (T(1) - scale) - scale * (part.r * detail::exponential_series<1>(part.r));
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

/// log sigmoid(x) = min(x, 0) - log(1 + e^-|x|), with the digits of e^-x where x is large; its derivative is sigmoid(-x).
template <class T>
LIGHTNET_HOST_DEVICE inline T log_sigmoid(T x) noexcept {
  constexpr detail::odd_reciprocals<T> coefficients{};
  const T e = exponential(x < T(0) ? x : -x);
  const T s = e / (T(2) + e);  // at most 1/3: log(1 + e) = 2 artanh(s) = 2 (s + s^3 / 3 + s^5 / 5 + ...)
  T p = coefficients.values[coefficients.last];
  LIGHTNET_UNROLL
  for (int i = coefficients.last - 1; i >= 0; --i) p = multiply_add(p, s * s, coefficients.values[i]);
  return (x < T(0) ? x : T(0)) - T(2) * s * p;
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

/// A sum with its rounding error beside it: running logarithms keep twice the digits.
template <class V>
struct compensated {
  V sum{}, error{};

  LIGHTNET_HOST_DEVICE constexpr compensated plus(V x) const noexcept {
    const V total = sum + x;
    const V back = total - sum;
    return {total, error + ((sum - (total - back)) + (x - back))};
  }
};

LIGHTNET_END_NAMESPACE
