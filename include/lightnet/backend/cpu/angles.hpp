// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/parallel.hpp>
#include <lightnet/core/grid.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <type_traits>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Cosines and sines of the angles n rate for n in [first, first + multiples), in double. They are taken apart, n = 16 u + l,
/// so that only few are computed and the rest follow from cos(a + b) and sin(a + b): good for all that is then stored in
/// less than double.
class angle_table {
 public:
  angle_table() = default;
  angle_table(execution<cpu>& on, execution<cpu>::scope& scratch, const double* rates, std::int64_t count,
              std::int64_t first, std::int64_t multiples)
      : count_{count}, start_{first >= 0 ? first / step * step : -((step - 1 - first) / step * step)} {
    const std::int64_t before = first - start_, steps = (before + multiples + step - 1) / step;
    lower_ = scratch.take<double>(2 * step * count);
    upper_ = scratch.take<double>(2 * steps * count);
    parallel_for(on, steps + step, [&](std::int64_t i, int) {
      const std::int64_t l = i - steps;
      if (i < steps) {
        fill(upper_ + 2 * i * count_, rates, start_ + i * step);
      } else if ((l - before + step) % step < multiples) {  // else nothing asks for it
        fill(lower_ + 2 * l * count_, rates, l);
      }
    });
  }

  /// The cosines and sines of n times the rates [from, to).
  template <class T>
  void write(std::int64_t n, std::int64_t from, std::int64_t to, T* cosine, T* sine) const noexcept {
    const double *const upper = upper_ + 2 * ((n - start_) / step) * count_, *const upper_sine = upper + count_;
    const double *const lower = lower_ + 2 * ((n - start_) % step) * count_, *const lower_sine = lower + count_;
    LIGHTNET_OMP(omp simd)
    for (std::int64_t j = from; j < to; ++j) {
      cosine[j - from] = static_cast<T>(upper[j] * lower[j] - upper_sine[j] * lower_sine[j]);
      sine[j - from] = static_cast<T>(upper_sine[j] * lower[j] + upper[j] * lower_sine[j]);
    }
  }

 private:
  static constexpr std::int64_t step = 16;

  void fill(double* cosine, const double* rates, std::int64_t n) const noexcept {
    for (std::int64_t j = 0; j < count_; ++j) {
      const double angle = static_cast<double>(n) * rates[j];
      cosine[j] = std::cos(angle);
      cosine[count_ + j] = std::sin(angle);
    }
  }

  std::int64_t count_ = 0, start_ = 0;
  double *lower_ = nullptr, *upper_ = nullptr;  // [step, 2, count], [steps, 2, count]
};

/// The cosines and sines of every token's angles, Theta = coordinate * theta, in double until they are stored (in float
/// an angle is off by 1e-3 at position 65535). Tokens of the prefix have Theta = 0.
/// cosine, sine [1 or H, N, angles]; coordinate [N, angles] where its data is not null; theta [1 or H, share] or empty;
/// origin [Dims], which is added to the offset, or empty.
template <class Position, int Dims, class T>
void encode_angles(execution<cpu>& on, grid<Dims> tokens, std::int64_t keys, const dynamic_view<2, const T, cpu>& theta,
                   const dynamic_view<3, T, cpu>& cosine, const dynamic_view<3, T, cpu>& sine,
                   const dynamic_view<2, T, cpu>& coordinate,
                   const dynamic_view<1, const std::int64_t, cpu>& origin = {}) {
  for (int axis = 0; origin && axis < Dims; ++axis) tokens.offset[static_cast<std::size_t>(axis)] += origin(axis);
  constexpr bool by_table = !std::is_same_v<T, double>;
  const std::int64_t heads = cosine.extent(0), count = cosine.extent(1), angles = cosine.extent(2);
  const std::int64_t share = Position::share(keys, Dims);
  execution<cpu>::scope scratch{on};
  double* const rates = scratch.take<double>(heads * angles);  // [axis, head, angle of the axis]
  std::array<angle_table, static_cast<std::size_t>(Dims)> tables;
  for (std::int64_t first = 0, axis = 0; first < angles; first += share, ++axis) {
    const std::int64_t own = std::min(share, angles - first);
    double* const of_axis = rates + heads * first;
    for (std::int64_t h = 0; h < heads; ++h) {
      for (std::int64_t j = 0; j < own; ++j) {
        of_axis[h * own + j] = theta ? static_cast<double>(theta(h, j)) : Position::theta(first + j, keys, Dims);
      }
    }
    const auto at = static_cast<std::size_t>(axis);
    if (by_table) tables[at] = {on, scratch, of_axis, heads * own, tokens.offset[at], tokens.extents[at]};
  }
  constexpr std::int64_t block = 16;
  parallel_for(on, block_range::blocks(block, count), [&](std::int64_t index, int) {
    const block_range part{index, block, count};
    for (std::int64_t t = part.first; t < part.last; ++t) {
      const bool placed = t >= tokens.prefix;
      const auto at = placed ? tokens.coordinates(t) : typename grid<Dims>::indices{};
      for (std::int64_t first = 0, axis = 0; first < angles; first += share, ++axis) {
        const std::int64_t own = std::min(share, angles - first), n = at[static_cast<std::size_t>(axis)];
        for (std::int64_t j = 0; coordinate && j < own; ++j) coordinate(t, first + j) = static_cast<T>(n);
        for (std::int64_t h = 0; h < heads; ++h) {
          T *const cosines = &cosine(h, t, first), *const sines = &sine(h, t, first);
          if (!placed) {
            std::fill_n(cosines, own, T(1));
            std::fill_n(sines, own, T(0));
          } else if constexpr (by_table) {
            tables[static_cast<std::size_t>(axis)].write(n, h * own, (h + 1) * own, cosines, sines);
          } else {
            for (std::int64_t j = 0; j < own; ++j) {
              const double angle = static_cast<double>(n) * rates[heads * first + h * own + j];
              cosines[j] = std::cos(angle);
              sines[j] = std::sin(angle);
            }
          }
        }
      }
    }
  });
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
