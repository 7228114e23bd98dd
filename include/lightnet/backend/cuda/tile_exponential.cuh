// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/math.hpp>

#include <cstdint>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Frames within one run of rows stay this close, so that nothing overflows: 64 / ln 2.
inline constexpr std::int32_t widest_run = 92;
/// And what decays in one, of which the frame is in the middle: a factor that is twice as small as either half is a number yet.
inline constexpr std::int32_t widest_decays = 124;

/// Logits further from zero are taken for that; log2(e), and what float leaves of it.
inline constexpr float farthest_logit = 2.9e6F, log2_e = 1.44269504088896340736F,
                       log2_e_rest = 1.92596299112661746887e-8F;

/// e^x as 2^(n + fraction), the fraction within 1/2 of zero, by a few units in the last place: 0 for -inf. With Plain, x is
/// known to lie within 1e6 of zero; both give the same bits there.
class tile_exponential {
 public:
  template <bool Plain>
  __device__ static tile_exponential of(float x) {
    const float bounded = Plain ? x : fminf(fmaxf(x, -farthest_logit), farthest_logit);
    tile_exponential power;
    power.shifted_ = fmaf(bounded, log2_e, whole);
    power.fraction_ = fmaf(bounded, log2_e_rest, fmaf(bounded, log2_e, whole - power.shifted_));
    power.empty_ = !Plain && x < -limits<float>::largest;
    return power;
  }

  /// n, or empty_exponent.
  __device__ std::int32_t exponent() const { return empty_ ? empty_exponent : __float_as_int(shifted_) - whole_bits; }
  /// 2^(n + fraction - frame), for a frame that is not below n; smaller than 2^-126 is 0. Its digits are those of 2^fraction,
  /// whatever the frame.
  template <bool Plain>
  __device__ float in_frame(std::int32_t frame) const {
    float power;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(fraction_));
    // The last bits of n + whole are those of n; 127 below the frame, the exponent of a float is that of 0.
    const int exponent = __viaddmax_s32(__float_as_int(shifted_), 127 - whole_bits - frame, 0);
    const float scaled = power * __uint_as_float(static_cast<std::uint32_t>(exponent) << 23);
    return !Plain && empty_ ? 0.0F : scaled;
  }

 private:
  static constexpr float whole = 3.0F * (1 << 22);  // the numbers next to it are whole
  static constexpr std::int32_t whole_bits = 0x4B400000;

  float shifted_, fraction_;  // n + whole
  bool empty_;
};

/// e^x 2^-frame, for a frame that is not far below the exponent of e^x: in fewer operations, with digits that the frame decides.
/// Next to a sum of such weights the error is a few units in the last place; one that is 2^-n has n times as much, relative to
/// itself. 0 for -inf. With Plain, x is known to lie within 1e6 of zero; both give the same bits there.
template <bool Plain>
__device__ float exponential_in_frame(float x, float frame) {
  const float bounded = Plain ? x : fminf(fmaxf(x, -farthest_logit), farthest_logit);
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(fmaf(bounded, log2_e_rest, fmaf(bounded, log2_e, -frame))));
  return !Plain && x < -limits<float>::largest ? 0.0F : power;
}

/// 2^x; smaller than 2^-126 is 0.
__device__ inline float tile_power_of_two(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// 1 - e^x for x <= 0, by some units in the last place.
__device__ inline float tile_complement(float x) {
  // Near zero by its series.
  float sum = fmaf(x, 1.0F / 7, 1.0F);
  sum = fmaf(x * (1.0F / 6), sum, 1.0F);
  sum = fmaf(x * 0.2F, sum, 1.0F);
  sum = fmaf(x * 0.25F, sum, 1.0F);
  sum = fmaf(x * (1.0F / 3), sum, 1.0F);
  sum = fmaf(x * 0.5F, sum, 1.0F);
  return x > -0.5F ? -x * sum : 1.0F - tile_power_of_two(x * log2_e);
}

__device__ inline float tile_reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
