// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/pooling.hpp>
#include <lightnet/core/layer_check.hpp>
#include <lightnet/core/modes.hpp>

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
    detail::pool_tokens(on, x.tokens, x.mask, y);
  }

  /// dx is overwritten.
  void backward(execution<Device>& on, const dynamic_view<2, const T, Device>& dy,
                const sequence<Dims, T, Device>& dx) const {
    const detail::layer_checker check{"mean_pooling::backward"};
    check.tokens("dx", dx, dx.batch(), dx.tokens.extent(1), dx.width());
    check.matrix("dy", dy, dx.batch(), dx.width());
    detail::spread_tokens(on, dy, dx.mask, dx.tokens);
  }
};

LIGHTNET_END_NAMESPACE
