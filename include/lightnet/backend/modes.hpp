// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/config.hpp>

#include <cmath>

// What every backend's scan knows of modes.

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// E decays lambda, each as whole + rest with a whole of 0 or 1: one just below 1 keeps the digits
/// of its distance from 1, which a long line shows.
template <class T, int E>
struct mode_decays {
  T whole[E], rest[E];

  /// lambda = exp(-rate).
  LIGHTNET_HOST_DEVICE void set(int j, double rate) noexcept {
    whole[j] = rate < 0.69 ? T(1) : T(0);
    rest[j] = static_cast<T>(rate < 0.69 ? std::expm1(-rate) : std::exp(-rate));
  }
};

/// What a walk adds the modes to.
enum class modes_onto { x, x_and_y, y };

/// The forward and the backward call of MD-TPE on a device: every backend specialises it.
template <int Width, int Modes, bool BothWays, int Dims, class T, class Device>
class mode_scan;

}  // namespace detail

LIGHTNET_END_NAMESPACE
