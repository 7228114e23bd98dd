// SPDX-License-Identifier: Apache-2.0
// A recurrence in one type, causal and global, forward and back, as a user's file has it. It is compiled for every
// architecture and not run.
#include <lightnet/recurrence.hpp>

namespace ln = lightnet;

void scan_on_every_architecture(ln::execution<ln::cuda>& on,
                                const ln::scan_inputs<ln::additive, 1, ln::bfloat16, ln::cuda>& inputs,
                                const ln::scan_outputs<ln::additive, 1, ln::bfloat16, ln::cuda>& outputs,
                                const ln::scan_incoming<ln::additive, 1, ln::bfloat16, ln::cuda>& incoming,
                                const ln::scan_gradients<ln::additive, 1, ln::bfloat16, ln::cuda>& gradients) {
  ln::scan<ln::additive, ln::causal, ln::no_position, 1, ln::bfloat16>(on, inputs, outputs);
  ln::scan_backward<ln::additive, ln::causal, ln::no_position, 1, ln::bfloat16>(on, inputs, incoming, gradients);
  ln::scan<ln::additive, ln::global, ln::no_position, 1, ln::bfloat16>(on, inputs, outputs);
  ln::scan_backward<ln::additive, ln::global, ln::no_position, 1, ln::bfloat16>(on, inputs, incoming, gradients);
}
