// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/mode_bodies.cuh>
#include <lightnet/backend/cuda/mode_images.cuh>

#include <algorithm>

// Sums of constant decays along every line of a grid's axes, which is MD-TPE: y = x + sum_j gain_j h_j,
// h_j = lambda_j h_j + x, a pass for each axis and way. The least traffic is x and y. Tile: one channel and 256 tokens of a
// line, a thread with all modes in registers; longer lines are cut there, whatever the batch, and the states are carried
// from part to part. Small images go through memory once (mode_images.cuh).

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// The CUDA twin of the CPU's mode_scan; T may be of two bytes, and sums are in its accumulator.
template <int Width, int Modes, bool BothWays, int Dims, class T>
class mode_scan<Width, Modes, BothWays, Dims, T, cuda> {
 public:
  using A = accumulator<T>;
  using input = lightnet::sequence<Dims, const T, cuda>;
  using output = lightnet::sequence<Dims, T, cuda>;

  static void forward(execution<cuda>& on, const T* parameters, const input& x, const output& y) {
    constexpr const char* operation = "md_tpe::forward";
    execution<cuda>::scope scratch{on};
    if (encode_images(on, scratch, operation, parameters, x, y, false)) return;
    const auto* const table = tables(on, scratch, operation, parameters);
    encode(on, scratch, operation, parameters, table, x, y, false, modes_onto::x);
  }

  /// dx is overwritten or added to; dparameters are overwritten.
  template <write Write>
  static void backward(execution<cuda>& on, const T* parameters, const input& x, const input& dy, const output& dx,
                       T* dparameters) {
    constexpr const char* operation = "md_tpe::backward";
    execution<cuda>::scope scratch{on};
    const auto* const table = tables(on, scratch, operation, parameters);
    differentiate(on, operation, parameters, table, x, dy, dparameters);
    // What comes back through a kernel is encoded by its mirror.
    const input incoming{dy.tokens, x.grid, x.mask};
    if (Write == write::overwrite && encode_images(on, scratch, operation, parameters, incoming, dx, true)) return;
    encode(on, scratch, operation, parameters, table, incoming, dx, true,
           Write == write::overwrite ? modes_onto::x : modes_onto::x_and_y);
  }

 private:
  static constexpr std::int64_t gains_offset = std::int64_t{Dims} * Modes;
  static constexpr int ways = BothWays ? 2 : 1;
  using table_type = mode_table<A, Modes>;
  using lines_type = mode_lines<Dims>;

  static const table_type* tables(execution<cuda>& on, execution<cuda>::scope& scratch, const char* operation,
                                  const T* parameters) {
    auto* const table = scratch.take<table_type>(Dims);
    for_each(on, operation, Dims * Modes, make_mode_table<T, A, Modes>{parameters, table});
    return table;
  }
  static const T* gains_of(const T* parameters, int axis) {
    return parameters + gains_offset + std::int64_t{axis} * Width * Modes;
  }
  static lines_type lines_of(const input& x, int axis, bool reversed) {
    return {{x.batch(), x.grid, {}, axis, reversed}, x.mask};
  }

  /// The states at the start of every part of the lines, in memory of the scope: [parts of all lines, States, Width], h of
  /// each mode and, with slopes, dh / dlambda. Null where every line is one part.
  template <bool WithSlopes>
  static const A* carries(execution<cuda>& on, execution<cuda>::scope& scratch, const char* operation,
                          const table_type* table, const T* x, const lines_type& lines) {
    if (lines.parts() < 2) return nullptr;
    constexpr std::int64_t states = WithSlopes ? 2 * Modes : Modes;
    A* const carried = scratch.take<A>(lines.items() * states * Width);
    for_each(on, operation, lines.items() * Width,
             sum_mode_part<Width, Modes, WithSlopes, Dims, T>{table, x, carried, lines});
    for_each(on, operation, lines.lines.count() * Modes * Width,
             carry_modes<Width, Modes, WithSlopes, A>{table, carried, lines.parts()});
    return carried;
  }

  /// y = x, or x + y, for the tokens before the grid.
  static void encode_prefix(execution<cuda>& on, const char* operation, const input& x, const output& y,
                            modes_onto onto) {
    for_each(on, operation, x.batch() * x.grid.prefix * Width,
             copy_prefix<Width, Dims, T>{x.tokens.data(), y.tokens.data(), x.grid.size(), x.grid.prefix, x.mask, onto});
  }

  /// y = x + the modes of every axis, in one pass; mirrored: with each kernel turned round. False where that is not for
  /// such tokens, and nothing is written.
  static bool encode_images(execution<cuda>& on, execution<cuda>::scope& scratch, const char* operation,
                            const T* parameters, const input& x, const output& y, bool mirrored) {
    using encode_type = encode_mode_images<Width, Modes>;
    if constexpr (std::is_same_v<T, bfloat16> && Dims == 2 && !BothWays && Width % encode_type::channels == 0) {
      const std::int64_t rows = x.grid.extents[0], columns = x.grid.extents[1];
      if (!encode_type::takes(rows, columns, x.tokens.data(), y.tokens.data())) return false;
      float* const powers = scratch.take<float>(Dims * Modes * mode_image_side);
      const encode_type encode{powers,  parameters + gains_offset, x.tokens.data(),           y.tokens.data(),
                               x.mask,  static_cast<int>(rows),    static_cast<int>(columns), x.grid.prefix,
                               mirrored};
      if (encode.shared_bytes() > on.shared_bytes()) return false;
      for_each(on, operation, Dims * Modes * mode_image_side, make_mode_powers<T>{parameters, powers});
      encode_prefix(on, operation, x, y, modes_onto::x);
      launch_ahead(on, operation, {x.batch() * encode_type::groups, encode_type::threads, encode.shared_bytes()},
                   mode_image_kernel<encode_type>, encode);
      return true;
    } else {
      return false;
    }
  }

  /// y = x, or x + y, + the modes of every axis; mirrored: with each kernel turned round.
  static void encode(execution<cuda>& on, execution<cuda>::scope& scratch, const char* operation, const T* parameters,
                     const table_type* table, const input& x, const output& y, bool mirrored, modes_onto onto) {
    const T* const from = x.tokens.data();
    T* const to = y.tokens.data();
    const std::int64_t size = x.tokens.size();
    if (size == 0) return;
    encode_prefix(on, operation, x, y, onto);
    // The passes before the last one leave their sum in the accumulator, so that every element is rounded once.
    constexpr int passes = Dims * ways;
    A* sums = nullptr;
    if constexpr (std::is_same_v<T, A>) {
      sums = to;
    } else if (passes > 1) {
      sums = scratch.take<A>(size);
    }
    for (int pass = 0; pass < passes; ++pass) {
      const int axis = pass / ways, way = pass % ways;
      const lines_type lines = lines_of(x, axis, (way == 1) != mirrored);
      execution<cuda>::scope part{on};
      const A* const carried = carries<false>(on, part, operation, table + axis, from, lines);
      const auto add = [&]<modes_onto Onto, bool Own>(const auto* before, auto* out) {
        using out_type = std::remove_pointer_t<decltype(out)>;
        for_each(
            on, operation, lines.items() * Width,
            add_mode_part<Onto, Own, Width, Modes, Dims, T, out_type>{
                table + axis, gains_of(parameters, axis), from, before, out, carried, lines, onto == modes_onto::x});
      };
      const auto add_first = [&](auto* out) {
        onto == modes_onto::x ? add.template operator()<modes_onto::x, true>(to, out)
                              : add.template operator()<modes_onto::x_and_y, true>(to, out);
      };
      const auto add_next = [&](auto* out) {
        way == 0 ? add.template operator()<modes_onto::y, true>(sums, out)
                 : add.template operator()<modes_onto::y, ways == 1>(sums, out);
      };
      if constexpr (passes == 1) {
        add_first(to);
      } else if (pass == 0) {
        add_first(sums);
      } else if (pass + 1 < passes) {
        add_next(sums);
      } else {
        add_next(to);
      }
    }
  }

  /// The gradients of the parameters: first a sum for each segment of the lines, of which there are as many as the sizes
  /// ask for, then the sum of these in order.
  static void differentiate(execution<cuda>& on, const char* operation, const T* parameters, const table_type* table,
                            const input& x, const input& dy, T* dparameters) {
    using body = sum_mode_gradients_of<true, Width, Modes, Dims, T>;
    constexpr std::int64_t threads = 1 << 18, most = std::max<std::int64_t>(threads / (Width * body::groups), 16);
    for (int axis = 0; axis < Dims; ++axis) {
      execution<cuda>::scope part{on};
      const std::int64_t items = x.tokens.size() > 0 ? lines_of(x, axis, false).items() : 0;
      const std::int64_t segments = std::min(items, most);
      A* const sums = part.take<A>(2 * segments * Modes * Width);  // of gains, of slopes [segments, Modes, Width]
      for (int way = 0; way < ways; ++way) {
        const lines_type lines = lines_of(x, axis, way == 1);
        execution<cuda>::scope states{on};
        const A* const carried =
            items > 0 ? carries<true>(on, states, operation, table + axis, x.tokens.data(), lines) : nullptr;
        const auto add = [&](auto own) {
          for_each(on, operation, segments * body::groups * Width,
                   sum_mode_gradients_of<decltype(own)::value, Width, Modes, Dims, T>{
                       table + axis, x.tokens.data(), dy.tokens.data(), carried, sums, segments, lines});
        };
        way == 0 ? add(std::true_type{}) : add(std::false_type{});
      }
      for_each(on, operation, std::int64_t{Width} * Modes,
               add_gain_segments<Width, Modes, A, T>{sums, segments,
                                                     dparameters + gains_offset + std::int64_t{axis} * Width * Modes});
      launch(on, operation, {Modes, mode_threads}, add_slope_segments_kernel<Width, Modes, A, T>, table + axis,
             gains_of(parameters, axis), sums + segments * Modes * Width, segments, dparameters + axis * Modes);
    }
  }
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
