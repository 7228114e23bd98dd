// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/adamw.hpp>
#include <lightnet/backend/cpu/reduce.hpp>
#include <lightnet/core/math.hpp>

#include <bit>
#include <cmath>
#include <limits>
#include <type_traits>
#include <vector>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// The sum of the squares, in double: blocks of a fixed size and a tree over them, whatever the number of threads.
template <class T>
double sum_of_squares(execution<cpu>& on, const dynamic_view<1, const T, cpu>& x) {
  constexpr std::int64_t block = 4096;
  const std::int64_t blocks = block_range::blocks(block, x.size());
  execution<cpu>::scope scratch{on};
  double* const parts = scratch.take<double>(blocks + 1);
  parts[0] = 0;
  parallel_for(on, blocks, [&](std::int64_t index, int) {
    const block_range part{index, block, x.size()};
    const auto square = [](const T& each) {
      const auto wide = static_cast<double>(each);
      return sums<double, 1>{{wide * wide}};
    };
    parts[index] = sum_row<double, 1>(square, part.last - part.first, x.data() + part.first).values[0];
  });
  for (std::int64_t step = 1; step < blocks; step *= 2) {
    for (std::int64_t i = 0; i + step < blocks; i += 2 * step) parts[i] += parts[i + step];
  }
  return parts[0];
}

/// The square root of a finite number, zero or more, within 3 ulp where it is above the square root of the smallest
/// normal number. std::sqrt may set errno, and so no loop around it becomes vector code.
template <class T>
T square_root(T x) noexcept {
  using bits = std::make_unsigned_t<typename binary<T>::bits>;
  constexpr bool narrow = sizeof(T) == sizeof(float);
  constexpr bits magic = static_cast<bits>(narrow ? 0x5F3759DFULL : 0x5FE6EB50C7B537A9ULL);
  // 1 / sqrt(x): a first guess from halving the exponent (error 3.4 %), then Newton's steps, e -> 1.5 e^2.
  T y = std::bit_cast<T>(static_cast<bits>(magic - (std::bit_cast<bits>(x) >> 1)));
  const T half = T(0.5) * x;
  y *= multiply_add(-half * y, y, T(1.5));
  y *= multiply_add(-half * y, y, T(1.5));
  y *= multiply_add(-half * y, y, T(1.5));
  if constexpr (!narrow) y *= multiply_add(-half * y, y, T(1.5));
  return x * y;
}

/// One element of an update:
///
///   x = scale g,   m = beta1 m + (1 - beta1) x,   v = beta2 v + (1 - beta2) x^2,
///   p = p - (rate m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon) - rate decay p
template <class T>
struct adamw_element {
  T scale, beta1, rest1, beta2, rest2, rate, root_correction, epsilon, decay;

  LIGHTNET_HOST_DEVICE void operator()(T& p, T& m, T& v, const T& g) const noexcept {
    const T x = scale * g;
    m = multiply_add(beta1, m, rest1 * x);
    v = multiply_add(beta2, v, rest2 * x * x);
    const T step = rate * m / multiply_add(square_root(v), root_correction, epsilon);
    p -= multiply_add(decay, p, step);
  }
};

/// One update, or none where the squares of the gradients add up to more than T can hold, or to NaN.
template <class T>
void adamw_update(execution<cpu>& on, const adamw_options& options, const std::vector<decay_run>& runs,
                  adamw_state& state, const adamw_arguments<T, cpu>& a) {
  const double squares = sum_of_squares(on, a.gradients);
  state.gradient_norm = std::sqrt(squares);
  if (!(squares <= static_cast<double>(std::numeric_limits<T>::max()))) {
    ++state.skipped;
    ++state.skipped_in_row;
    return;
  }
  ++state.updates;
  state.skipped_in_row = 0;
  const auto t = static_cast<double>(state.updates);
  const bool clips = options.clip_norm > 0 && state.gradient_norm > options.clip_norm;
  const double rate = state.learning_rate;
  adamw_element<T> element{};
  element.scale = static_cast<T>(clips ? options.clip_norm / state.gradient_norm : 1);
  element.beta1 = static_cast<T>(options.beta1);
  element.rest1 = static_cast<T>(1 - options.beta1);
  element.beta2 = static_cast<T>(options.beta2);
  element.rest2 = static_cast<T>(1 - options.beta2);
  element.rate = static_cast<T>(rate / (1 - std::pow(options.beta1, t)));
  element.root_correction = static_cast<T>(1 / std::sqrt(1 - std::pow(options.beta2, t)));
  element.epsilon = static_cast<T>(options.epsilon);
  const auto decay = static_cast<T>(rate * options.weight_decay);
  parallel_for(on, static_cast<std::int64_t>(runs.size()), [&](std::int64_t index, int) {
    const decay_run& run = runs[static_cast<std::size_t>(index)];
    adamw_element<T> mine = element;
    mine.decay = run.decays ? decay : T(0);
    map_row(mine, run.count, a.parameters.data() + run.first, a.first_moment.data() + run.first,
            a.second_moment.data() + run.first, a.gradients.data() + run.first);
  });
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
