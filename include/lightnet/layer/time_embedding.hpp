// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/for_each.hpp>
#include <lightnet/backend/map.hpp>
#include <lightnet/core/math.hpp>
#include <lightnet/layer/linear.hpp>

#include <cmath>

LIGHTNET_BEGIN_NAMESPACE

/// The embedding of steps in time, as in DiT (arXiv 2212.09748): y = W_2 silu(W_1 f + b_1) + b_2 with the features
/// f = [cos(t w), sin(t w)], w_i = 10000^(-2 i / Features). times [B], y [B, Width] with dense rows. Throws device_error or
/// shape_error before anything is written.
template <int Width, int Features = 256, class T = float, class Device = cpu>
struct time_embedding {
  static_assert(Features >= 2 && Features % 2 == 0, "lightnet: a cosine and a sine each: the features are even");
  using number = accumulator<T>;
  using first = linear<Features, Width, true, T, Device>;
  using second = linear<Width, Width, true, T, Device>;
  static constexpr std::int64_t second_at = first::parameter_count;
  static constexpr std::int64_t parameter_count = second_at + second::parameter_count;
  using parameters = parameters_of<time_embedding, const T, Device>;
  using gradients = parameters_of<time_embedding, T, Device>;
  using time_view = dynamic_view<1, const std::int32_t, Device>;

  template <class Mode>
  struct context {
    kept<Mode, T, Device> features, inner;  // [B, Features], [B, Width]
  };

  void describe(const std::string& prefix, std::int64_t offset, std::vector<parameter>& list, double gain = 0) const {
    first{}.describe(prefix + "0.", offset, list, gain);
    second{}.describe(prefix + "1.", offset + second_at, list, gain);
  }

  template <class Mode>
  void forward(execution<Device>& on, const parameters& params, const time_view& times,
               const dynamic_view<2, T, Device>& y, context<Mode>& kept_here) const {
    const std::int64_t batch = y.extent(0);
    const detail::layer_checker check{"time_embedding::forward"};
    check.parameters("params", params);
    check.numbers("times", times, batch);
    check.matrix("y", y, batch, Width);
    typename execution<Device>::scope scratch{on};
    const auto features = kept_here.features.take(scratch, batch, Features);
    const auto inner = kept_here.inner.take(scratch, batch, Width);
    const auto hidden = detail::scratch_matrix<T, Device>(scratch, batch, Width);
    detail::for_each_row(on, check.operation, batch, Features, waves{times, features});
    first{}.forward(on, detail::part_of<first>(params, 0), features, inner);
    detail::map(on, batch, Width, activate{}, hidden, inner);
    second{}.forward(on, detail::part_of<second>(params, second_at), hidden, y);
  }

  /// dparams is overwritten; steps have no gradient.
  void backward(execution<Device>& on, const parameters& params, const dynamic_view<2, const T, Device>& dy,
                const gradients& dparams, const context<train>& kept_here) const {
    const std::int64_t batch = dy.extent(0);
    const auto features = kept_here.features.view(), inner = kept_here.inner.view();
    const detail::layer_checker check{"time_embedding::backward"};
    check.parameters("params", params);
    check.matrix("dy", dy, batch, Width);
    check.parameters("dparams", dparams);
    check.context(features, batch, Features);
    check.context(inner, batch, Width);
    typename execution<Device>::scope scratch{on};
    const auto hidden = detail::scratch_matrix<T, Device>(scratch, batch, Width);
    const auto dhidden = detail::scratch_matrix<T, Device>(scratch, batch, Width);
    detail::map(on, batch, Width, activate{}, hidden, inner);
    second{}.backward(on, detail::part_of<second>(params, second_at), hidden, dy, dhidden,
                      detail::part_of<second>(dparams, second_at));
    const auto dinner = hidden;  // which the weights have read
    detail::map(on, batch, Width, pull_activation{}, dinner, inner, dhidden);
    first{}.backward(on, detail::part_of<first>(params, 0), features, dinner, {}, detail::part_of<first>(dparams, 0));
  }

  // What the backend calls is public, for nvcc makes no kernel of a private type.
  struct waves {
    time_view times;
    dynamic_view<2, T, Device> features;

    LIGHTNET_HOST_DEVICE void operator()(std::int64_t row, std::int64_t begin, std::int64_t end) const noexcept {
      constexpr int half = Features / 2;
      constexpr double log_base = 9.210340371976182736;  // log 10000
      for (std::int64_t i = begin; i < end; ++i) {
        const double angle = times(row) * std::exp(-log_base * static_cast<double>(i % half) / half);
        features(row, i) = static_cast<T>(i < half ? std::cos(angle) : std::sin(angle));
      }
    }
  };
  struct activate {
    LIGHTNET_HOST_DEVICE void operator()(T& y, const T& x) const noexcept { y = static_cast<T>(silu<number>(x)); }
  };
  struct pull_activation {
    LIGHTNET_HOST_DEVICE void operator()(T& dx, const T& x, const T& dy) const noexcept {
      dx = static_cast<T>(dy * dsilu<number>(x));
    }
  };
};

LIGHTNET_END_NAMESPACE
