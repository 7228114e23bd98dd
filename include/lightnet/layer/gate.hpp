// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/math.hpp>
#include <lightnet/layer/norm.hpp>

LIGHTNET_BEGIN_NAMESPACE

/// The two published ways to norm and gate the output of a recurrence.
enum class gate_form {
  norm_then_gate,  ///< RMSNorm(o) * silu(u), the port in flash-linear-attention
  gate_then_norm   ///< RMSNorm(o * sigmoid(u)), the authors' later code
};

/// Norm and gate: o, u, y [R, Width] dense; the norm is over Groups equal parts of the width. Throws device_error or
/// shape_error before anything is written.
template <gate_form Form, int Width, int Groups = 1, class T = float, class Device = cpu>
struct norm_gate {
  double epsilon = 1e-5;  ///< of the norm

  using norm = rms_norm<Width, Groups, T, Device>;
  using number = accumulator<T>;
  static constexpr std::int64_t parameter_count = norm::parameter_count;
  template <class Mode>
  using context = no_context;

  void describe(const std::string& prefix, std::int64_t offset, std::vector<parameter>& list) const {
    norm{}.describe(prefix, offset, list);
  }

  void forward(execution<Device>& on, const parameters_of<norm, const T, Device>& params,
               const dynamic_view<2, const T, Device>& o, const dynamic_view<2, const T, Device>& u,
               const dynamic_view<2, T, Device>& y) const {
    detail::write_rows(on, rows(on, params, o, u, y));
  }

  /// What forward writes to y, for a product that may make most of it by itself; y may be written before.
  auto rows(execution<Device>& on, const parameters_of<norm, const T, Device>& params,
            const dynamic_view<2, const T, Device>& o, const dynamic_view<2, const T, Device>& u,
            const dynamic_view<2, T, Device>& y) const {
    const detail::layer_checker check{"norm_gate::forward"};
    check.parameters("params", params);
    check.dense_matrix("o", o, o.extent(0), Width);
    check.dense_matrix("u", u, o.extent(0), Width);
    check.dense_matrix("y", y, o.extent(0), Width);
    if constexpr (Form == gate_form::norm_then_gate) {
      return detail::made_rows<1>(y, norm::grouped(y), square{}, typename norm::inverse_rms{number(epsilon)},
                                  normalise_and_gate{}, norm::grouped(o), norm::grouped(u),
                                  detail::by_column<const T>{params.data(), Groups});
    } else {
      detail::map(on, y.extent(0), Width, times_sigmoid{}, y, o, u);
      return norm{epsilon}.rows(params, y, y);
    }
  }

  /// The same from what `activate` makes of u, [R, Width], which is not rounded: a product that makes the rows in many places
  /// need not do that in each of them.
  auto rows_of_activated(const parameters_of<norm, const T, Device>& params, const dynamic_view<2, const T, Device>& o,
                         const dynamic_view<2, const number, Device>& activated,
                         const dynamic_view<2, T, Device>& y) const requires(Form == gate_form::norm_then_gate) {
    const detail::layer_checker check{"norm_gate::forward"};
    check.parameters("params", params);
    check.dense_matrix("o", o, o.extent(0), Width);
    check.dense_matrix("activated", activated, o.extent(0), Width);
    check.dense_matrix("y", y, o.extent(0), Width);
    return detail::made_rows<1>(y, norm::grouped(y), square{}, typename norm::inverse_rms{number(epsilon)},
                                normalise_and_multiply{}, norm::grouped(o), norm::grouped(activated),
                                detail::by_column<const T>{params.data(), Groups});
  }

  /// do and du are overwritten, and so is dparams. dy must not overlap them.
  void backward(execution<Device>& on, const parameters_of<norm, const T, Device>& params,
                const dynamic_view<2, const T, Device>& o, const dynamic_view<2, const T, Device>& u,
                const dynamic_view<2, const T, Device>& dy, const dynamic_view<2, T, Device>& d_o,
                const dynamic_view<2, T, Device>& du, const parameters_of<norm, T, Device>& dparams) const {
    const std::int64_t rows = o.extent(0);
    const detail::layer_checker check{"norm_gate::backward"};
    check.parameters("params", params);
    check.dense_matrix("o", o, rows, Width);
    check.dense_matrix("u", u, rows, Width);
    check.dense_matrix("dy", dy, rows, Width);
    check.dense_matrix("do", d_o, rows, Width);
    check.dense_matrix("du", du, rows, Width);
    check.parameters("dparams", dparams);
    typename execution<Device>::scope scratch{on};
    const auto inner = detail::scratch_matrix<T, Device>(scratch, rows, Width);
    const auto dinner = detail::scratch_matrix<T, Device>(scratch, rows, Width);
    if constexpr (Form == gate_form::norm_then_gate) {
      norm{epsilon}.forward(on, params, o, inner);
      detail::map(on, rows, Width, pull_silu{}, du, dinner, inner, u, dy);
      norm{epsilon}.backward(on, params, o, dinner, d_o, dparams);
    } else {
      detail::map(on, rows, Width, times_sigmoid{}, inner, o, u);
      norm{epsilon}.backward(on, params, inner, dy, dinner, dparams);
      detail::map(on, rows, Width, pull_sigmoid{}, du, d_o, o, u, dinner);
    }
  }

  // What the backend calls is public, for nvcc makes no kernel of a private type.
  struct square {
    template <class Gate>
    LIGHTNET_HOST_DEVICE typename norm::one_sum operator()(const T&, const T& o, const Gate&, const T&) const noexcept {
      return {{o * o}};
    }
  };
  struct activate {
    LIGHTNET_HOST_DEVICE void operator()(number& activated, const T& u) const noexcept { activated = silu<number>(u); }
  };
  struct normalise_and_multiply {
    LIGHTNET_HOST_DEVICE void operator()(const number& n, T& y, const T& o, const number& by,
                                         const T& g) const noexcept {
      const number normed = static_cast<T>(o * n * g);  // rounded, as it is where the backward call makes it anew
      y = static_cast<T>(normed * by);
    }
  };
  struct normalise_and_gate {
    LIGHTNET_HOST_DEVICE void operator()(const number& n, T& y, const T& o, const T& u, const T& g) const noexcept {
      normalise_and_multiply{}(n, y, o, silu<number>(u), g);
    }
  };
  struct times_sigmoid {
    LIGHTNET_HOST_DEVICE void operator()(T& y, const T& o, const T& u) const noexcept {
      y = static_cast<T>(o * sigmoid<number>(u));
    }
  };
  struct pull_silu {
    LIGHTNET_HOST_DEVICE void operator()(T& du, T& dnormed, const T& normed, const T& u, const T& dy) const noexcept {
      du = static_cast<T>(dy * normed * dsilu<number>(u));
      dnormed = static_cast<T>(dy * silu<number>(u));
    }
  };
  struct pull_sigmoid {
    LIGHTNET_HOST_DEVICE void operator()(T& du, T& d_o, const T& o, const T& u, const T& dinner) const noexcept {
      const auto s = sigmoid<number>(u);
      du = static_cast<T>(dinner * o * s * (number(1) - s));
      d_o = static_cast<T>(dinner * s);
    }
  };
};

LIGHTNET_END_NAMESPACE
