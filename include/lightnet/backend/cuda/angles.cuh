// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/launch.cuh>
#include <lightnet/core/grid.hpp>

#include <cmath>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Some angles of all tokens, and their rates, which travel to the kernel as an argument of it, so that a graph keeps them.
template <int Dims, class T>
struct angle_job {
  static constexpr std::int64_t most = 256;

  grid<Dims> tokens;
  std::int64_t share, first, count;      // the angles [first, first + count)
  dynamic_view<2, const T, cuda> theta;  // [1 or H, share], or empty: then `rates` hold
  dynamic_view<3, T, cuda> cosine, sine;
  dynamic_view<2, T, cuda> coordinate;
  dynamic_view<1, const std::int64_t, cuda> origin;  // [Dims], or empty
  double rates[most];
};

/// Writes them. A thread two of a token and head, so that fewer divisions tell where they belong, or one where they are few.
template <int Dims, class T>
__global__ void __launch_bounds__(256)
    write_angles_kernel(const __grid_constant__ angle_job<Dims, T> job, std::int64_t at_once) {
  take_turn();
  const std::int64_t parts = (job.count + at_once - 1) / at_once, rows = job.cosine.extent(0) * job.cosine.extent(1);
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t n = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; n < rows * parts; n += step) {
    const std::int64_t row = n / parts, begin = n % parts * at_once;
    const std::int64_t h = row / job.cosine.extent(1), t = row % job.cosine.extent(1);
    const bool placed = t >= job.tokens.prefix;
    const auto at = placed ? job.tokens.coordinates(t) : typename grid<Dims>::indices{};
    for (std::int64_t i = begin; i < begin + at_once && i < job.count; ++i) {
      const std::int64_t j = job.first + i, axis = j / job.share;
      std::int64_t place = 0;
      for (int d = 0; d < Dims; ++d) place = d == axis ? at[static_cast<std::size_t>(d)] : place;  // stays in registers
      if (placed && job.origin) place += job.origin(axis);
      const double rate = job.theta ? static_cast<double>(job.theta(h, j - axis * job.share)) : job.rates[i];
      double c = 1, s = 0;
      if (placed) sincos(static_cast<double>(place) * rate, &s, &c);
      job.cosine(h, t, j) = static_cast<T>(c);
      job.sine(h, t, j) = static_cast<T>(s);
      if (h == 0 && job.coordinate) job.coordinate(t, j) = static_cast<T>(place);
    }
  }
}

/// The cosines and sines of every token's angles, Theta = coordinate * theta, in double until they are stored (in float
/// an angle is off by 1e-3 at position 65535). Tokens of the prefix have Theta = 0. The rates that the encoding itself
/// gives are those of the CPU, to the last bit: they are made on the host.
/// cosine, sine [1 or H, N, angles]; coordinate [N, angles] where its data is not null; theta [1 or H, share] or empty;
/// origin [Dims], which is added to the offset, or empty.
template <class Position, int Dims, class T>
void encode_angles(execution<cuda>& on, const grid<Dims>& tokens, std::int64_t keys,
                   const dynamic_view<2, const T, cuda>& theta, const dynamic_view<3, T, cuda>& cosine,
                   const dynamic_view<3, T, cuda>& sine, const dynamic_view<2, T, cuda>& coordinate,
                   const dynamic_view<1, const std::int64_t, cuda>& origin = {}) {
  constexpr const char* operation = "encode_angles";
  if (cosine.size() == 0) return;
  using job_type = angle_job<Dims, T>;
  const std::int64_t angles = cosine.extent(2), rows = cosine.extent(0) * cosine.extent(1);
  for (std::int64_t first = 0; first < angles; first += job_type::most) {
    job_type job{tokens, Position::share(keys, Dims),
                 first,  std::min(job_type::most, angles - first),
                 theta,  cosine,
                 sine,   coordinate,
                 origin, {}};
    for (std::int64_t i = 0; !theta && i < job.count; ++i) job.rates[i] = Position::theta(first + i, keys, Dims);
    const std::int64_t most = std::int64_t{on.processors()} * 32, at_once = rows * job.count > most ? 2 : 1;
    const std::int64_t blocks = (rows * ((job.count + at_once - 1) / at_once) + 255) / 256;
    launch_ahead(on, operation, {std::min(blocks, most), 256}, write_angles_kernel<Dims, T>, job, at_once);
  }
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
