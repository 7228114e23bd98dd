// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/parallel.hpp>
#include <lightnet/core/layer_check.hpp>
#include <lightnet/core/modes.hpp>

#include <algorithm>

LIGHTNET_BEGIN_NAMESPACE

/// The mean of the tokens of each sequence that are not masked: x [B, N, width] to y [B, width]; of none, zero.
/// Throws device_error or shape_error before anything is written.
template <int Dims, class T = float, class Device = cpu>
struct mean_pooling {
  void forward(execution<Device>& on, const sequence<Dims, const T, Device>& x,
               const dynamic_view<2, T, Device>& y) const {
    const detail::layer_checker check{"mean_pooling::forward"};
    check.tokens("x", x, x.batch(), x.tokens.extent(1), x.width());
    check.matrix("y", y, x.batch(), x.width());
    detail::parallel_for(on, x.batch(), [&](std::int64_t b, int) {
      T* const to = y.data() + b * y.stride(0);
      std::fill_n(to, x.width(), T(0));
      for (std::int64_t t = 0; t < x.tokens.extent(1); ++t) {
        if (x.mask && !x.mask(b, t)) continue;
        const T* const from = &x.tokens(b, t, 0);
        for (std::int64_t i = 0; i < x.width(); ++i) to[i] += from[i];
      }
      const T by = share(x, b);
      for (std::int64_t i = 0; i < x.width(); ++i) to[i] *= by;
    });
  }

  /// dx is overwritten.
  void backward(execution<Device>& on, const dynamic_view<2, const T, Device>& dy,
                const sequence<Dims, T, Device>& dx) const {
    const detail::layer_checker check{"mean_pooling::backward"};
    check.tokens("dx", dx, dx.batch(), dx.tokens.extent(1), dx.width());
    check.matrix("dy", dy, dx.batch(), dx.width());
    detail::parallel_for(on, dx.batch(), [&](std::int64_t b, int) {
      const T* const from = dy.data() + b * dy.stride(0);
      const T by = share(dx, b);
      for (std::int64_t t = 0; t < dx.tokens.extent(1); ++t) {
        const T weight = dx.mask && !dx.mask(b, t) ? T(0) : by;
        T* const to = &dx.tokens(b, t, 0);
        for (std::int64_t i = 0; i < dx.width(); ++i) to[i] = weight * from[i];
      }
    });
  }

 private:
  static T share(const sequence<Dims, const T, Device>& x, std::int64_t b) {
    std::int64_t count = 0;
    for (std::int64_t t = 0; t < x.tokens.extent(1); ++t) count += !x.mask || x.mask(b, t) ? 1 : 0;
    return count > 0 ? T(1) / static_cast<T>(count) : T(0);
  }
};

LIGHTNET_END_NAMESPACE
