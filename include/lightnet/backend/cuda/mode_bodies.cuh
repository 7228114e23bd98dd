// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/channel_word.cuh>
#include <lightnet/backend/cuda/launch.cuh>
#include <lightnet/backend/modes.hpp>
#include <lightnet/backend/token_lines.hpp>
#include <lightnet/core/half.hpp>
#include <lightnet/core/math.hpp>
#include <lightnet/core/modes.hpp>
#include <lightnet/core/sequence.hpp>

#include <type_traits>

// What the threads of MD-TPE's scan do.

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

inline constexpr std::int64_t mode_part = 256;  // the tokens of a part of a line
inline constexpr int mode_threads = 256;

/// What the parameters of one axis say about its modes, and their decay over a whole part.
template <class A, int Modes>
struct mode_table {
  mode_decays<A, Modes> decay, part;
  A part_slope[Modes];   // d lambda^n / dlambda = n lambda^(n - 1), n = mode_part
  double dgamma[Modes];  // dlambda / dgamma
};

template <class T, class A, int Modes>
struct make_mode_table {
  const T* gamma;                // [Dims, Modes]
  mode_table<A, Modes>* tables;  // [Dims]

  __device__ void operator()(std::int64_t index) const {
    mode_table<A, Modes>& table = tables[index / Modes];
    const int j = static_cast<int>(index % Modes);
    const double rate = exp(static_cast<double>(static_cast<A>(gamma[index]))), n = static_cast<double>(mode_part);
    table.decay.set(j, rate);
    table.part.set(j, n * rate);
    table.part_slope[j] = static_cast<A>(n * exp(-(n - 1) * rate));
    table.dgamma[j] = -rate * exp(-rate);
  }
};

/// The lines of one pass over the grids of all sequences, cut into parts; which tokens count.
template <int Dims>
struct mode_lines {
  token_lines<Dims, cuda> lines;
  dynamic_view<2, const bool, cuda> mask;

  LIGHTNET_HOST_DEVICE std::int64_t parts() const {
    return (lines.tokens.extents[static_cast<std::size_t>(lines.axis)] + mode_part - 1) / mode_part;
  }
  LIGHTNET_HOST_DEVICE std::int64_t items() const { return lines.count() * parts(); }

  /// Calls `visit(element, counts, load(element))` for the tokens of part `item`, in order, an element being an offset in
  /// [B, N, Width]. Where there is no mask, what the next eight tokens load is on its way.
  template <class Load, class Visit>
  __device__ void walk(std::int64_t item, std::int64_t width, const Load& load, const Visit& visit) const {
    constexpr int ahead = 8;
    const std::int64_t count = parts();
    const token_line line = lines[item / count];
    const std::int64_t first = item % count * mode_part;
    auto left = static_cast<int>(first + mode_part < line.length ? mode_part : line.length - first);
    std::int64_t t = lines.tokens.prefix + line.token(first);
    std::int64_t element = (line.batch * lines.tokens.size() + t) * width;
    const std::int64_t way = line.step * width;
    if (!mask && left >= ahead) {
      decltype(load(element)) coming[ahead];
      std::int64_t far = element;
      LIGHTNET_UNROLL
      for (int n = 0; n < ahead; ++n, far += way) coming[n] = load(far);
      LIGHTNET_DO_NOT_UNROLL
      for (; left >= ahead; left -= ahead) {
        const bool more = left >= 2 * ahead;
        LIGHTNET_UNROLL
        for (int n = 0; n < ahead; ++n, element += way, far += way) {
          const auto now = coming[n];
          if (more) coming[n] = load(far);
          visit(element, true, now);
        }
      }
    }
    LIGHTNET_DO_NOT_UNROLL
    for (; left > 0; --left, t += line.step, element += way) {
      visit(element, !mask || mask(line.batch, t), load(element));
    }
  }
};

/// h -> lambda h + x of mode j.
template <class A, int Modes>
__device__ A step_mode(const mode_decays<A, Modes>& decay, int j, A h, A x) {
  return multiply_add(decay.whole[j], h, multiply_add(decay.rest[j], h, x));
}

/// The same in one multiply-add, for sums that go on over one part of a line and are rounded to two bytes then: what the last
/// bit of lambda adds up to there is a hundredth of their last one.
template <class A, int Modes>
struct rounded_decays {
  A lambda[Modes];

  __device__ explicit rounded_decays(const mode_decays<A, Modes>& of) {
    LIGHTNET_UNROLL
    for (int j = 0; j < Modes; ++j) lambda[j] = of.whole[j] + of.rest[j];
  }
};
template <class A, int Modes>
__device__ A step_mode(const rounded_decays<A, Modes>& decay, int j, A h, A x) {
  return multiply_add(decay.lambda[j], h, x);
}

template <class T, int Modes>
using part_decays =
    std::conditional_t<sizeof(T) == 2, rounded_decays<accumulator<T>, Modes>, mode_decays<accumulator<T>, Modes>>;

/// The states that a part of a line makes from nothing.
template <int Width, int Modes, bool WithSlopes, int Dims, class T>
struct sum_mode_part {
  using A = accumulator<T>;
  const mode_table<A, Modes>* table;
  const T* x;
  A* states;  // [parts of all lines, States, Width]
  mode_lines<Dims> lines;

  __device__ void operator()(std::int64_t index) const {
    const std::int64_t c = index % Width, item = index / Width;
    const mode_decays<A, Modes> decay = table->decay;
    A h[Modes] = {}, slope[Modes] = {};
    const auto load = [&](std::int64_t at) { return x[at + c]; };
    lines.walk(item, Width, load, [&](std::int64_t, bool counts, const T& read) {
      const A value = counts ? static_cast<A>(read) : A(0);
      LIGHTNET_UNROLL
      for (int j = 0; j < Modes; ++j) {
        if constexpr (WithSlopes) slope[j] = step_mode(decay, j, slope[j], h[j]);
        h[j] = step_mode(decay, j, h[j], value);
      }
    });
    A* const to = states + item * (WithSlopes ? 2 : 1) * Modes * Width + c;
    LIGHTNET_UNROLL
    for (int j = 0; j < Modes; ++j) {
      to[j * Width] = h[j];
      if constexpr (WithSlopes) to[(Modes + j) * Width] = slope[j];
    }
  }
};

/// From what each part makes to the states at its start, of one mode along a line.
template <int Width, int Modes, bool WithSlopes, class A>
struct carry_modes {
  const mode_table<A, Modes>* table;
  A* states;
  std::int64_t parts;

  __device__ void operator()(std::int64_t index) const {
    constexpr std::int64_t item = std::int64_t{WithSlopes ? 2 : 1} * Modes * Width;
    const int j = static_cast<int>(index / Width % Modes);
    A* at = states + index / Width / Modes * parts * item + j * std::int64_t{Width} + index % Width;
    A h = A(0), slope = A(0);
    for (std::int64_t part = 0; part < parts; ++part, at += item) {
      const A made = at[0];
      at[0] = h;
      if constexpr (WithSlopes) {
        const A made_slope = at[std::int64_t{Modes} * Width];
        at[std::int64_t{Modes} * Width] = slope;
        slope = step_mode(table->part, j, slope, multiply_add(table->part_slope[j], h, made_slope));
      }
      h = step_mode(table->part, j, h, made);
    }
  }
};

/// y = x, or x + y, for the tokens before the grid.
template <int Width, int Dims, class T>
struct copy_prefix {
  const T* x;
  T* y;
  std::int64_t tokens, prefix;
  dynamic_view<2, const bool, cuda> mask;
  modes_onto onto;

  __device__ void operator()(std::int64_t index) const {
    using A = accumulator<T>;
    const std::int64_t b = index / Width / prefix, t = index / Width % prefix;
    const std::int64_t at = (b * tokens + t) * Width + index % Width;
    const bool counts = !mask || mask(b, t);
    if (onto == modes_onto::x) {
      y[at] = counts ? x[at] : static_cast<T>(A(0));
    } else if (counts) {
      y[at] = static_cast<T>(static_cast<A>(y[at]) + static_cast<A>(x[at]));
    }
  }
};

/// out = (x, x + y or sums) + sum_j gain_j h_j, as Onto says; without Own, a token's own x does not enter its sum. Where a
/// token does not count, x is 0 and out becomes 0, or stays what it is.
template <modes_onto Onto, bool Own, int Width, int Modes, int Dims, class T, class Out>
struct add_mode_part {
  using A = accumulator<T>;
  static constexpr bool onto_x = Onto != modes_onto::y, onto_more = Onto != modes_onto::x;
  using before_type = std::conditional_t<Onto == modes_onto::y, A, T>;
  const mode_table<A, Modes>* table;
  const T* gains;  // [Width, Modes]
  const T* x;
  const before_type* before;  // y or sums, where they are added to
  Out* out;
  const A* carried;  // null: lines of one part
  mode_lines<Dims> lines;
  bool clears;

  __device__ void operator()(std::int64_t index) const {
    const std::int64_t c = index % Width, item = index / Width;
    const part_decays<T, Modes> decay{table->decay};
    A h[Modes], gain[Modes];
    LIGHTNET_UNROLL
    for (int j = 0; j < Modes; ++j) {
      h[j] = carried ? carried[(item * Modes + j) * Width + c] : A(0);
      gain[j] = static_cast<A>(gains[c * Modes + j]);
    }
    struct loaded {
      T x;
      before_type before;
    };
    const auto load = [&](std::int64_t token) {
      loaded found;
      found.x = x[token + c];
      if constexpr (onto_more) found.before = before[token + c];
      return found;
    };
    lines.walk(item, Width, load, [&](std::int64_t token, bool counts, const loaded& read) {
      const A value = counts ? static_cast<A>(read.x) : A(0);
      A sum[2] = {onto_x ? value : A(0), A(0)};
      if constexpr (onto_more) sum[1] = static_cast<A>(read.before);
      LIGHTNET_UNROLL
      for (int j = 0; j < Modes; ++j) {
        const A next = step_mode(decay, j, h[j], value);
        sum[j % 2] = multiply_add(gain[j], Own ? next : step_mode(decay, j, h[j], A(0)), sum[j % 2]);
        h[j] = next;
      }
      if (!counts && !clears) return;
      out[token + c] = narrow<Out>(channel_word<A, 1>{{counts ? sum[0] + sum[1] : A(0)}}).channels[0];
    });
  }
};

/// Adds, over a segment of the parts of all lines, sum_t dy_t h_t and sum_t dy_t dh_t / dlambda of a group of modes. With
/// Own the sums begin; without, they go on.
template <bool Own, int Width, int Modes, int Dims, class T>
struct sum_mode_gradients_of {
  using A = accumulator<T>;
  static constexpr int group = Modes < 8 ? Modes : 8;
  static constexpr std::int64_t groups = (Modes + group - 1) / group;
  const mode_table<A, Modes>* table;
  const T *x, *dy;
  const A* carried;  // [parts of all lines, 2 Modes, Width]
  A* sums;           // [2, segments, Modes, Width]
  std::int64_t segments;
  mode_lines<Dims> lines;

  __device__ void operator()(std::int64_t index) const {
    const std::int64_t c = index % Width, segment = index / Width / groups;
    const int first = static_cast<int>(index / Width % groups) * group;
    mode_decays<A, group> decay;
    A h[group], slope[group], dgain[group], dslope[group];
    A* const to = sums + (segment * Modes + first) * Width + c;
    const std::int64_t slopes = segments * Modes * Width;
    LIGHTNET_UNROLL
    for (int j = 0; j < group; ++j) {
      const bool there = first + j < Modes;
      decay.whole[j] = there ? table->decay.whole[first + j] : A(0);
      decay.rest[j] = there ? table->decay.rest[first + j] : A(0);
      dgain[j] = !Own && there ? to[j * Width] : A(0);
      dslope[j] = !Own && there ? to[slopes + j * Width] : A(0);
    }
    const std::int64_t items = lines.items(), each = (items + segments - 1) / segments;
    for (std::int64_t item = segment * each; item < (segment + 1) * each && item < items; ++item) {
      LIGHTNET_UNROLL
      for (int j = 0; j < group; ++j) {
        const bool there = carried && first + j < Modes;
        h[j] = there ? carried[(item * 2 * Modes + first + j) * Width + c] : A(0);
        slope[j] = there ? carried[((item * 2 + 1) * Modes + first + j) * Width + c] : A(0);
      }
      struct loaded {
        T x, dy;
      };
      const auto load = [&](std::int64_t at) { return loaded{x[at + c], dy[at + c]}; };
      lines.walk(item, Width, load, [&](std::int64_t, bool counts, const loaded& read) {
        const A value = counts ? static_cast<A>(read.x) : A(0), dvalue = counts ? static_cast<A>(read.dy) : A(0);
        LIGHTNET_UNROLL
        for (int j = 0; j < group; ++j) {
          slope[j] = step_mode(decay, j, slope[j], h[j]);
          dslope[j] = multiply_add(dvalue, slope[j], dslope[j]);
          const A next = step_mode(decay, j, h[j], value);
          dgain[j] = multiply_add(dvalue, Own ? next : step_mode(decay, j, h[j], A(0)), dgain[j]);
          h[j] = next;
        }
      });
    }
    LIGHTNET_UNROLL
    for (int j = 0; j < group; ++j) {
      if (first + j >= Modes) break;
      to[j * Width] = dgain[j];
      to[slopes + j * Width] = dslope[j];
    }
  }
};

/// The gradient by one gain, from the sums of all segments.
template <int Width, int Modes, class A, class T>
struct add_gain_segments {
  const A* sums;  // [segments, Modes, Width]
  std::int64_t segments;
  T* dgains;  // [Width, Modes]

  __device__ void operator()(std::int64_t index) const {
    double total = 0;
    for (std::int64_t s = 0; s < segments; ++s) total += static_cast<double>(sums[s * Modes * Width + index]);
    dgains[index % Width * Modes + index / Width] = static_cast<T>(static_cast<A>(total));
  }
};

/// The gradient by gamma_j: a block each, of which a thread sums every 256th channel; then halves are added.
template <int Width, int Modes, class A, class T>
__global__ void __launch_bounds__(mode_threads)
    add_slope_segments_kernel(const mode_table<A, Modes>* table, const T* gains, const A* sums, std::int64_t segments,
                              T* dgamma) {
  __shared__ double totals[mode_threads];
  const std::int64_t j = blockIdx.x;
  double total = 0;
  for (std::int64_t c = threadIdx.x; c < Width; c += mode_threads) {
    double slope = 0;
    for (std::int64_t s = 0; s < segments; ++s) slope += static_cast<double>(sums[(s * Modes + j) * Width + c]);
    total += static_cast<double>(static_cast<A>(gains[c * Modes + j])) * slope;
  }
  totals[threadIdx.x] = total;
  for (unsigned half = mode_threads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) totals[threadIdx.x] += totals[threadIdx.x + half];
  }
  if (threadIdx.x == 0) dgamma[j] = static_cast<T>(static_cast<A>(table->dgamma[j] * totals[0]));
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
