// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/activation.hpp>
#include <lightnet/layer/linear.hpp>

#include <cmath>

LIGHTNET_BEGIN_NAMESPACE

/// The inner width of a GLU where none is chosen: 8/3 of the width, rounded up to a multiple of 128.
constexpr int default_inner_width(int width) noexcept { return (8 * width + 383) / 384 * 128; }

/// GLU (arXiv 2002.05202): y = W_3 (silu(W_1 x) * (W_2 x)). x, y [R, width]. No biases. Names as in
/// flash-linear-attention; `Layers`, those of the whole model, scale the initial output weights. Throws device_error or
/// shape_error before anything is written.
template <int Width, int Inner, int Layers = 1, class T = float, class Device = cpu>
struct glu {
  using input_projection = linear<Width, 2 * Inner, false, T, Device>;  // W_1 above W_2
  using output_projection = linear<Inner, Width, false, T, Device>;
  using number = accumulator<T>;
  static constexpr std::int64_t output_at = input_projection::parameter_count;
  static constexpr std::int64_t parameter_count = output_at + output_projection::parameter_count;

  template <class Mode>
  struct context {
    kept<Mode, T, Device> projections;  // [R, 2 Inner]
  };

  void describe(const std::string& prefix, std::int64_t offset, std::vector<parameter>& list, double gain = 0) const {
    const initial_value normal = initial_value::weights(Width, gain);
    list.push_back({prefix + "gate_proj.weight", {Inner, Width}, offset, normal, true});
    list.push_back({prefix + "up_proj.weight", {Inner, Width}, offset + std::int64_t{Inner} * Width, normal, true});
    output_projection{}.describe(prefix + "down_proj.", offset + output_at, list, gain, 1 / std::sqrt(2.0 * Layers));
  }

  template <class Mode>
  void forward(execution<Device>& on, const parameters_of<glu, const T, Device>& params,
               const dynamic_view<2, const T, Device>& x, const dynamic_view<2, T, Device>& y,
               context<Mode>& kept_here) const {
    const detail::layer_checker check{"glu::forward"};
    check.matrix("x", x, x.extent(0), Width);
    check.matrix("y", y, x.extent(0), Width);
    forward_of(on, params, x, y, {}, kept_here);
  }

  /// The same for x that may be yet to be made, such as rms_norm::rows; `sum` [R, width], where given, is added to y.
  template <class Rows, class Mode>
  void forward_of(execution<Device>& on, const parameters_of<glu, const T, Device>& params, const Rows& x,
                  const dynamic_view<2, T, Device>& y, const detail::plus_matrix<T, Device>& sum,
                  context<Mode>& kept_here) const {
    const std::int64_t rows = y.extent(0);
    const detail::layer_checker check{"glu::forward"};
    check.parameters("params", params);
    typename execution<Device>::scope scratch{on};
    const auto projections = kept_here.projections.take(scratch, rows, 2 * Inner);
    const auto hidden = detail::scratch_matrix<T, Device>(scratch, rows, Inner);
    input_projection{}.forward_of(on, detail::part_of<input_projection>(params, 0), x, projections,
                                  detail::then_map<2>(gate{}, hidden));
    output_projection{}.forward_of(on, detail::part_of<output_projection>(params, output_at), hidden, y, sum);
  }

  /// dx is overwritten or added to; dparams is overwritten.
  template <write Write = write::overwrite>
  void backward(execution<Device>& on, const parameters_of<glu, const T, Device>& params,
                const dynamic_view<2, const T, Device>& x, const dynamic_view<2, const T, Device>& dy,
                const dynamic_view<2, T, Device>& dx, const parameters_of<glu, T, Device>& dparams,
                const context<train>& kept_here) const {
    const std::int64_t rows = x.extent(0);
    const auto projections = kept_here.projections.view();
    const detail::layer_checker check{"glu::backward"};
    check.parameters("params", params);
    check.matrix("x", x, rows, Width);
    check.matrix("dy", dy, rows, Width);
    check.matrix("dx", dx, rows, Width);
    check.parameters("dparams", dparams);
    check.context(projections, rows, 2 * Inner);
    typename execution<Device>::scope scratch{on};
    const auto hidden = detail::scratch_matrix<T, Device>(scratch, rows, Inner);
    const auto dhidden = detail::scratch_matrix<T, Device>(scratch, rows, Inner);
    const auto dprojections = detail::scratch_matrix<T, Device>(scratch, rows, 2 * Inner);
    detail::map(on, rows, Inner, gate{}, hidden, gates(projections), values(projections));
    output_projection{}.backward(on, detail::part_of<output_projection>(params, output_at), hidden, dy, dhidden,
                                 detail::part_of<output_projection>(dparams, output_at));
    detail::map(on, rows, Inner, pull_gate{}, gates(dprojections), values(dprojections), gates(projections),
                values(projections), dhidden);
    input_projection{}.template backward<Write>(on, detail::part_of<input_projection>(params, 0), x, dprojections, dx,
                                                detail::part_of<input_projection>(dparams, 0));
  }

  // What the backend calls is public, for nvcc makes no kernel of a private type.
  struct gate {
    LIGHTNET_HOST_DEVICE void operator()(T& hidden, const T& a, const T& b) const noexcept {
      hidden = static_cast<T>(detail::silu_for<T>(a) * b);
    }
  };
  struct pull_gate {
    LIGHTNET_HOST_DEVICE void operator()(T& da, T& db, const T& a, const T& b, const T& dhidden) const noexcept {
      const auto s = detail::sigmoid_for<T>(a);
      da = static_cast<T>(dhidden * b * s * multiply_add<number>(a, number(1) - s, number(1)));
      db = static_cast<T>(dhidden * a * s);
    }
  };

 private:
  template <class U>
  static dynamic_view<2, U, Device> gates(const dynamic_view<2, U, Device>& projections) {
    return projections.slice(1, 0, Inner);
  }
  template <class U>
  static dynamic_view<2, U, Device> values(const dynamic_view<2, U, Device>& projections) {
    return projections.slice(1, Inner, Inner);
  }
};

LIGHTNET_END_NAMESPACE
