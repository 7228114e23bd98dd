// SPDX-License-Identifier: Apache-2.0
#pragma once

// How operators.py calls a recurrence: memory is the caller's, whatever its strides.

#include <lightnet/backend/execution.hpp>

#include <cstdint>

extern "C" {

/// A tensor, its last axis last; axes that it lacks come first, of extent 1. Strides in elements; no data: not given.
struct lightnet_tensor {
  void* data;
  std::int64_t extents[4], strides[4];
};

/// What recurrences read, or the gradients by it: q, k [B, N, H, d] and v [B, N, H, e], or x [B, N, H, d]; log_decay
/// [B, N, H, d or 1], or [H] of float.
struct lightnet_operands {
  lightnet_tensor q, k, v, x, log_decay;
};

/// What a call works on. Element type: 0 float, 1 bfloat16. `lengths` [sequences + 1] packs sequences into a batch of one.
struct lightnet_call {
  std::int32_t type, global;
  const std::int64_t* lengths;
  std::int64_t sequences;
  lightnet_operands inputs;
};
}

/// A recurrence, in each type and along each traversal of a call. What is not to be done throws a lightnet::error.
template <class Recurrence>
struct recurrence_operator {
  using execution = lightnet::execution<lightnet::cuda>;

  /// o [B, N, H, channels of v or x].
  static void forward(execution& on, const lightnet_call& call, const lightnet_tensor& o);
  /// The gradients from that by o; those without data are not made.
  static void backward(execution& on, const lightnet_call& call, const lightnet_tensor& d_o,
                       const lightnet_operands& gradients);
};
