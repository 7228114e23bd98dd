// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/map.hpp>
#include <lightnet/backend/cpu/mode_walks.hpp>
#include <lightnet/backend/cpu/parallel.hpp>
#include <lightnet/backend/modes.hpp>
#include <lightnet/backend/token_lines.hpp>
#include <lightnet/core/half.hpp>
#include <lightnet/core/modes.hpp>
#include <lightnet/core/sequence.hpp>

#include <algorithm>
#include <cmath>
#include <numeric>

// Sums of constant decays along every line of a grid's axes, which is MD-TPE. A thread takes some channels of a sequence
// and walks all its lines, so that what it writes stays in its caches.

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// y = x + the sum over axes and modes of gain h, h = lambda h + x; parameters are gamma [Dims, Modes], then the gains
/// [Dims, Width, Modes].
template <int Width, int Modes, bool BothWays, int Dims, class T>
class mode_scan<Width, Modes, BothWays, Dims, T, cpu> {
 public:
  using input = lightnet::sequence<Dims, const T, cpu>;
  using output = lightnet::sequence<Dims, T, cpu>;

  static void forward(execution<cpu>& on, const T* parameters, const input& x, const output& y) {
    execution<cpu>::scope scratch{on};
    const tables table{parameters, scratch};
    const blocks parts{on, scratch, x.batch()};
    parallel_for(on, x.batch() * parts.count, [&](std::int64_t item, int thread) {
      const block part = parts.of(item % parts.count, thread);
      encode(part, item / parts.count, table, x, y, false, modes_onto::x);
    });
  }

  /// dx is overwritten or added to; dparameters are overwritten.
  template <write Write>
  static void backward(execution<cpu>& on, const T* parameters, const input& x, const input& dy, const output& dx,
                       T* dparameters) {
    execution<cpu>::scope scratch{on};
    const tables table{parameters, scratch};
    // One part of the parameters' gradients for a group of channels and a fixed number of sequences.
    const std::int64_t segments = block_range::blocks(segment, x.batch());
    gradient* const gradients = scratch.take<gradient>(segments * groups);
    std::fill_n(gradients, segments * groups, gradient{});
    const blocks parts{on, scratch, segments};
    parallel_for(on, segments * parts.count, [&](std::int64_t item, int thread) {
      const block part = parts.of(item % parts.count, thread);
      const block_range range{item / parts.count, segment, x.batch()};
      for (std::int64_t b = range.first; b < range.last; ++b) {
        differentiate(part, b, table, x, dy, gradients + item / parts.count * groups);
        // What comes back through a kernel is encoded by its mirror.
        encode(part, b, table, {dy.tokens, x.grid, x.mask}, dx, true,
               Write == write::overwrite ? modes_onto::x : modes_onto::x_and_y);
      }
    });
    for (int axis = 0; axis < Dims; ++axis) {
      for (int j = 0; j < Modes; ++j) {
        T ddecay = T(0);
        for (std::int64_t item = 0; item < segments * groups; ++item) {
          const lane sum = table.gains(axis, item % groups)[j] * gradients[item].axis[axis].slope[j];
          ddecay += sum_of_lanes<T>(sum);
        }
        const double rate = std::exp(static_cast<double>(parameters[axis * Modes + j]));
        dparameters[axis * Modes + j] = static_cast<T>(-rate * std::exp(-rate) * static_cast<double>(ddecay));
      }
      for (std::int64_t c = 0; c < Width; ++c) {
        for (int j = 0; j < Modes; ++j) {
          T sum = T(0);
          for (std::int64_t s = 0; s < segments; ++s) {
            sum += gradients[s * groups + c / width].axis[axis].gain[j][c % width];
          }
          dparameters[gains_offset + (std::int64_t{axis} * Width + c) * Modes + j] = sum;
        }
      }
    }
  }

 private:
  static constexpr std::int64_t gains_offset = std::int64_t{Dims} * Modes;
  static constexpr std::int64_t width = lane_count<T>;
  static constexpr std::int64_t groups = (Width + width - 1) / width;  // registers that hold the channels of a token
  static constexpr std::int64_t segment = 16;                          // sequences
  static constexpr std::int64_t most = mode_line<T, T>::most;
  using lane = lanes<T>;
  using slopes = mode_slopes<T, Modes>;

  struct gradient {
    mode_gradients<T, Modes> axis[Dims];
  };

  /// The decays, and the gains with channels in lanes.
  struct tables {
    mode_decays<T, Modes> decay[Dims];
    lane* gain;  // [Dims, groups, Modes]

    tables(const T* parameters, execution<cpu>::scope& scratch) : gain{scratch.take<lane>(Dims * groups * Modes)} {
      for (int axis = 0; axis < Dims; ++axis) {
        for (int j = 0; j < Modes; ++j) {
          decay[axis].set(j, std::exp(static_cast<double>(parameters[axis * Modes + j])));
        }
        for (std::int64_t c = 0; c < groups * width; ++c) {
          const std::int64_t b = gains_offset + (std::int64_t{axis} * Width + c) * Modes;
          for (int j = 0; j < Modes; ++j) {
            gain[(axis * groups + c / width) * Modes + j][c % width] = c < Width ? parameters[b + j] : T(0);
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

    blocks(const execution<cpu>& on, execution<cpu>::scope& scratch, std::int64_t sequences)
        : states{scratch.take<slopes>(on.threads() * groups)} {
      const std::int64_t shares = on.threads() / std::gcd<std::int64_t, std::int64_t>(on.threads(), sequences);
      size = (groups + shares - 1) / shares;
      count = block_range::blocks(size, groups);
    }
    block of(std::int64_t index, int thread) const {
      const block_range range{index, size, groups};
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
    token_lines<Dims, cpu> lines;
    std::int64_t of_line = block_range::blocks(most, lines.longest());
    std::int64_t count = of_line * lines.count();

    stretch operator[](std::int64_t index) const {
      const token_line line = lines[index / of_line];
      const block_range range{index % of_line, most, line.length};
      return {lines.tokens.prefix + line.token(range.first), line.step, range.last - range.first, range.first == 0};
    }
  };

  /// Calls `walk(axis, way, group, line)` for every stretch of every line, in order, and all registers of a block.
  template <class U, class Walk>
  static void each_stretch(const block& part, std::int64_t b, const input& x, const sequence<Dims, U, cpu>& y,
                           bool mirrored, const Walk& walk) {
    for (int axis = 0; axis < Dims; ++axis) {
      for (int way = 0; way < (BothWays ? 2 : 1); ++way) {
        const stretches all{{1, x.grid, {}, axis, (way == 1) != mirrored}};
        for (std::int64_t index = 0; index < all.count; ++index) {
          const stretch here = all[index];
          const stretch after = all[index + 1 < all.count ? index + 1 : index];
          const std::int64_t registers = part.last - part.first;
          row_prefetch<T, U> next{&x.tokens(b, after.first, part.first * width),
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
  static mode_line<T, U> line_of(const input& x, const sequence<Dims, U, cpu>& y, std::int64_t b, std::int64_t group,
                                 const stretch& here, row_prefetch<T, U>& next) {
    const std::int64_t channel = group * width;
    mode_line<T, U> line;
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
                     bool mirrored, modes_onto onto) {
    for (std::int64_t t = 0; t < x.grid.prefix; ++t) {
      for (std::int64_t group = part.first; group < part.last; ++group) {
        row_prefetch<T, T> nothing{};
        add_modes<true>(table.decay[0], nullptr, nullptr, line_of(x, y, b, group, {t, 0, 1, true}, nothing), onto);
      }
    }
    each_stretch(part, b, x, y, mirrored, [&](int axis, int way, std::int64_t group, const auto& line) {
      const auto to = axis == 0 && way == 0 ? onto : modes_onto::y;
      lane* const state = part.states[group].h;
      if (way == 0) {
        add_modes<true>(table.decay[axis], table.gains(axis, group), state, line, to);
      } else {
        add_modes<false>(table.decay[axis], table.gains(axis, group), state, line, to);
      }
    });
  }

  /// Adds the gradients of the parameters by one sequence, for a block of the channels.
  static void differentiate(const block& part, std::int64_t b, const tables& table, const input& x, const input& dy,
                            gradient* sums) {
    each_stretch(part, b, x, dy, false, [&](int axis, int way, std::int64_t group, const auto& line) {
      mode_gradients<T, Modes>& sum = sums[group].axis[axis];
      if (way == 0) {
        add_mode_gradients<true>(table.decay[axis], part.states[group], sum, line);
      } else {
        add_mode_gradients<false>(table.decay[axis], part.states[group], sum, line);
      }
    });
  }
};

/// The same for types of two bytes, by way of float: every number is rounded once.
template <int Width, int Modes, bool BothWays, int Dims, class T>
  requires(!std::is_same_v<T, accumulator<T>>)
class mode_scan<Width, Modes, BothWays, Dims, T, cpu> {
 public:
  using input = lightnet::sequence<Dims, const T, cpu>;
  using output = lightnet::sequence<Dims, T, cpu>;

  static void forward(execution<cpu>& on, const T* parameters, const input& x, const output& y) {
    execution<cpu>::scope scratch{on};
    const matrix to = scratch_matrix<float, cpu>(scratch, y.rows().extent(0), Width);
    in_float::forward(on, widened(on, scratch, all_of(parameters)).data(), x.with_rows(wide(on, scratch, x)),
                      x.with_rows(to));
    map(on, to.extent(0), Width, convert_number{}, y.rows(), to);
  }

  template <write Write>
  static void backward(execution<cpu>& on, const T* parameters, const input& x, const input& dy, const output& dx,
                       T* dparameters) {
    execution<cpu>::scope scratch{on};
    const matrix to = widened(on, scratch, dx.rows());  // masked tokens may keep what is there
    const matrix dall = scratch_matrix<float, cpu>(scratch, 1, count);
    in_float::template backward<Write>(on, widened(on, scratch, all_of(parameters)).data(),
                                       x.with_rows(wide(on, scratch, x)), x.with_rows(wide(on, scratch, dy)),
                                       x.with_rows(to), dall.data());
    map(on, to.extent(0), Width, convert_number{}, dx.rows(), to);
    map(on, 1, count, convert_number{}, all_of(dparameters), dall);
  }

 private:
  static constexpr std::int64_t count = std::int64_t{Dims} * (Modes + std::int64_t{Width} * Modes);
  using in_float = mode_scan<Width, Modes, BothWays, Dims, float, cpu>;
  using matrix = dynamic_view<2, float, cpu>;

  template <class U>
  static dynamic_view<2, U, cpu> all_of(U* parameters) {
    return {parameters, {{1, count}}};
  }
  static dynamic_view<2, const float, cpu> wide(execution<cpu>& on, execution<cpu>::scope& scratch, const input& x) {
    return widened(on, scratch, x.rows());
  }
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
