// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/parallel.hpp>
#include <lightnet/core/math.hpp>
#include <lightnet/core/state.hpp>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {
template <class T, class U>
void check_state_views(const char* operation, const framed_state<T, cpu>& state, const dynamic_view<3, U, cpu>& z,
                       const dynamic_view<4, U, cpu>& s) {
  if (!state || !z || !s) throw device_error(operation, "state, z and s", "views of memory", "a null pointer");
  const auto same = [&](const char* name, const auto& got, const auto& expected) {
    if (got.extents() != expected.extents()) {
      throw shape_error(operation, name, "extents " + bracketed(expected.extents()), got.describe());
    }
  };
  same("z", z, state.normaliser);
  same("exponent", state.exponent, state.normaliser);
  same("s", s, state.sum);
  if (z.extent(2) > 0 && s.extent(2) % z.extent(2) != 0) {
    throw shape_error(operation, "s", "a multiple of the " + std::to_string(z.extent(2)) + " keys of z", s.describe());
  }
}
}  // namespace detail

/// The state (m, Z, U) from z [B, H, d] and S [B, H, d', e]: to start from numbers of another source. Where z = -inf, S
/// is ignored. What scan gave is better passed on as it is: (z, S) in float has lost digits.
template <class T>
void state_from_logarithm(const dynamic_view<3, const T, cpu>& z, const dynamic_view<4, const T, cpu>& s,
                          const framed_state<T, cpu>& state) {
  detail::check_state_views("state_from_logarithm", state, z, s);
  for (std::int64_t b = 0; b < s.extent(0); ++b) {
    for (std::int64_t h = 0; h < s.extent(1); ++h) {
      for (std::int64_t i = 0; i < z.extent(2); ++i) {
        const scaled<T> normaliser = scaled_exponential(z(b, h, i));
        state.exponent(b, h, i) = normaliser.exponent;
        state.normaliser(b, h, i) = normaliser.mantissa;
      }
      for (std::int64_t i = 0; i < s.extent(2); ++i) {
        const T by = state.normaliser(b, h, i % z.extent(2));
        for (std::int64_t j = 0; j < s.extent(3); ++j) state.sum(b, h, i, j) = by == T(0) ? T(0) : by * s(b, h, i, j);
      }
    }
  }
}

/// z = m ln 2 + log Z [B, H, d] and S = U / Z [B, H, d', e] of a state; an empty channel has z = -inf and S = 0.
template <class T>
void logarithm_of_state(const framed_state<const T, cpu>& state, const dynamic_view<3, T, cpu>& z,
                        const dynamic_view<4, T, cpu>& s) {
  detail::check_state_views("logarithm_of_state", state, z, s);
  for (std::int64_t b = 0; b < s.extent(0); ++b) {
    for (std::int64_t h = 0; h < s.extent(1); ++h) {
      for (std::int64_t i = 0; i < z.extent(2); ++i) {
        const double normaliser = static_cast<double>(state.normaliser(b, h, i));
        z(b, h, i) = static_cast<T>(std::log(normaliser) + 0.69314718055994530942 * state.exponent(b, h, i));
      }
      for (std::int64_t i = 0; i < s.extent(2); ++i) {
        const T normaliser = state.normaliser(b, h, i % z.extent(2));
        for (std::int64_t j = 0; j < s.extent(3); ++j) {
          s(b, h, i, j) = normaliser == T(0) ? T(0) : state.sum(b, h, i, j) / normaliser;
        }
      }
    }
  }
}

LIGHTNET_END_NAMESPACE
