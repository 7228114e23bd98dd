// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/product_of.hpp>
#include <lightnet/core/layer_check.hpp>
#include <lightnet/core/modes.hpp>
#include <lightnet/core/parameters.hpp>

LIGHTNET_BEGIN_NAMESPACE

/// y = x W^T + b, row by row. x [R, In], y [R, Out], their rows dense; weight [Out, In], bias [Out] where Biased.
/// Throws device_error or shape_error before anything is written.
template <int In, int Out, bool Biased, class T = float, class Device = cpu>
struct linear {
  static constexpr std::int64_t parameter_count = std::int64_t{In} * Out + (Biased ? Out : 0);
  template <class Mode>
  using context = no_context;

  /// The initial weights are initial_value::weights(In, gain, factor).
  void describe(const std::string& prefix, std::int64_t offset, std::vector<parameter>& list, double gain = 0,
                double factor = 1) const {
    list.push_back({prefix + "weight", {Out, In}, offset, initial_value::weights(In, gain, factor), true});
    if (Biased) list.push_back({prefix + "bias", {Out}, offset + std::int64_t{In} * Out, {}, false});
  }

  void forward(execution<Device>& on, const parameters_of<linear, const T, Device>& params,
               const dynamic_view<2, const T, Device>& x, const dynamic_view<2, T, Device>& y) const {
    const detail::layer_checker check{"linear::forward"};
    check.parameters("params", params);
    check.matrix("x", x, x.extent(0), In);
    check.matrix("y", y, x.extent(0), Out);
    if constexpr (Biased) {
      detail::gemm_with_bias(on, x, detail::transposed(weight(params)), params.data() + std::int64_t{In} * Out, y);
    } else {
      detail::gemm(on, x, detail::transposed(weight(params)), y, false);
    }
  }

  /// The same for x that may be yet to be made, such as rms_norm::rows, and then what is asked for; see detail::product_of.
  template <class Rows, class Then>
    requires(!Biased)
  void forward_of(execution<Device>& on, const parameters_of<linear, const T, Device>& params, const Rows& x,
                  const dynamic_view<2, T, Device>& y, const Then& then) const {
    const detail::layer_checker check{"linear::forward"};
    check.parameters("params", params);
    check.matrix("y", y, y.extent(0), Out);
    detail::product_of(on, x, detail::transposed(weight(params)), y, then);
  }

  /// dx is overwritten or added to, and left alone where it is not given; dparams is overwritten.
  template <write Write = write::overwrite>
  void backward(execution<Device>& on, const parameters_of<linear, const T, Device>& params,
                const dynamic_view<2, const T, Device>& x, const dynamic_view<2, const T, Device>& dy,
                const dynamic_view<2, T, Device>& dx, const parameters_of<linear, T, Device>& dparams) const {
    const detail::layer_checker check{"linear::backward"};
    check.parameters("params", params);
    check.matrix("x", x, x.extent(0), In);
    check.matrix("dy", dy, x.extent(0), Out);
    if (dx) check.matrix("dx", dx, x.extent(0), In);
    check.parameters("dparams", dparams);
    if (dx) detail::gemm(on, dy, weight(params), dx, Write == write::add);
    detail::gemm(on, detail::transposed(dy), x, {dparams.data(), {{Out, In}}}, false);
    if constexpr (Biased) {
      detail::reduce_columns(on, dy.extent(0), Out, dparams.data() + std::int64_t{In} * Out, 1, identity{}, dy);
    }
  }

  // What the backend calls is public, for nvcc makes no kernel of a private type.
  struct identity {
    LIGHTNET_HOST_DEVICE accumulator<T> operator()(const T& x) const noexcept { return x; }
  };

 private:
  static dynamic_view<2, const T, Device> weight(const parameters_of<linear, const T, Device>& params) {
    return {params.data(), {{Out, In}}};
  }
};

LIGHTNET_END_NAMESPACE
