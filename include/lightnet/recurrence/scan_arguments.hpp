// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/recurrence_arguments.hpp>
#include <lightnet/core/concepts.hpp>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {
/// Logits or decays: an array [H] where a recurrence has one a head, else a sequence.
template <class Recurrence, int Dims, class T, class Device>
using logits_argument =
    std::conditional_t<Recurrence::logits == logits_from::head,
                       dynamic_view<1,
                                    std::conditional_t<std::is_const_v<T>, const accumulator<std::remove_const_t<T>>,
                                                       accumulator<std::remove_const_t<T>>>,
                                    Device>,
                       head_sequence<Dims, T, Device>>;
}  // namespace detail

/// The inputs of scan and its relatives; q, k and v are needed (hgrn2 has no k), and the logits or decays of a recurrence
/// that has some, where it has no default. Everything else has one.
///
/// A log decay above zero, a decay outside [-1, 1] and a logit that is NaN or +inf make the outputs of that head NaN from
/// that token on. `cumulative_lengths` packs sequences one after another into a batch of one: sequence s has the tokens
/// from cumulative_lengths(s) to cumulative_lengths(s + 1), and states have an entry a sequence.
template <class Recurrence, int Dims = 1, class T = float, class Device = cpu>
struct scan_inputs {
  using logits_type = detail::logits_argument<Recurrence, Dims, const T, Device>;

  head_sequence<Dims, const T, Device> q{}, k{}, v{};                         // [B, n_1..n_M, H, d] twice, [..., e]
  logits_type logits{};                                                       // [B, n_1..n_M, H, d or 1]
  logits_type log_decay{};                                                    // the same, or [H]
  logits_type decay{};                                                        // the same, signed
  dynamic_view<2, const bool, Device> mask{};                                 // [B, N]; false deletes a token
  dynamic_view<1, const std::int64_t, Device> cumulative_lengths{};           // [S + 1], from 0 to N
  typename Recurrence::template state<const accumulator<T>, Device> state{};  // initial state
  dynamic_view<2, const accumulator<T>, Device> theta{};                      // [1 or H, share]
  lightnet::grid<Dims> grid{};                                                // where q is flattened; an offset
  dynamic_view<1, const std::int64_t, Device> origin{};                       // [Dims]: added to the offset
  std::int64_t chunk = 0;  // tokens a pass over the state, to 256; 0: what is fast
};

/// The outputs of scan: o is needed.
template <class Recurrence, int Dims = 1, class T = float, class Device = cpu>
struct scan_outputs {
  head_sequence<Dims, T, Device> o{};                                   // [B, n_1..n_M, H, e]
  typename Recurrence::template state<accumulator<T>, Device> state{};  // final state
};

/// What comes back to scan_backward: the gradients by o and, optionally, by the final state.
template <class Recurrence, int Dims = 1, class T = float, class Device = cpu>
struct scan_incoming {
  head_sequence<Dims, const T, Device> o{};  // [B, n_1..n_M, H, e]
  state_gradient<const accumulator<T>, Device> state{};
};

/// The gradients that scan_backward writes; each is optional.
template <class Recurrence, int Dims = 1, class T = float, class Device = cpu>
struct scan_gradients {
  using logits_type = detail::logits_argument<Recurrence, Dims, T, Device>;

  head_sequence<Dims, T, Device> q{}, k{}, v{};     // as the inputs
  logits_type logits{}, log_decay{}, decay{};       // as the inputs that were given
  state_gradient<accumulator<T>, Device> state{};   // by the initial (z, S)
  dynamic_view<2, accumulator<T>, Device> theta{};  // as inputs.theta, where that was given
};

/// The rows d' of a state for d keys.
template <class Position>
constexpr std::int64_t state_keys(std::int64_t keys) noexcept {
  return Position::width(keys);
}

LIGHTNET_END_NAMESPACE
