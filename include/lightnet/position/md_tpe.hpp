// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/scan.hpp>
#include <lightnet/core/layer_check.hpp>
#include <lightnet/core/modes.hpp>
#include <lightnet/core/parameters.hpp>

#include <algorithm>
#include <cmath>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// E numbers that are worked on together: the states or gains of the modes of an encoding.
template <class V, int E>
struct mode_pack {
  V values[E];

  constexpr mode_pack() noexcept : values{} {}
  constexpr explicit mode_pack(V all) noexcept {
    for (V& value : values) value = all;
  }
  friend constexpr mode_pack operator*(const mode_pack& a, const mode_pack& b) noexcept {
    mode_pack product;
    for (int j = 0; j < E; ++j) product.values[j] = a.values[j] * b.values[j];
    return product;
  }
};

/// E decays lambda = exp(-exp(gamma)), each as whole + rest with a whole of 0 or 1: one just below 1 keeps the digits of
/// its distance from 1, which a long line shows.
template <class T, int E>
struct mode_decays {
  T whole[E], rest[E];

  constexpr void set(int j, double gamma) noexcept {
    const double rate = std::exp(gamma);
    whole[j] = rate < 0.69 ? T(1) : T(0);
    rest[j] = static_cast<T>(rate < 0.69 ? std::expm1(-rate) : std::exp(-rate));
  }
  friend constexpr mode_decays operator*(const mode_decays& a, const mode_decays& b) noexcept {
    mode_decays product;
    for (int j = 0; j < E; ++j) {
      product.whole[j] = a.whole[j] * b.whole[j];
      product.rest[j] = a.whole[j] * b.rest[j] + a.rest[j] * (b.whole[j] + b.rest[j]);
    }
    return product;
  }
  /// lambda h + x.
  template <class V>
  constexpr mode_pack<V, E> advance(const mode_pack<V, E>& h, const mode_pack<V, E>& x) const noexcept {
    mode_pack<V, E> next;
    for (int j = 0; j < E; ++j) next.values[j] = whole[j] * h.values[j] + (rest[j] * h.values[j] + x.values[j]);
    return next;
  }
};

/// The affine monoid of monoid/affine.hpp on such decays.
template <class T, class V, int E>
struct mode_recurrence {
  struct element {
    mode_decays<T, E> decay;
    mode_pack<V, E> payload;
  };
  static constexpr element combine(const element& left, const element& right) noexcept {
    return {left.decay * right.decay, right.decay.advance(left.payload, right.payload)};
  }
};

}  // namespace detail

/// MD-TPE, the multi-dimensional Toeplitz positional encoding (arXiv 2405.21022): along each axis, with the others
/// batched, channel c is convolved with T_c[i] = sum_j b_{c,j} lambda_j^i, lambda_j = exp(-exp(gamma_j)), as Modes
/// recurrences h_j = lambda_j h_j + x; y = x + the sum over the axes. x, y [B, N, Width]; gamma [Dims, Modes],
/// b [Dims, Width, Modes]. A masked token reads as 0 and comes out as 0; the prefix of a grid passes unchanged.
/// BothWays adds the mirrored kernel, the diagonal once. y must not overlap x. Throws device_error or shape_error before
/// anything is written.
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
    detail::parallel_for(on, x.batch() * groups, [&](std::int64_t item, int) {
      const strip part{x, item / groups, item % groups};
      copy_rows(part, x, x, y);
      for (int axis = 0; axis < Dims; ++axis) {
        const pack& gain = table.gains(axis, part.channel);
        part.each_line(axis, [&](std::int64_t first, std::int64_t step, std::int64_t length) {
          for (int way = 0; way < (BothWays ? 2 : 1); ++way) {
            walk(
                length, way == 1, table.decay[axis],
                [&](std::int64_t i) { return pack(part.load(x, first + i * step)); },
                [&](std::int64_t i, const element& before, const element& after) {
                  const std::int64_t t = first + i * step;
                  if (!part.on(x, t)) return;
                  const pack h = way == 0 ? after.payload : table.decay[axis].advance(before.payload, pack{});
                  lane sum = part.load(y, t);
                  for (int j = 0; j < Modes; ++j) sum += gain.values[j] * h.values[j];
                  part.store(y, t, sum);
                });
          }
        });
      }
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
    std::int64_t longest = 0;
    for (const std::int64_t extent : x.grid.extents) longest = std::max(longest, extent);
    pack* const histories = scratch.template take<pack>(on.threads() * longest);
    // One part of the parameters' gradients for a group of channels and a fixed number of sequences.
    const std::int64_t segments = detail::block_range::blocks(segment, x.batch());
    gradient* const gradients = scratch.template take<gradient>(segments * groups);
    detail::parallel_for(on, segments * groups, [&](std::int64_t item, int thread) {
      gradient& sum = gradients[item];
      sum = gradient{};
      const detail::block_range range{item / groups, segment, x.batch()};
      for (std::int64_t b = range.first; b < range.last; ++b) {
        const strip part{x, b, item % groups};
        backward_strip<Write>(part, table, x, dy, dx, histories + thread * longest, sum);
      }
    });
    for (int axis = 0; axis < Dims; ++axis) {
      for (int j = 0; j < Modes; ++j) {
        T ddecay = T(0);
        for (std::int64_t item = 0; item < segments * groups; ++item) {
          ddecay += detail::sum_of_lanes<T>(gradients[item].decay[axis].values[j]);
        }
        const double rate = std::exp(static_cast<double>(params.data()[axis * Modes + j]));
        dparams.data()[axis * Modes + j] = static_cast<T>(-rate * std::exp(-rate) * static_cast<double>(ddecay));
      }
      for (std::int64_t c = 0; c < Width; ++c) {
        for (int j = 0; j < Modes; ++j) {
          T sum = T(0);
          for (std::int64_t s = 0; s < segments; ++s) {
            sum += gradients[s * groups + c / width].gain[axis].values[j][c % width];
          }
          dparams.data()[gains_offset + (std::int64_t{axis} * Width + c) * Modes + j] = sum;
        }
      }
    }
  }

 private:
  static constexpr std::int64_t width = detail::lane_count<T>;
  static constexpr std::int64_t groups = (Width + width - 1) / width;
  static constexpr std::int64_t segment = 16;
  using lane = detail::lanes<T>;
  using pack = detail::mode_pack<lane, Modes>;
  using rates = detail::mode_decays<T, Modes>;
  using recurrence = detail::mode_recurrence<T, lane, Modes>;
  using element = typename recurrence::element;

  struct gradient {
    pack decay[Dims], gain[Dims];
  };

  /// The decays, and the gains with channels in lanes.
  struct tables {
    rates decay[Dims];
    pack* gain;  // [Dims, groups]

    tables(const parameters& params, typename execution<Device>::scope& scratch)
        : gain{scratch.template take<pack>(Dims * groups)} {
      for (int axis = 0; axis < Dims; ++axis) {
        for (int j = 0; j < Modes; ++j) {
          decay[axis].set(j, static_cast<double>(params.data()[axis * Modes + j]));
        }
        for (std::int64_t c = 0; c < groups * width; ++c) {
          const std::int64_t b = gains_offset + (std::int64_t{axis} * Width + c) * Modes;
          for (int j = 0; j < Modes; ++j) {
            gain[axis * groups + c / width].values[j][c % width] = c < Width ? params.data()[b + j] : T(0);
          }
        }
      }
    }
    const pack& gains(int axis, std::int64_t channel) const { return gain[axis * groups + channel / width]; }
  };

  /// The channels of one register of one sequence.
  struct strip {
    const grid<Dims>& where;
    std::int64_t b, channel, count;

    strip(const input& x, std::int64_t sequence_index, std::int64_t group)
        : where{x.grid}, b{sequence_index}, channel{group * width}, count{std::min(width, Width - group * width)} {}

    bool on(const input& x, std::int64_t t) const { return !x.mask || x.mask(b, t); }
    template <class U>
    lane load(const sequence<Dims, U, Device>& from, std::int64_t t) const {
      if (from.mask && !from.mask(b, t)) return lane{};
      return detail::line_group<T>{count}.load(&from.tokens(b, t, channel));
    }
    void store(const output& to, std::int64_t t, const lane& value) const {
      detail::line_group<T>{count}.store(&to.tokens(b, t, channel), value);
    }

    /// Calls `visit(first token, step, length)` for each line of an axis.
    template <class Visit>
    void each_line(int axis, const Visit& visit) const {
      std::int64_t step = 1;
      for (int later = axis + 1; later < Dims; ++later) step *= where.extents[static_cast<std::size_t>(later)];
      const std::int64_t length = where.extents[static_cast<std::size_t>(axis)];
      const std::int64_t cells = where.size() - where.prefix;
      for (std::int64_t line = 0; length > 0 && line < cells / length; ++line) {
        visit(where.prefix + line / step * step * length + line % step, step, length);
      }
    }
  };

  template <class Input, class Store>
  static void walk(std::int64_t length, bool reversed, const rates& decay, const Input& x, const Store& store) {
    detail::scan_line<recurrence>(
        length, reversed, element{},
        [&](std::int64_t i) {
          return element{decay, x(i)};
        },
        store);
  }

  /// to = from where a token counts, else 0.
  static void copy_rows(const strip& part, const input& x, const input& from, const output& to) {
    for (std::int64_t t = 0; t < x.grid.size(); ++t) {
      part.store(to, t, part.on(x, t) ? part.load(from, t) : lane{});
    }
  }

  template <write Write>
  static void backward_strip(const strip& part, const tables& table, const input& x, const input& dy, const output& dx,
                             pack* history, gradient& sum) {
    // Gradients of masked tokens are read as 0 whatever they are, and written as 0.
    const input incoming{dy.tokens, x.grid, x.mask};
    const output dx_everywhere{dx.tokens, x.grid};
    if constexpr (Write == write::overwrite) {
      copy_rows(part, x, incoming, dx);
    } else {
      for (std::int64_t t = 0; t < x.grid.size(); ++t) {
        part.store(dx, t, part.load(dx_everywhere, t) + part.load(incoming, t));
      }
    }
    for (int axis = 0; axis < Dims; ++axis) {
      const rates& decay = table.decay[axis];
      const pack& gain = table.gains(axis, part.channel);
      part.each_line(axis, [&](std::int64_t first, std::int64_t step, std::int64_t length) {
        for (int way = 0; way < (BothWays ? 2 : 1); ++way) {
          walk(
              length, way == 1, decay, [&](std::int64_t i) { return pack(part.load(x, first + i * step)); },
              [&](std::int64_t i, const element& before, const element&) { history[i] = before.payload; });
          walk(
              length, way == 0, decay,
              [&](std::int64_t i) { return pack(part.load(incoming, first + i * step)) * gain; },
              [&](std::int64_t i, const element& before, const element& after) {
                const std::int64_t t = first + i * step;
                const pack h = decay.advance(history[i], way == 0 ? pack(part.load(x, t)) : pack{});
                const pack w = way == 0 ? after.payload : decay.advance(before.payload, pack{});
                const lane at = part.load(incoming, t);
                lane to = part.load(dx_everywhere, t);
                for (int j = 0; j < Modes; ++j) {
                  to += w.values[j];
                  sum.decay[axis].values[j] += after.payload.values[j] * history[i].values[j];
                  sum.gain[axis].values[j] += at * h.values[j];
                }
                if (part.on(x, t)) part.store(dx, t, to);
              });
        }
      });
    }
  }
};

LIGHTNET_END_NAMESPACE
