// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/activation.hpp>
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
    if constexpr (Form == gate_form::norm_then_gate) {
      detail::reduce_map_and_columns<number, 2>(
          on, rows * Groups, norm::part, dots{}, typename norm::factors{{number(epsilon)}}, pull{}, dparams.data(),
          Groups, weight_term{}, norm::grouped(d_o), norm::grouped(du), norm::grouped(o), norm::grouped(u),
          norm::grouped(dy), detail::by_column<const T>{params.data(), Groups});
    } else {
      typename execution<Device>::scope scratch{on};
      const auto inner = detail::scratch_matrix<T, Device>(scratch, rows, Width);
      const auto dinner = detail::scratch_matrix<T, Device>(scratch, rows, Width);
      detail::map(on, rows, Width, times_sigmoid{}, inner, o, u);
      norm{epsilon}.backward(on, params, inner, dy, dinner, dparams);
      detail::map(on, rows, Width, pull_sigmoid{}, du, d_o, o, u, dinner);
    }
  }

  // What the backend calls is public, for nvcc makes no kernel of a private type.
  struct square {
    LIGHTNET_HOST_DEVICE typename norm::one_sum operator()(const T&, const T& o, const T&, const T&) const noexcept {
      return {{o * o}};
    }
  };
  struct normalise_and_gate {
    LIGHTNET_HOST_DEVICE void operator()(const number& n, T& y, const T& o, const T& u, const T& g) const noexcept {
      const number normed = static_cast<T>(o * n * g);  // rounded, as it is where the backward call makes it anew
      y = static_cast<T>(normed * detail::silu_for<T>(u));
    }
  };
  struct times_sigmoid {
    LIGHTNET_HOST_DEVICE void operator()(T& y, const T& o, const T& u) const noexcept {
      y = static_cast<T>(o * detail::sigmoid_for<T>(u));
    }
  };
  // The gradient of the norm of o, rounded, is that by y times silu(u).
  LIGHTNET_HOST_DEVICE static T dnormed(const T& u, const T& dy) noexcept {
    return static_cast<T>(dy * detail::silu_for<T>(u));
  }
  struct dots {
    LIGHTNET_HOST_DEVICE typename norm::two_sums operator()(const T&, const T&, const T& o, const T& u, const T& dy,
                                                            const T& g) const noexcept {
      return {{o * o, o * g * dnormed(u, dy)}};
    }
  };
  struct pull {
    LIGHTNET_HOST_DEVICE void operator()(const typename norm::two_sums& by, T& d_o, T& du, const T& o, const T& u,
                                         const T& dy, const T& g) const noexcept {
      const number n = by.values[0], normed = static_cast<T>(o * n * g);
      du = static_cast<T>(dy * normed * detail::dsilu_for<T>(u));
      d_o = static_cast<T>(n * (g * dnormed(u, dy) - o * by.values[1]));
    }
  };
  struct weight_term {
    LIGHTNET_HOST_DEVICE number operator()(const typename norm::two_sums& by, const T&, const T&, const T& o,
                                           const T& u, const T& dy, const T&) const noexcept {
      return dnormed(u, dy) * o * by.values[0];
    }
  };
  struct pull_sigmoid {
    LIGHTNET_HOST_DEVICE void operator()(T& du, T& d_o, const T& o, const T& u, const T& dinner) const noexcept {
      const auto s = detail::sigmoid_for<T>(u);
      du = static_cast<T>(dinner * o * s * (number(1) - s));
      d_o = static_cast<T>(dinner * s);
    }
  };
};

LIGHTNET_END_NAMESPACE
