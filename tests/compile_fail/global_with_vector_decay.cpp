// expect: (bidirectional.*axial|axial.*bidirectional)
// SPDX-License-Identifier: Apache-2.0
// The same as global_needs_commutative.cpp, for decays of each token and channel, backward.
#include <lightnet/recurrence.hpp>

namespace ln = lightnet;

void misuse(ln::execution<ln::cpu>& on, const ln::scan_inputs<ln::vector_decay>& inputs,
            const ln::scan_incoming<ln::vector_decay>& incoming,
            const ln::scan_gradients<ln::vector_decay>& gradients) {
  ln::scan_backward<ln::vector_decay, ln::global>(on, inputs, incoming, gradients);
}
