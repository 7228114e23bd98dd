// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/half.hpp>
#include <lightnet/core/math.hpp>

// Activations of numbers that are rounded to a storage type T. One of two bytes has fewer digits than a GPU's own 2^x and
// 1 / x, which take a tenth of the instructions; else they are those of core/math.hpp.

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

#if defined(__CUDA_ARCH__)
/// Whether they are the processor's own.
template <class T>
inline constexpr bool approximate_activations = sizeof(T) == 2;

/// 1 / (1 + e^-x), and 1 - that.
struct sigmoid_and_rest {
  float sigmoid, rest;

  __device__ explicit sigmoid_and_rest(float x) noexcept {
    float e, larger;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(e) : "f"(fabsf(x) * -1.44269504F));
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(larger) : "f"(1 + e));
    const float smaller = e * larger;
    sigmoid = x < 0 ? smaller : larger;
    rest = x < 0 ? larger : smaller;
  }
};
#endif

template <class T>
LIGHTNET_HOST_DEVICE inline accumulator<T> sigmoid_for(accumulator<T> x) noexcept {
#if defined(__CUDA_ARCH__)
  if constexpr (approximate_activations<T>) return sigmoid_and_rest{x}.sigmoid;
#endif
  return sigmoid(x);
}

template <class T>
LIGHTNET_HOST_DEVICE inline accumulator<T> silu_for(accumulator<T> x) noexcept {
#if defined(__CUDA_ARCH__)
  if constexpr (approximate_activations<T>) return x * sigmoid_and_rest{x}.sigmoid;
#endif
  return silu(x);
}

template <class T>
LIGHTNET_HOST_DEVICE inline accumulator<T> dsilu_for(accumulator<T> x) noexcept {
#if defined(__CUDA_ARCH__)
  if constexpr (approximate_activations<T>) {
    const sigmoid_and_rest s{x};
    return s.sigmoid * fmaf(x, s.rest, 1.0F);
  }
#endif
  return dsilu(x);
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
