// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/decimal.hpp>
#include <lightnet/core/error.hpp>

#include <cmath>
#include <cstdint>
#include <numbers>
#include <string>

LIGHTNET_BEGIN_NAMESPACE

/// The learning rate as a pure function of the updates done: a linear warm-up to the peak, then what the shape says.
///
///   warm-up               peak (s + 1) / warmup                                   for s < warmup, s = 0, 1, ...
///   constant              peak
///   cosine                floor + (peak - floor) (1 + cos(pi x)) / 2,             x = (s - warmup) / (total - warmup)
///   inverse_square_root   peak sqrt(warmup / (s + 1)), warmup at least 1
///
/// The cosine (arXiv 1608.03983) stays at the floor from `total` on, where training should end; the inverse square root
/// (arXiv 1706.03762) stops at the floor.
struct learning_rate_schedule {
  enum class shapes { constant, cosine, inverse_square_root };

  shapes shape = shapes::cosine;
  double peak = 1e-3;
  std::int64_t warmup = 0;  ///< updates
  std::int64_t total = 0;   ///< updates; the cosine needs it
  double floor = 0;

  /// The rate of the update that comes after `step` others.
  LIGHTNET_HOST_DEVICE double operator()(std::int64_t step) const noexcept {
    const auto done = static_cast<double>(step);
    const auto ramp = static_cast<double>(warmup);
    if (step < warmup) return peak * (done + 1) / ramp;
    switch (shape) {
      case shapes::cosine: {
        const double x = step < total ? (done - ramp) / (static_cast<double>(total) - ramp) : 1;
        return floor + (peak - floor) * 0.5 * (1 + std::cos(std::numbers::pi * x));
      }
      case shapes::inverse_square_root: {
        const double rate = peak * std::sqrt((warmup > 0 ? ramp : 1) / (done + 1));
        return rate > floor ? rate : floor;
      }
      case shapes::constant:
        break;
    }
    return peak;
  }

  /// Throws value_error for numbers that make no schedule.
  void check() const {
    const auto need = [](bool good, const char* argument, const std::string& expected, const std::string& came) {
      if (!good) throw value_error("learning_rate_schedule", argument, expected, came);
    };
    need(std::isfinite(peak) && peak >= 0, "peak", "a finite number, zero or more", detail::decimal(peak));
    need(floor >= 0 && floor <= peak, "floor", "zero to the peak " + detail::decimal(peak), detail::decimal(floor));
    need(warmup >= 0, "warmup", "zero or more", std::to_string(warmup));
    need(shape != shapes::cosine || total > warmup, "total",
         "more updates than the warm-up of " + std::to_string(warmup), std::to_string(total));
  }

  friend bool operator==(const learning_rate_schedule&, const learning_rate_schedule&) = default;
};

LIGHTNET_END_NAMESPACE
