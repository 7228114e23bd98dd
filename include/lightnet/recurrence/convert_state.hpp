// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/for_each.hpp>
#include <lightnet/core/math.hpp>
#include <lightnet/core/reach.hpp>
#include <lightnet/core/state.hpp>

#include <cmath>
#include <type_traits>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {
template <class T, class U, class Device>
void check_state_views(const char* operation, const framed_state<T, Device>& state, const dynamic_view<3, U, Device>& z,
                       const dynamic_view<4, U, Device>& s) {
  if (!state || !z || !s) throw device_error(operation, "state, z and s", "views of memory", "a null pointer");
  const auto same = [&](const char* name, const auto& got, const auto& expected) {
    if (got.extents() != expected.extents()) {
      throw shape_error(operation, name, "extents " + bracketed(expected.extents()), got.describe());
    }
  };
  same("z", z, state.normaliser);
  same("exponent", state.exponent, state.normaliser);
  same("s", s, state.sum);
  if (s.extent(0) != z.extent(0) || s.extent(1) != z.extent(1)) {
    throw shape_error(operation, "s", "the batch and heads of z " + z.describe(), s.describe());
  }
  if (z.extent(2) > 0 && s.extent(2) % z.extent(2) != 0) {
    throw shape_error(operation, "s", "a multiple of the " + std::to_string(z.extent(2)) + " keys of z", s.describe());
  }
  check_reach(operation, "exponent", state.exponent);
  check_reach(operation, "normaliser", state.normaliser);
  check_reach(operation, "sum", state.sum);
  check_reach(operation, "z", z);
  check_reach(operation, "s", s);
}

// A key i of a head, and its rows i, i + keys, ... of the state.
struct state_key {
  std::int64_t heads, keys;
  std::int64_t b = 0, h = 0, i = 0;

  LIGHTNET_HOST_DEVICE state_key at(std::int64_t item) const noexcept {
    return {heads, keys, item / keys / heads, item / keys % heads, item % keys};
  }
};

template <class T, class Device>
struct framed_key {
  dynamic_view<3, const T, Device> z;
  dynamic_view<4, const T, Device> s;
  framed_state<T, Device> state;
  state_key all;

  LIGHTNET_HOST_DEVICE scaled<T> begin(std::int64_t item) const noexcept {
    const state_key at = all.at(item);
    return scaled_exponential(z(at.b, at.h, at.i));
  }
  LIGHTNET_HOST_DEVICE void move(std::int64_t item, const scaled<T>& normaliser, std::int64_t first,
                                 std::int64_t step) const noexcept {
    const state_key at = all.at(item);
    const T by = normaliser.mantissa;
    for (std::int64_t row = at.i; row < s.extent(2); row += all.keys) {
      for (std::int64_t j = first; j < s.extent(3); j += step) {
        state.sum(at.b, at.h, row, j) = by == T(0) ? T(0) : by * s(at.b, at.h, row, j);
      }
    }
  }
  LIGHTNET_HOST_DEVICE void end(std::int64_t item, const scaled<T>& normaliser) const noexcept {
    const state_key at = all.at(item);
    state.exponent(at.b, at.h, at.i) = normaliser.exponent;
    state.normaliser(at.b, at.h, at.i) = normaliser.mantissa;
  }
};

template <class T, class Device>
struct unframed_key {
  framed_state<const T, Device> state;
  dynamic_view<3, T, Device> z;
  dynamic_view<4, T, Device> s;
  state_key all;

  struct numbers {
    T normaliser, logarithm;
  };
  LIGHTNET_HOST_DEVICE numbers begin(std::int64_t item) const noexcept {
    const state_key at = all.at(item);
    const T normaliser = state.normaliser(at.b, at.h, at.i);
    const double exponent = state.exponent(at.b, at.h, at.i);
    return {normaliser, static_cast<T>(std::log(static_cast<double>(normaliser)) + 0.69314718055994530942 * exponent)};
  }
  LIGHTNET_HOST_DEVICE void move(std::int64_t item, const numbers& by, std::int64_t first,
                                 std::int64_t step) const noexcept {
    const state_key at = all.at(item);
    for (std::int64_t row = at.i; row < s.extent(2); row += all.keys) {
      for (std::int64_t j = first; j < s.extent(3); j += step) {
        s(at.b, at.h, row, j) = by.normaliser == T(0) ? T(0) : state.sum(at.b, at.h, row, j) / by.normaliser;
      }
    }
  }
  LIGHTNET_HOST_DEVICE void end(std::int64_t item, const numbers& by) const noexcept {
    const state_key at = all.at(item);
    z(at.b, at.h, at.i) = by.logarithm;
  }
};
}  // namespace detail

/// The state (m, Z, U) from z [B, H, d] and S [B, H, d', e]: to start from numbers of another source. Where z = -inf, S
/// is ignored. What scan gave is better passed on as it is: (z, S) in float has lost digits.
template <class T, class Device>
void state_from_logarithm(execution<Device>& on, const std::type_identity_t<dynamic_view<3, const T, Device>>& z,
                          const std::type_identity_t<dynamic_view<4, const T, Device>>& s,
                          const std::type_identity_t<framed_state<T, Device>>& state) {
  detail::check_state_views("state_from_logarithm", state, z, s);
  const detail::state_key all{z.extent(1), z.extent(2)};
  detail::for_each_item(on, "state_from_logarithm", z.size(), detail::framed_key<T, Device>{z, s, state, all});
}
/// The same on one thread of the CPU.
template <class T>
void state_from_logarithm(const dynamic_view<3, const T, cpu>& z, const dynamic_view<4, const T, cpu>& s,
                          const framed_state<T, cpu>& state) {
  execution<cpu> on{1};
  state_from_logarithm<T>(on, z, s, state);
}

/// z = m ln 2 + log Z [B, H, d] and S = U / Z [B, H, d', e] of a state; an empty channel has z = -inf and S = 0.
template <class T, class Device>
void logarithm_of_state(execution<Device>& on, const std::type_identity_t<framed_state<const T, Device>>& state,
                        const std::type_identity_t<dynamic_view<3, T, Device>>& z,
                        const std::type_identity_t<dynamic_view<4, T, Device>>& s) {
  detail::check_state_views("logarithm_of_state", state, z, s);
  const detail::state_key all{z.extent(1), z.extent(2)};
  detail::for_each_item(on, "logarithm_of_state", z.size(), detail::unframed_key<T, Device>{state, z, s, all});
}
/// The same on one thread of the CPU.
template <class T>
void logarithm_of_state(const framed_state<const T, cpu>& state, const dynamic_view<3, T, cpu>& z,
                        const dynamic_view<4, T, cpu>& s) {
  execution<cpu> on{1};
  logarithm_of_state<T>(on, state, z, s);
}

LIGHTNET_END_NAMESPACE
