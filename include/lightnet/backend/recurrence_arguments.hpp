// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/token_lines.hpp>
#include <lightnet/core/half.hpp>
#include <lightnet/core/head_sequence.hpp>
#include <lightnet/core/state.hpp>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// What every backend's linear_recurrence gets: checked arguments, all sizes known. Views that were not given are
/// empty.
template <class Recurrence, int Dims, class T, class Device>
struct recurrence_arguments {
  using sum_type = accumulator<T>;

  token_lines<Dims, Device> lines;
  std::int64_t heads, keys, stored_keys, values;
  std::int64_t chunk;  // tokens for each pass over the state

  head_sequence<Dims, const T, Device> q, k, v;
  head_sequence<Dims, const T, Device> logits;           // [B, N, H, d or 1] where tokens have some
  dynamic_view<1, const sum_type, Device> head_logits;   // [H] where heads have some
  dynamic_view<2, const bool, Device> mask;              // [B, N]
  dynamic_view<3, const sum_type, Device> cosine, sine;  // [1 or H, N, angles], where the position encodes
  typename Recurrence::template state<const sum_type, Device> state;

  /// The weights of a token and head.
  LIGHTNET_HOST_DEVICE std::int64_t weights() const noexcept { return Recurrence::per_channel ? keys : 1; }
  /// The lines of all heads.
  LIGHTNET_HOST_DEVICE std::int64_t items() const noexcept { return lines.count() * heads; }
};

/// Outputs of the forward call; the state is optional.
template <class Recurrence, int Dims, class T, class Device>
struct recurrence_outputs {
  head_sequence<Dims, T, Device> o;
  typename Recurrence::template state<accumulator<T>, Device> state;
  bool accumulate = false;  // add to o
};

/// Inputs and outputs of the backward call beside the arguments; every output is optional. What belongs to several
/// lines or heads is written one part a line and head, and summed by the caller.
template <int Dims, class T, class Device>
struct recurrence_gradients {
  using sum_type = accumulator<T>;

  head_sequence<Dims, const T, Device> o;              // incoming
  state_gradient<const sum_type, Device> final_state;  // incoming, optional
  head_sequence<Dims, T, Device> q, k, v;
  head_sequence<Dims, T, Device> logits;
  state_gradient<sum_type, Device> state;
  dynamic_view<2, sum_type, Device> head_logits;       // [lines, H]
  dynamic_view<3, sum_type, Device> theta;             // [lines, H, share]
  dynamic_view<2, const sum_type, Device> coordinate;  // [N, angles]: what theta is multiplied by
  bool accumulate = false;                             // add to q, k, v and logits
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
