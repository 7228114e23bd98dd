// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/math.hpp>

#include <cstdint>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Frames within one run of rows stay this close, so that nothing overflows: 64 / ln 2.
inline constexpr std::int32_t widest_run = 92;

/// e^x in a frame, 2^(x / ln 2 - frame), for factors that are rounded to two bytes: within 6e-6 of it, and for x far from zero
/// as a base would have it that is e but for 2e-8. Frames differ by whole powers of two, in the digits, too: what comes later
/// and raises a frame changes no digit of what was there.
class tile_exponential {
 public:
  /// With Plain, x is known to lie within 1e6 of zero; both are the same there.
  template <bool Plain>
  __device__ static tile_exponential of(float x) {
    constexpr float bound = 2.9e6F;
    return tile_exponential{Plain || x < -limits<float>::largest ? x : fminf(fmaxf(x, -bound), bound)};
  }

  /// The whole number next to x / ln 2, or empty_exponent for -inf.
  __device__ std::int32_t exponent() const {
    constexpr float whole = 3.0F * (1 << 22);  // the numbers next to it are whole
    constexpr std::int32_t whole_bits = 0x4B400000;
    return x_ < -limits<float>::largest ? empty_exponent : __float_as_int(fmaf(x_, log2_e, whole)) - whole_bits;
  }
  /// Smaller than 2^-126 is 0.
  __device__ float in_frame(std::int32_t frame) const {
    // The sum is rounded to a multiple of 2^-16 whatever the frame, for it lies between 128 and 256.
    constexpr float highest = 254;
    const float sum = fmaf(x_, log2_e, highest - static_cast<float>(frame));
    float power;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(sum - highest));
    return power;
  }

 private:
  static constexpr float log2_e = 1.44269504088896340736F;

  __device__ explicit tile_exponential(float x) : x_{x} {}

  float x_;
};

__device__ inline float tile_reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
