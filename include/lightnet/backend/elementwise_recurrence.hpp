// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/token_lines.hpp>
#include <lightnet/core/half.hpp>
#include <lightnet/core/head_sequence.hpp>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// What every backend's elementwise_recurrence gets: checked arguments, all sizes known. Views that were not given are
/// empty.
template <class Recurrence, int Dims, class T, class Device>
struct elementwise_arguments {
  using sum_type = accumulator<T>;

  token_lines<Dims, Device> lines;
  std::int64_t heads, channels;

  head_sequence<Dims, const T, Device> x;      // [B, N, H, d]
  head_sequence<Dims, const T, Device> decay;  // [B, N, H, d]  its logarithm, or itself where it has a sign
  dynamic_view<2, const bool, Device> mask;    // [B, N]
  typename Recurrence::template state<const sum_type, Device> state;

  /// The channels of a token, those of all heads side by side.
  std::int64_t row() const noexcept { return heads * channels; }
  /// The tokens of all sequences.
  std::int64_t tokens() const noexcept { return lines.batch * lines.tokens.size(); }
};

/// Outputs of the forward call in a storage type U; the state is optional.
template <class Recurrence, int Dims, class U, class Device>
struct elementwise_outputs {
  head_sequence<Dims, U, Device> o;  // [B, N, H, d]
  typename Recurrence::template state<accumulator<U>, Device> state;
  bool accumulate = false;  // add to o
};

/// Inputs and outputs of the backward call beside the arguments; every output, in a storage type U, is optional.
template <int Dims, class T, class U, class Device>
struct elementwise_gradients {
  using sum_type = accumulator<T>;

  head_sequence<Dims, const T, Device> o;               // [B, N, H, d]  incoming
  dynamic_view<3, const sum_type, Device> final_state;  // [B, H, d]     incoming, optional
  head_sequence<Dims, U, Device> x, decay;              // [B, N, H, d]
  dynamic_view<3, sum_type, Device> state;              // [B, H, d]
  bool accumulate = false;                              // add to x and decay
};

}  // namespace detail

LIGHTNET_END_NAMESPACE

#include <lightnet/backend/cpu/elementwise_recurrence.hpp>
#if defined(LIGHTNET_HAS_CUDA)
#include <lightnet/backend/cuda/elementwise_recurrence.cuh>
#endif
