// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/view.hpp>

#include <cmath>
#include <cstdint>
#include <string>

LIGHTNET_BEGIN_NAMESPACE

/// What stays the same from update to update.
struct adamw_options {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.01;  ///< of the parameters that decay, times the learning rate
  double clip_norm = 0;        ///< the largest norm of all gradients together; 0: any

  /// Throws value_error for numbers that make no optimiser.
  void check() const {
    const auto need = [](bool good, const char* argument, const char* expected, double came) {
      if (!good) throw value_error("adamw", argument, expected, std::to_string(came));
    };
    need(beta1 >= 0 && beta1 < 1, "beta1", "zero or more, less than one", beta1);
    need(beta2 >= 0 && beta2 < 1, "beta2", "zero or more, less than one", beta2);
    need(std::isfinite(epsilon) && epsilon >= 1e-30, "epsilon", "1e-30 or more", epsilon);
    need(std::isfinite(weight_decay) && weight_decay >= 0, "weight_decay", "zero or more", weight_decay);
    need(std::isfinite(clip_norm) && clip_norm >= 0, "clip_norm", "zero or more", clip_norm);
  }

  friend bool operator==(const adamw_options&, const adamw_options&) = default;
};

/// What changes from update to update; it lives in the memory of the device.
struct adamw_state {
  std::int64_t updates = 0;         ///< done
  std::int64_t skipped = 0;         ///< not done, because the gradients were not finite
  std::int64_t skipped_in_row = 0;  ///< since the last that was done
  double learning_rate = 0;         ///< of the next update
  double gradient_norm = 0;         ///< of the last one, before clipping
};

namespace detail {

/// A part of a flat block whose parameters all decay, or none: a piece of work for one thread.
struct decay_run {
  std::int64_t first, count;
  bool decays;
};

/// The memory that one update works on, all of one size.
template <class T, class Device>
struct adamw_arguments {
  dynamic_view<1, T, Device> parameters, first_moment, second_moment;
  dynamic_view<1, const T, Device> gradients;
};

}  // namespace detail

LIGHTNET_END_NAMESPACE

#include <lightnet/backend/cpu/adamw.hpp>
#if defined(LIGHTNET_HAS_CUDA)
#include <lightnet/backend/cuda/adamw.cuh>
#endif
