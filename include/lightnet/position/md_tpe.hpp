// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/parallel.hpp>
#include <lightnet/backend/scan.hpp>
#include <lightnet/core/layer_check.hpp>
#include <lightnet/core/modes.hpp>
#include <lightnet/core/parameters.hpp>

#include <algorithm>
#include <cmath>
#include <numeric>

LIGHTNET_BEGIN_NAMESPACE

/// MD-TPE, the multi-dimensional Toeplitz positional encoding (arXiv 2405.21022): along each axis, with the others
/// batched, channel c is convolved with T_c[i] = sum_j b_{c,j} lambda_j^i, lambda_j = exp(-exp(gamma_j)), as Modes
/// recurrences h_j = lambda_j h_j + x; y = x + the sum over the axes. x, y [B, N, Width]; gamma [Dims, Modes],
/// b [Dims, Width, Modes]. A masked token reads as 0 and comes out as 0; the prefix of a grid passes unchanged.
/// BothWays adds the mirrored kernel, the diagonal once. y must not overlap x. Throws device_error or shape_error
/// before anything is written.
template <int Width, int Modes = 16, bool BothWays = false, int Dims = 1, class T = float, class Device = cpu>
struct md_tpe {
  static_assert(Modes >= 1, "lightnet: an encoding has one mode or more");
  static constexpr std::int64_t gains_offset = std::int64_t{Dims} * Modes;
  static constexpr std::int64_t parameter_count = gains_offset + std::int64_t{Dims} * Width * Modes;
  template <class Mode>
  using context = no_context;
  using parameters = parameters_of<md_tpe, const T, Device>;
  using input = sequence<Dims, const T, Device>;
  using output = sequence<Dims, T, Device>;

  /// gamma_j = -8 (j + 1) ln 2 / Modes, b = 0: the encoding starts as the identity.
  void describe(const std::string& prefix, std::int64_t offset, std::vector<parameter>& list) const {
    const double step = -8 * 0.69314718055994530942 / Modes;
    list.push_back({prefix + "gamma", {Dims, Modes}, offset, initial_value::ramp(step), false});
    list.push_back({prefix + "b", {Dims, Width, Modes}, offset + gains_offset, {}, false});
  }

  void forward(execution<Device>& on, const parameters& params, const input& x, const output& y) const {
    const detail::layer_checker check{"md_tpe::forward"};
    check.parameters("params", params);
    check.tokens("x", x, x.batch(), x.grid.size(), Width);
    check.tokens("y", y, x.batch(), x.grid.size(), Width);
    typename execution<Device>::scope scratch{on};
    const tables table{params, scratch};
    const blocks parts{on, scratch, x.batch()};
    detail::parallel_for(on, x.batch() * parts.count, [&](std::int64_t item, int thread) {
      const block part = parts.of(item % parts.count, thread);
      encode(part, item / parts.count, table, x, y, false, detail::modes_onto::x);
    });
  }

  /// dx is overwritten or added to; dparams is overwritten.
  template <write Write = write::overwrite>
  void backward(execution<Device>& on, const parameters& params, const input& x, const input& dy, const output& dx,
                const parameters_of<md_tpe, T, Device>& dparams) const {
    const detail::layer_checker check{"md_tpe::backward"};
    check.parameters("params", params);
    check.tokens("x", x, x.batch(), x.grid.size(), Width);
    check.tokens("dy", dy, x.batch(), x.grid.size(), Width);
    check.tokens("dx", dx, x.batch(), x.grid.size(), Width);
    check.parameters("dparams", dparams);
    typename execution<Device>::scope scratch{on};
    const tables table{params, scratch};
    // One part of the parameters' gradients for a group of channels and a fixed number of sequences.
    const std::int64_t segments = detail::block_range::blocks(segment, x.batch());
    gradient* const gradients = scratch.template take<gradient>(segments * groups);
    std::fill_n(gradients, segments * groups, gradient{});
    const blocks parts{on, scratch, segments};
    detail::parallel_for(on, segments * parts.count, [&](std::int64_t item, int thread) {
      const block part = parts.of(item % parts.count, thread);
      const detail::block_range range{item / parts.count, segment, x.batch()};
      for (std::int64_t b = range.first; b < range.last; ++b) {
        differentiate(part, b, table, x, dy, gradients + item / parts.count * groups);
        // What comes back through a kernel is encoded by its mirror.
        encode(part, b, table, {dy.tokens, x.grid, x.mask}, dx, true,
               Write == write::overwrite ? detail::modes_onto::x : detail::modes_onto::x_and_y);
      }
    });
    for (int axis = 0; axis < Dims; ++axis) {
      for (int j = 0; j < Modes; ++j) {
        T ddecay = T(0);
        for (std::int64_t item = 0; item < segments * groups; ++item) {
          const lane sum = table.gains(axis, item % groups)[j] * gradients[item].axis[axis].slope[j];
          ddecay += detail::sum_of_lanes<T>(sum);
        }
        const double rate = std::exp(static_cast<double>(params.data()[axis * Modes + j]));
        dparams.data()[axis * Modes + j] = static_cast<T>(-rate * std::exp(-rate) * static_cast<double>(ddecay));
      }
      for (std::int64_t c = 0; c < Width; ++c) {
        for (int j = 0; j < Modes; ++j) {
          T sum = T(0);
          for (std::int64_t s = 0; s < segments; ++s) {
            sum += gradients[s * groups + c / width].axis[axis].gain[j][c % width];
          }
          dparams.data()[gains_offset + (std::int64_t{axis} * Width + c) * Modes + j] = sum;
        }
      }
    }
  }

 private:
  static constexpr std::int64_t width = detail::lane_count<T>;
  static constexpr std::int64_t groups = (Width + width - 1) / width;  // registers that hold the channels of a token
  static constexpr std::int64_t segment = 16;                          // sequences
  static constexpr std::int64_t most = detail::mode_line<T, T>::most;
  using lane = detail::lanes<T>;
  using slopes = detail::mode_slopes<T, Modes>;

  struct gradient {
    detail::mode_gradients<T, Modes> axis[Dims];
  };

  /// The decays, and the gains with channels in lanes.
  struct tables {
    detail::mode_decays<T, Modes> decay[Dims];
    lane* gain;  // [Dims, groups, Modes]

    tables(const parameters& params, typename execution<Device>::scope& scratch)
        : gain{scratch.template take<lane>(Dims * groups * Modes)} {
      for (int axis = 0; axis < Dims; ++axis) {
        for (int j = 0; j < Modes; ++j) {
          decay[axis].set(j, static_cast<double>(params.data()[axis * Modes + j]));
        }
        for (std::int64_t c = 0; c < groups * width; ++c) {
          const std::int64_t b = gains_offset + (std::int64_t{axis} * Width + c) * Modes;
          for (int j = 0; j < Modes; ++j) {
            gain[(axis * groups + c / width) * Modes + j][c % width] = c < Width ? params.data()[b + j] : T(0);
          }
        }
      }
    }
    const lane* gains(int axis, std::int64_t group) const { return gain + (axis * groups + group) * Modes; }
  };

  /// Some registers of the channels, with what a thread needs for them.
  struct block {
    std::int64_t first, last;  // registers
    slopes* states;            // [groups]
  };
  /// The channels in so many blocks that every thread has as much to do.
  struct blocks {
    std::int64_t size, count;
    slopes* states;  // [threads, groups]

    blocks(const execution<Device>& on, typename execution<Device>::scope& scratch, std::int64_t sequences)
        : states{scratch.template take<slopes>(on.threads() * groups)} {
      const std::int64_t shares = on.threads() / std::gcd<std::int64_t, std::int64_t>(on.threads(), sequences);
      size = (groups + shares - 1) / shares;
      count = detail::block_range::blocks(size, groups);
    }
    block of(std::int64_t index, int thread) const {
      const detail::block_range range{index, size, groups};
      return {range.first, range.last, states + thread * groups};
    }
  };

  /// Some tokens of a line.
  struct stretch {
    std::int64_t first, step, length;
    bool begins;  // the line
  };
  /// The lines of one pass, in stretches.
  struct stretches {
    detail::token_lines<Dims, Device> lines;
    std::int64_t of_line = detail::block_range::blocks(most, lines.longest());
    std::int64_t count = of_line * lines.count();

    stretch operator[](std::int64_t index) const {
      const detail::token_line line = lines[index / of_line];
      const detail::block_range range{index % of_line, most, line.length};
      return {lines.tokens.prefix + line.token(range.first), line.step, range.last - range.first, range.first == 0};
    }
  };

  /// Calls `walk(axis, way, group, line)` for every stretch of every line, in order, and all registers of a block.
  template <class U, class Walk>
  static void each_stretch(const block& part, std::int64_t b, const input& x, const sequence<Dims, U, Device>& y,
                           bool mirrored, const Walk& walk) {
    for (int axis = 0; axis < Dims; ++axis) {
      for (int way = 0; way < (BothWays ? 2 : 1); ++way) {
        const stretches all{{1, x.grid, {}, axis, (way == 1) != mirrored}};
        for (std::int64_t index = 0; index < all.count; ++index) {
          const stretch here = all[index];
          const stretch after = all[index + 1 < all.count ? index + 1 : index];
          const std::int64_t registers = part.last - part.first;
          detail::row_prefetch<T, U> next{&x.tokens(b, after.first, part.first * width),
                                          &y.tokens(b, after.first, part.first * width), after.step * Width, registers,
                                          registers * after.length};
          for (std::int64_t group = part.first; group < part.last; ++group) {
            walk(axis, way, group, line_of(x, y, b, group, here, next));
          }
        }
      }
    }
  }

  template <class U>
  static detail::mode_line<T, U> line_of(const input& x, const sequence<Dims, U, Device>& y, std::int64_t b,
                                         std::int64_t group, const stretch& here, detail::row_prefetch<T, U>& next) {
    const std::int64_t channel = group * width;
    detail::mode_line<T, U> line;
    line.x = &x.tokens(b, here.first, channel);
    line.y = &y.tokens(b, here.first, channel);
    line.mask = x.mask ? &x.mask(b, here.first) : nullptr;
    line.step = here.step * Width;
    line.mask_step = x.mask ? here.step * x.mask.stride(1) : 0;
    line.length = here.length;
    line.count = std::min(width, Width - channel);
    line.begins = here.begins;
    line.next = &next;
    return line;
  }

  /// y = x, or x + y, + the modes of every axis, for a block of one sequence; mirrored: with each kernel turned round.
  static void encode(const block& part, std::int64_t b, const tables& table, const input& x, const output& y,
                     bool mirrored, detail::modes_onto onto) {
    for (std::int64_t t = 0; t < x.grid.prefix; ++t) {
      for (std::int64_t group = part.first; group < part.last; ++group) {
        detail::row_prefetch<T, T> nothing{};
        detail::add_modes<true>(table.decay[0], nullptr, nullptr, line_of(x, y, b, group, {t, 0, 1, true}, nothing),
                                onto);
      }
    }
    each_stretch(part, b, x, y, mirrored, [&](int axis, int way, std::int64_t group, const auto& line) {
      const auto to = axis == 0 && way == 0 ? onto : detail::modes_onto::y;
      lane* const state = part.states[group].h;
      if (way == 0) {
        detail::add_modes<true>(table.decay[axis], table.gains(axis, group), state, line, to);
      } else {
        detail::add_modes<false>(table.decay[axis], table.gains(axis, group), state, line, to);
      }
    });
  }

  /// Adds the gradients of the parameters by one sequence, for a block of the channels.
  static void differentiate(const block& part, std::int64_t b, const tables& table, const input& x, const input& dy,
                            gradient* sums) {
    each_stretch(part, b, x, dy, false, [&](int axis, int way, std::int64_t group, const auto& line) {
      detail::mode_gradients<T, Modes>& sum = sums[group].axis[axis];
      if (way == 0) {
        detail::add_mode_gradients<true>(table.decay[axis], part.states[group], sum, line);
      } else {
        detail::add_mode_gradients<false>(table.decay[axis], part.states[group], sum, line);
      }
    });
  }
};

LIGHTNET_END_NAMESPACE
