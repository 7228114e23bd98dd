// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/decimal.hpp>
#include <lightnet/core/half.hpp>
#include <lightnet/core/math.hpp>
#include <lightnet/core/view.hpp>

#include <cmath>
#include <cstdint>
#include <string>
#include <type_traits>

LIGHTNET_BEGIN_NAMESPACE

/// What stays the same from update to update.
struct adam_options {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.01;          ///< of the parameters that decay
  bool decoupled_weight_decay = true;  ///< the rate times it is taken off (AdamW), or it adds to the gradient (Adam)
  double clip_norm = 0;                ///< the largest norm of all gradients together; 0: any

  /// Throws value_error for numbers that make no optimiser.
  void check() const {
    const auto need = [](bool good, const char* argument, const char* expected, double came) {
      if (!good) throw value_error("adam", argument, expected, detail::decimal(came));
    };
    need(beta1 >= 0 && beta1 < 1, "beta1", "zero or more, less than one", beta1);
    need(beta2 >= 0 && beta2 < 1, "beta2", "zero or more, less than one", beta2);
    need(std::isfinite(epsilon) && epsilon >= 1e-30, "epsilon", "1e-30 or more", epsilon);
    need(std::isfinite(weight_decay) && weight_decay >= 0, "weight_decay", "zero or more", weight_decay);
    need(std::isfinite(clip_norm) && clip_norm >= 0, "clip_norm", "zero or more", clip_norm);
  }

  friend bool operator==(const adam_options&, const adam_options&) = default;
};

/// What changes from update to update; it lives in the memory of the device.
struct adam_state {
  std::int64_t updates = 0;         ///< done
  std::int64_t skipped = 0;         ///< not done, because the gradients were not finite
  std::int64_t skipped_in_row = 0;  ///< since the last that was done
  double learning_rate = 0;         ///< of the next update
  double gradient_norm = 0;         ///< of the last one, before clipping
};

namespace detail {

/// A part of a flat block whose parameters all decay, or none: a piece of work for one thread or a few blocks of them.
struct decay_run {
  static constexpr std::int64_t longest = 16384;
  std::int64_t first, count;
  bool decays;
};

/// The square root of a finite number, zero or more, within 3 ulp where it is above the square root of the smallest
/// normal number. std::sqrt may set errno, and so no loop around it becomes vector code.
template <class T>
LIGHTNET_HOST_DEVICE T square_root(T x) noexcept {
  using bits = std::make_unsigned_t<typename binary<T>::bits>;
  constexpr bool narrow = sizeof(T) == sizeof(float);
  constexpr bits magic = static_cast<bits>(narrow ? 0x5F3759DFULL : 0x5FE6EB50C7B537A9ULL);
  // 1 / sqrt(x): a first guess from halving the exponent (error 3.4 %), then Newton's steps, e -> 1.5 e^2.
  T y = bits_as<T>(static_cast<bits>(magic - (bits_as<bits>(x) >> 1)));
  const T half = T(0.5) * x;
  y *= multiply_add(-half * y, y, T(1.5));
  y *= multiply_add(-half * y, y, T(1.5));
  y *= multiply_add(-half * y, y, T(1.5));
  if constexpr (!narrow) y *= multiply_add(-half * y, y, T(1.5));
  return x * y;
}

/// One element of an update:
///
///   x = scale g + coupled_decay p,   m = beta1 m + (1 - beta1) x,   v = beta2 v + (1 - beta2) x^2,
///   p = p - (rate m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon) - decoupled_decay p
///
/// In Adam coupled_decay is the weight decay, in AdamW decoupled_decay is the rate times it, and the other is 0. The gradient
/// may be of a narrower type; then so is a copy of p, rounded.
template <class T>
struct adam_element {
  T scale, beta1, rest1, beta2, rest2, rate, root_correction, epsilon, coupled_decay, decoupled_decay;

  template <class G>
  LIGHTNET_HOST_DEVICE void operator()(T& p, T& m, T& v, const G& g) const noexcept {
    const T x = multiply_add(coupled_decay, p, scale * g);
    m = multiply_add(beta1, m, rest1 * x);
    v = multiply_add(beta2, v, rest2 * x * x);
    const T step = rate * m / multiply_add(square_root(v), root_correction, epsilon);
    p -= multiply_add(decoupled_decay, p, step);
  }
  template <class G>
  LIGHTNET_HOST_DEVICE void operator()(T& p, T& m, T& v, const G& g, G& rounded) const noexcept {
    (*this)(p, m, v, g);
    rounded = static_cast<G>(p);
  }
};

/// What one update does to every element, with weight decay and without.
template <class T>
struct adam_decision {
  adam_element<T> decaying, kept;
  bool skips;
};

/// Moves the state past an update whose gradients have this sum of squares, and says what becomes of the elements.
template <class T>
LIGHTNET_HOST_DEVICE adam_decision<T> decide_update(const adam_options& options, double squares,
                                                    adam_state& state) noexcept {
  adam_decision<T> decision{};
  state.gradient_norm = std::sqrt(squares);
  if (!(squares <= static_cast<double>(limits<T>::largest))) {
    ++state.skipped;
    ++state.skipped_in_row;
    decision.skips = true;
    return decision;
  }
  ++state.updates;
  state.skipped_in_row = 0;
  const auto t = static_cast<double>(state.updates);
  const bool clips = options.clip_norm > 0 && state.gradient_norm > options.clip_norm;
  const double rate = state.learning_rate;
  adam_element<T>& element = decision.kept;
  element.scale = static_cast<T>(clips ? options.clip_norm / state.gradient_norm : 1);
  element.beta1 = static_cast<T>(options.beta1);
  element.rest1 = static_cast<T>(1 - options.beta1);
  element.beta2 = static_cast<T>(options.beta2);
  element.rest2 = static_cast<T>(1 - options.beta2);
  element.rate = static_cast<T>(rate / (1 - std::pow(options.beta1, t)));
  element.root_correction = static_cast<T>(1 / std::sqrt(1 - std::pow(options.beta2, t)));
  element.epsilon = static_cast<T>(options.epsilon);
  decision.decaying = element;
  if (options.decoupled_weight_decay) {
    decision.decaying.decoupled_decay = static_cast<T>(rate * options.weight_decay);
  } else {
    decision.decaying.coupled_decay = static_cast<T>(options.weight_decay);
  }
  return decision;
}

/// The memory that one update works on, all of one size.
template <class T, class Device>
struct adam_arguments {
  using number = accumulator<T>;
  dynamic_view<1, number, Device> parameters, first_moment, second_moment;
  dynamic_view<1, const T, Device> gradients;
  dynamic_view<1, T, Device> rounded;  // the copy of the parameters, where T is not their type

  /// Calls `body` with what adam_element takes of all places.
  template <class Body>
  void pass_to(const Body& body) const {
    if constexpr (std::is_same_v<T, number>) {
      body(parameters.data(), first_moment.data(), second_moment.data(), gradients.data());
    } else {
      body(parameters.data(), first_moment.data(), second_moment.data(), gradients.data(), rounded.data());
    }
  }
};

}  // namespace detail

LIGHTNET_END_NAMESPACE

#include <lightnet/backend/cpu/adam.hpp>
#if defined(LIGHTNET_HAS_CUDA)
#include <lightnet/backend/cuda/adam.cuh>
#endif
