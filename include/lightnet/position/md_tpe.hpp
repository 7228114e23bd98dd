// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/for_each.hpp>
#include <lightnet/backend/scan.hpp>
#include <lightnet/core/layer_check.hpp>
#include <lightnet/core/math.hpp>
#include <lightnet/core/modes.hpp>
#include <lightnet/core/parameters.hpp>

#include <cmath>
#include <optional>

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
    scan::forward(on, params.data(), x, y);
  }

  /// The same for tokens that arrive in parts: those of a call come after those of the calls before, which `modes` holds as
  /// h, [B, Width, Modes], empty before the first. Throws shape_error, too, for another number of sequences than before, and
  /// value_error for a prefix.
  using modes_so_far = std::optional<tensor<rank<3>, accumulator<T>, Device>>;
  void forward(execution<Device>& on, const parameters& params, const input& x, const output& y,
               modes_so_far& modes) const {
    static_assert(Dims == 1 && !BothWays,
                  "lightnet: an encoding reads tokens in their order where it has one axis and way");
    const detail::layer_checker check{"md_tpe::forward"};
    check.parameters("params", params);
    check.tokens("x", x, x.batch(), x.grid.size(), Width);
    check.tokens("y", y, x.batch(), x.grid.size(), Width);
    if (modes && modes->extent(0) != x.batch()) {
      throw shape_error(check.operation, "x", std::to_string(modes->extent(0)) + " sequences, as before",
                        x.tokens.describe());
    }
    if (x.grid.prefix != 0) {
      throw value_error(check.operation, "x.grid.prefix", "zero, for tokens that arrive in parts",
                        std::to_string(x.grid.prefix));
    }
    if (!modes) modes.emplace(rank<3>{{x.batch(), Width, Modes}});
    detail::for_each_row(on, check.operation, x.batch(), Width,
                         take_tokens{params.data(), x.tokens, x.mask, y.tokens, modes->data()});
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
    scan::template backward<Write>(on, params.data(), x, dy, dx, dparams.data());
  }

  // What the backend calls is public, for nvcc makes no kernel of a private type.
  struct take_tokens {
    const T* parameters;
    dynamic_view<3, const T, Device> x;
    dynamic_view<2, const bool, Device> mask;
    dynamic_view<3, T, Device> y;
    accumulator<T>* modes;  // [B, Width, Modes]

    LIGHTNET_HOST_DEVICE void operator()(std::int64_t b, std::int64_t first, std::int64_t last) const noexcept {
      using number = accumulator<T>;
      detail::mode_decays<number, Modes> decay{};
      for (int j = 0; j < Modes; ++j) decay.set(j, std::exp(static_cast<double>(static_cast<number>(parameters[j]))));
      for (std::int64_t c = first; c < last; ++c) {
        number* const before = modes + (b * Width + c) * Modes;
        const T* const gain = parameters + gains_offset + c * Modes;
        number h[Modes];
        for (int j = 0; j < Modes; ++j) h[j] = before[j];
        for (std::int64_t t = 0; t < x.extent(1); ++t) {
          const bool counts = !mask || mask(b, t);
          const number entered = counts ? static_cast<number>(x(b, t, c)) : number(0);
          number sum = entered;
          for (int j = 0; j < Modes; ++j) {
            h[j] = multiply_add(decay.whole[j], h[j], multiply_add(decay.rest[j], h[j], entered));
            sum = multiply_add(static_cast<number>(gain[j]), h[j], sum);
          }
          y(b, t, c) = static_cast<T>(counts ? sum : number(0));
        }
        for (int j = 0; j < Modes; ++j) before[j] = h[j];
      }
    }
  };

 private:
  using scan = detail::mode_scan<Width, Modes, BothWays, Dims, T, Device>;
};

LIGHTNET_END_NAMESPACE
