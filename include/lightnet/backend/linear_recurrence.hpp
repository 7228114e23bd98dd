// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/head_sequence.hpp>
#include <lightnet/core/state.hpp>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// What every backend's linear_recurrence gets: checked arguments, all sizes known. Views that were not given are
/// empty.
template <class Recurrence, int Dims, class T, class Device>
struct recurrence_arguments {
  std::int64_t batch, tokens, heads, keys, stored_keys, values;
  std::int64_t chunk;  // tokens for each pass over the state

  head_sequence<Dims, const T, Device> q, k, v;
  dynamic_view<2, const bool, Device> mask;       // [B, N]
  dynamic_view<1, const T, Device> log_decay;     // [H], where the recurrence has one
  dynamic_view<3, const T, Device> cosine, sine;  // [1 or H, N, angles], where the position encodes
  typename Recurrence::template state<const T, Device> state;

  bool reversed = false;  // tokens are walked from the last to the first
};

/// Outputs of the forward call; the state is optional.
template <class Recurrence, int Dims, class T, class Device>
struct recurrence_outputs {
  head_sequence<Dims, T, Device> o;
  typename Recurrence::template state<T, Device> state;
  bool accumulate = false;  // add to o
};

/// Inputs and outputs of the backward call beside the arguments; every output is optional. What belongs to several
/// sequences or heads is written one part a sequence and head, and summed by the caller.
template <int Dims, class T, class Device>
struct recurrence_gradients {
  head_sequence<Dims, const T, Device> o;       // incoming
  state_gradient<const T, Device> final_state;  // incoming, optional
  head_sequence<Dims, T, Device> q, k, v;
  state_gradient<T, Device> state;
  dynamic_view<2, T, Device> log_decay;         // [B, H]
  dynamic_view<3, T, Device> theta;             // [B, H, share]
  dynamic_view<2, const T, Device> coordinate;  // [N, angles]: what theta is multiplied by
  bool accumulate = false;                      // add to q, k, v, log_decay and theta
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
