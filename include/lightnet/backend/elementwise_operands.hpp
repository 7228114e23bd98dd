// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/token_lines.hpp>
#include <lightnet/core/half.hpp>
#include <lightnet/core/head_sequence.hpp>
#include <lightnet/core/math.hpp>

#include <type_traits>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// What every backend's elementwise_recurrence gets: checked arguments, all sizes known. Views that were not given are
/// empty.
template <class Recurrence, int Dims, class T, class Device>
struct elementwise_arguments {
  using sum_type = accumulator<T>;

  token_lines<Dims, Device> lines;
  std::int64_t heads, channels;

  head_sequence<Dims, const T, Device> x;      // [B, N, H, d]
  head_sequence<Dims, const T, Device> decay;  // [B, N, H, d]  its logarithm, or itself where it has a sign
  dynamic_view<2, const bool, Device> mask;    // [B, N]
  typename Recurrence::template state<const sum_type, Device> state;

  /// The channels of a token, those of all heads side by side.
  LIGHTNET_HOST_DEVICE std::int64_t row() const noexcept { return heads * channels; }
  /// The tokens of all sequences.
  LIGHTNET_HOST_DEVICE std::int64_t tokens() const noexcept { return lines.batch * lines.tokens.size(); }
};

/// Outputs of the forward call in a storage type U; the state is optional.
template <class Recurrence, int Dims, class U, class Device>
struct elementwise_outputs {
  head_sequence<Dims, U, Device> o;  // [B, N, H, d]
  typename Recurrence::template state<accumulator<U>, Device> state;
  bool accumulate = false;  // add to o
};

/// Inputs and outputs of the backward call beside the arguments; every output, in a storage type U, is optional.
template <int Dims, class T, class U, class Device>
struct elementwise_gradients {
  using sum_type = accumulator<T>;

  head_sequence<Dims, const T, Device> o;               // [B, N, H, d]  incoming
  dynamic_view<3, const sum_type, Device> final_state;  // [B, H, d]     incoming, optional
  head_sequence<Dims, U, Device> x, decay;              // [B, N, H, d]
  dynamic_view<3, sum_type, Device> state;              // [B, H, d]
  bool accumulate = false;                              // add to x and decay
};

/// e^x within 2 ulp for a log decay x <= 0, else NaN. A third of the instructions of exponential(), so that memory is
/// the limit: below 1 nothing overflows, and one power of two is added to the exponent field, while a second one makes
/// the subnormal numbers.
template <class T>
LIGHTNET_HOST_DEVICE inline T decay_of_logarithm(T x) noexcept {
  using binary = detail::binary<T>;
  using bits = std::make_unsigned_t<typename binary::bits>;
  constexpr int half_range = (binary::bias + 1) / 2;
  // Below `low`, e^x is zero. A sum with `rounder` has the nearest integer + half_range in its lowest bits.
  constexpr T low = -T(binary::bias + 3), rounder = T(3) * T(bits(1) << (binary::mantissa - 1)) + T(half_range);
  const T bounded = x > low ? x : low;
  const T rounded = multiply_add(bounded, T(1.44269504088896340736), rounder);
  const T n = rounded - rounder;
  T r = multiply_add(-n, binary::ln2_high, bounded);
  r = multiply_add(-n, binary::ln2_middle, r);
  r = multiply_add(-n, binary::ln2_low, r);
  const T p = exponential_series<0>(r);
  const T scaled = bits_as<T>(bits_as<bits>(p) + (bits_as<bits>(rounded) << binary::mantissa));
  constexpr T nan = limits<T>::not_a_number;
  return x <= T(0) ? scaled * power_of_two<T>(-half_range) : nan;
}

/// The decay a, from log a or, with a sign, from a itself; NaN where that is out of range.
template <bool WithSign, class T>
LIGHTNET_HOST_DEVICE inline T decay_of(T given) noexcept {
  if constexpr (WithSign) {
    constexpr T nan = limits<T>::not_a_number;
    return given >= T(-1) && given <= T(1) ? given : nan;
  } else {
    return decay_of_logarithm(given);
  }
}

/// Merges one channel of two states, counted over [B, H, d].
template <class Recurrence, class T, class Device>
struct merge_vectors {
  typename Recurrence::template state<const T, Device> left, right;
  typename Recurrence::template state<T, Device> to;

  LIGHTNET_HOST_DEVICE void operator()(std::int64_t index) const noexcept {
    using monoid = typename Recurrence::template monoid<T>;
    const std::int64_t heads = left.h.extent(1), channels = left.h.extent(2);
    const std::int64_t b = index / channels / heads, h = index / channels % heads, i = index % channels;
    const auto merged = monoid::combine({to.decay ? left.decay(b, h, i) : T(1), left.h(b, h, i)},
                                        {right.decay(b, h, i), right.h(b, h, i)});
    to.h(b, h, i) = merged.payload;
    if (to.decay) to.decay(b, h, i) = merged.decay;
  }
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
