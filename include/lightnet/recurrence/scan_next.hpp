// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/recurrence/scan.hpp>

#include <optional>
#include <utility>

LIGHTNET_BEGIN_NAMESPACE

/// The causal scan of tokens that arrive in parts: those of a call, one or many, come after those of the calls before, whose
/// state is in `state`, empty before the first. `inputs.grid.offset` says where they lie, `inputs.state` stays empty.
/// Throws as scan does; then the state is as it was. A call of one token allocates nothing but the first state.
template <class Recurrence, class Position = no_position, int Dims = 1, class T = float, class Device>
  requires(!elementwise_recurrence<Recurrence>)
void scan_next(execution<Device>& on, scan_inputs<Recurrence, Dims, T, std::type_identity_t<Device>> inputs,
               const head_sequence<Dims, T, std::type_identity_t<Device>>& o,
               std::optional<state_tensors<Recurrence, T, std::type_identity_t<Device>>>& state) {
  using state_type = state_tensors<Recurrence, T, Device>;
  const std::int64_t keys = inputs.q.channels();
  const auto empty = [&] {
    return state_type(inputs.q.batch(), inputs.q.heads(), keys, state_keys<Position>(keys), inputs.v.channels());
  };
  if (inputs.q.tokens() == 1) {
    if (!state) state = empty();
    scan_step<Recurrence, Position, Dims, T>(on, inputs, {.o = o, .state = state->view()});
    return;
  }
  // Threads that are still to read the state must not find the next one there.
  state_type next = empty();
  if (state) inputs.state = std::as_const(*state).view();
  scan<Recurrence, causal, Position, Dims, T>(on, inputs, {.o = o, .state = next.view()});
  state = std::move(next);
}

LIGHTNET_END_NAMESPACE
