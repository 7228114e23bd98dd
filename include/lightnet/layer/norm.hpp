// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/product_of.hpp>
#include <lightnet/core/layer_check.hpp>
#include <lightnet/core/modes.hpp>
#include <lightnet/core/parameters.hpp>

#include <cmath>

LIGHTNET_BEGIN_NAMESPACE

/// RMSNorm (arXiv 1910.07467): y = g x / sqrt(mean(x^2) + epsilon) over the width, or over each of Groups equal parts of
/// it. x, y [R, Width] dense, g [Width]. Throws device_error or shape_error before anything is written.
template <int Width, int Groups = 1, class T = float, class Device = cpu>
struct rms_norm {
  double epsilon = 1e-5;

  static_assert(Groups >= 1 && Width % Groups == 0, "lightnet: the groups of a norm must divide its width");
  static constexpr std::int64_t parameter_count = Width;
  static constexpr std::int64_t part = Width / Groups;
  using number = accumulator<T>;
  template <class Mode>
  using context = no_context;

  void describe(const std::string& prefix, std::int64_t offset, std::vector<parameter>& list) const {
    list.push_back({prefix + "weight", {Width}, offset, initial_value::constant(1), false});
  }

  void forward(execution<Device>& on, const parameters_of<rms_norm, const T, Device>& params,
               const dynamic_view<2, const T, Device>& x, const dynamic_view<2, T, Device>& y) const {
    detail::write_rows(on, rows(params, x, y));
  }

  /// What forward writes to y, for a product that may make it by itself.
  auto rows(const parameters_of<rms_norm, const T, Device>& params, const dynamic_view<2, const T, Device>& x,
            const dynamic_view<2, T, Device>& y) const {
    const detail::layer_checker check{"rms_norm::forward"};
    check.parameters("params", params);
    check.dense_matrix("x", x, x.extent(0), Width);
    check.dense_matrix("y", y, x.extent(0), Width);
    return detail::made_rows<1>(y, grouped(y), square{}, inverse_rms{number(epsilon)}, normalise{}, grouped(x),
                                detail::by_column<const T>{params.data(), Groups});
  }

  /// Adds x to `sum`, and gives the norm of that: y = g sum / sqrt(mean(sum^2) + epsilon).
  void forward_of_sum(execution<Device>& on, const parameters_of<rms_norm, const T, Device>& params,
                      const dynamic_view<2, const T, Device>& x, const dynamic_view<2, T, Device>& sum,
                      const dynamic_view<2, T, Device>& y) const {
    const detail::layer_checker check{"rms_norm::forward_of_sum"};
    check.parameters("params", params);
    check.dense_matrix("x", x, x.extent(0), Width);
    check.dense_matrix("sum", sum, x.extent(0), Width);
    check.dense_matrix("y", y, x.extent(0), Width);
    const dynamic_view<2, T, Device> to = grouped(y);
    detail::reduce_map<number, 1>(on, to.extent(0), part, square_of_sum{}, inverse_rms{number(epsilon)},
                                  add_and_normalise{}, to, grouped(sum), grouped(x),
                                  detail::by_column<const T>{params.data(), Groups});
  }

  /// dx is overwritten or added to; dparams is overwritten.
  template <write Write = write::overwrite>
  void backward(execution<Device>& on, const parameters_of<rms_norm, const T, Device>& params,
                const dynamic_view<2, const T, Device>& x, const dynamic_view<2, const T, Device>& dy,
                const dynamic_view<2, T, Device>& dx, const parameters_of<rms_norm, T, Device>& dparams) const {
    const detail::layer_checker check{"rms_norm::backward"};
    check.parameters("params", params);
    check.dense_matrix("x", x, x.extent(0), Width);
    check.dense_matrix("dy", dy, x.extent(0), Width);
    check.dense_matrix("dx", dx, x.extent(0), Width);
    check.parameters("dparams", dparams);
    detail::reduce_map_and_columns<number, 2>(
        on, x.extent(0) * Groups, part, dots{}, factors{{number(epsilon)}}, pull<Write>{}, dparams.data(), Groups,
        weight_term{}, grouped(dx), grouped(x), grouped(dy), detail::by_column<const T>{params.data(), Groups});
  }

  // What the backend calls is public, for nvcc makes no kernel of a private type.
  using one_sum = detail::sums<number, 1>;
  using two_sums = detail::sums<number, 2>;

  struct square {
    LIGHTNET_HOST_DEVICE one_sum operator()(const T&, const T& x, const T&) const noexcept { return {{x * x}}; }
  };
  struct inverse_rms {
    number epsilon;
    LIGHTNET_HOST_DEVICE number operator()(std::int64_t, const one_sum& sum) const noexcept {
      return number(1) / std::sqrt(sum.values[0] / number(part) + epsilon);
    }
  };
  struct normalise {
    LIGHTNET_HOST_DEVICE void operator()(const number& n, T& y, const T& x, const T& g) const noexcept {
      y = static_cast<T>(x * n * g);
    }
  };
  struct square_of_sum {
    LIGHTNET_HOST_DEVICE one_sum operator()(const T&, const T& sum, const T& x, const T&) const noexcept {
      const number all = static_cast<T>(sum + x);
      return {{all * all}};
    }
  };
  struct add_and_normalise {
    LIGHTNET_HOST_DEVICE void operator()(const number& n, T& y, T& sum, const T& x, const T& g) const noexcept {
      sum = static_cast<T>(sum + x);
      y = static_cast<T>(sum * n * g);
    }
  };

  // dx = n (g dy - x n^2 mean(x g dy)) with n the inverse root mean square, which dg needs too
  struct dots {
    LIGHTNET_HOST_DEVICE two_sums operator()(const T&, const T& x, const T& dy, const T& g) const noexcept {
      return {{x * x, x * g * dy}};
    }
  };
  struct factors {
    inverse_rms inverse_of;
    LIGHTNET_HOST_DEVICE two_sums operator()(std::int64_t row, const two_sums& sum) const noexcept {
      const number n = inverse_of(row, {{sum.values[0]}});
      return {{n, n * n * (sum.values[1] / number(part))}};
    }
  };
  template <write Write>
  struct pull {
    LIGHTNET_HOST_DEVICE void operator()(const two_sums& by, T& dx, const T& x, const T& dy,
                                         const T& g) const noexcept {
      const number value = by.values[0] * (g * dy - x * by.values[1]);
      dx = static_cast<T>(Write == write::add ? dx + value : value);
    }
  };
  struct weight_term {
    LIGHTNET_HOST_DEVICE number operator()(const two_sums& by, const T&, const T& x, const T& dy,
                                           const T&) const noexcept {
      return dy * x * by.values[0];
    }
  };

  /// The parts of all rows as rows.
  template <class U>
  static dynamic_view<2, U, Device> grouped(const dynamic_view<2, U, Device>& rows) {
    if constexpr (Groups == 1) {
      return rows;
    } else {
      return rows.reshape(std::array<std::int64_t, 2>{rows.extent(0) * Groups, part});
    }
  }
};

LIGHTNET_END_NAMESPACE
