// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/launch.cuh>
#include <lightnet/core/grid.hpp>

#include <cmath>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Numbers that travel to a kernel as an argument of it, so that a graph keeps them.
struct carried_rates {
  static constexpr std::int64_t most = 256;
  double values[most];
};

struct write_rates {
  carried_rates from;
  double* to;
  __device__ void operator()(std::int64_t i) const { to[i] = from.values[i]; }
};

// Some angles of a token of a head.
template <int Dims, class T>
struct write_angles {
  static constexpr std::int64_t at_once = 2;  // so that fewer divisions tell where they belong

  grid<Dims> tokens;
  std::int64_t share;
  dynamic_view<2, const T, cuda> theta;  // [1 or H, share], or empty:
  const double* rates;                   // [angles]
  dynamic_view<3, T, cuda> cosine, sine;
  dynamic_view<2, T, cuda> coordinate;

  LIGHTNET_HOST_DEVICE std::int64_t parts() const { return (cosine.extent(2) + at_once - 1) / at_once; }

  __device__ void operator()(std::int64_t index) const {
    const std::int64_t row = index / parts(), first = index % parts() * at_once;
    const std::int64_t last = first + at_once < cosine.extent(2) ? first + at_once : cosine.extent(2);
    const std::int64_t h = row / cosine.extent(1), t = row % cosine.extent(1);
    const bool placed = t >= tokens.prefix;
    const auto at = placed ? tokens.coordinates(t) : typename grid<Dims>::indices{};
    for (std::int64_t j = first; j < last; ++j) {
      const std::int64_t axis = j / share;
      std::int64_t n = 0;
      for (int i = 0; i < Dims; ++i) n = i == axis ? at[static_cast<std::size_t>(i)] : n;  // stays in registers
      const double rate = theta ? static_cast<double>(theta(h, j - axis * share)) : rates[j];
      double c = 1, s = 0;
      if (placed) sincos(static_cast<double>(n) * rate, &s, &c);
      cosine(h, t, j) = static_cast<T>(c);
      sine(h, t, j) = static_cast<T>(s);
      if (h == 0 && coordinate) coordinate(t, j) = static_cast<T>(n);
    }
  }
};

/// The cosines and sines of every token's angles, Theta = coordinate * theta, in double until they are stored (in float
/// an angle is off by 1e-3 at position 65535). Tokens of the prefix have Theta = 0. The rates that the encoding itself
/// gives are those of the CPU, to the last bit: they are made on the host.
/// cosine, sine [1 or H, N, angles]; coordinate [N, angles] where its data is not null; theta [1 or H, share] or empty.
template <class Position, int Dims, class T>
void encode_angles(execution<cuda>& on, const grid<Dims>& tokens, std::int64_t keys,
                   const dynamic_view<2, const T, cuda>& theta, const dynamic_view<3, T, cuda>& cosine,
                   const dynamic_view<3, T, cuda>& sine, const dynamic_view<2, T, cuda>& coordinate) {
  constexpr const char* operation = "encode_angles";
  const std::int64_t angles = cosine.extent(2);
  if (cosine.size() == 0) return;
  execution<cuda>::scope scratch{on};
  double* rates = nullptr;
  if (!theta) {
    rates = scratch.take<double>(angles);
    for (std::int64_t first = 0; first < angles; first += carried_rates::most) {
      const std::int64_t count = std::min(carried_rates::most, angles - first);
      write_rates part{{}, rates + first};
      for (std::int64_t i = 0; i < count; ++i) part.from.values[i] = Position::theta(first + i, keys, Dims);
      for_each(on, operation, count, part);
    }
  }
  const write_angles<Dims, T> body{tokens, Position::share(keys, Dims), theta, rates, cosine, sine, coordinate};
  for_each(on, operation, cosine.extent(0) * cosine.extent(1) * body.parts(), body);
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
