// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/linear_recurrence.cuh>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// One token of every sequence and head: a line of one token, from `outputs.state` and back to it. Every thread writes
/// the part of the state that it has read.
template <class Recurrence, class Position, int Dims, class T>
void linear_recurrence_step(execution<cuda>& on, const recurrence_arguments<Recurrence, Dims, T, cuda>& arguments,
                            const recurrence_outputs<Recurrence, Dims, T, cuda>& outputs) {
  recurrence_arguments<Recurrence, Dims, T, cuda> from = arguments;
  from.state = outputs.state;
  forward_pass<Recurrence, Position>(on, from, outputs, "scan_step");
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
