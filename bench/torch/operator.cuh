// SPDX-License-Identifier: Apache-2.0
#pragma once

// Every recurrence is a source of its own in recurrence/, so that they compile side by side.

#include "torch/operator.hpp"

#include <lightnet/recurrence.hpp>

namespace torch_operators {

namespace ln = lightnet;

template <class T>
ln::dynamic_view<4, T, ln::cuda> view_of(const lightnet_tensor& from) {
  if (from.data == nullptr) return {};
  return {static_cast<T*>(from.data),
          {{from.extents[0], from.extents[1], from.extents[2], from.extents[3]}},
          {from.strides[0], from.strides[1], from.strides[2], from.strides[3]}};
}

/// Sets what `to`, inputs or gradients of a recurrence, has of the operands.
template <class Recurrence, class T, class Operands>
void set_operands(const lightnet_operands& from, Operands& to) {
  if constexpr (ln::elementwise_recurrence<Recurrence>) {
    to.x = view_of<T>(from.x);
  } else {
    to.q = view_of<T>(from.q);
    to.k = view_of<T>(from.k);
    to.v = view_of<T>(from.v);
  }
  if constexpr (Recurrence::logits != ln::logits_from::head) {
    to.log_decay = view_of<T>(from.log_decay);
  } else if (from.log_decay.data) {
    using number = typename decltype(to.log_decay)::element_type;
    to.log_decay = {
        static_cast<number*>(from.log_decay.data), {{from.log_decay.extents[3]}}, {from.log_decay.strides[3]}};
  }
}

template <class Recurrence, class T>
ln::scan_inputs<Recurrence, 1, T, ln::cuda> inputs_of(const lightnet_call& call) {
  ln::scan_inputs<Recurrence, 1, T, ln::cuda> inputs;
  set_operands<Recurrence, const T>(call.inputs, inputs);
  if (call.lengths) inputs.cumulative_lengths = {call.lengths, {{call.sequences + 1}}};
  return inputs;
}

/// Calls body<T, Traversal>() with the type and the traversal of a call.
template <class Recurrence, class Body>
void select(const lightnet_call& call, const Body& body) {
  const auto of_type = [&]<class T>() {
    if (!call.global) return body.template operator()<T, ln::causal>();
    if constexpr (Recurrence::commutative) return body.template operator()<T, ln::global>();
    throw ln::value_error("operator", "traversal", "causal, for this recurrence does not commute", "global");
  };
  call.type == 0 ? of_type.template operator()<float>() : of_type.template operator()<ln::bfloat16>();
}

}  // namespace torch_operators

template <class Recurrence>
void recurrence_operator<Recurrence>::forward(execution& on, const lightnet_call& call, const lightnet_tensor& o) {
  using namespace torch_operators;
  select<Recurrence>(call, [&]<class T, class Traversal>() {
    ln::scan<Recurrence, Traversal, ln::no_position, 1, T>(on, inputs_of<Recurrence, T>(call), {.o = view_of<T>(o)});
  });
}

template <class Recurrence>
void recurrence_operator<Recurrence>::backward(execution& on, const lightnet_call& call, const lightnet_tensor& d_o,
                                               const lightnet_operands& gradients) {
  using namespace torch_operators;
  select<Recurrence>(call, [&]<class T, class Traversal>() {
    ln::scan_gradients<Recurrence, 1, T, ln::cuda> to;
    set_operands<Recurrence, T>(gradients, to);
    ln::scan_backward<Recurrence, Traversal, ln::no_position, 1, T>(on, inputs_of<Recurrence, T>(call),
                                                                    {.o = view_of<const T>(d_o)}, to);
  });
}
