// expect: md_lrpe \(cosine\)
// SPDX-License-Identifier: Apache-2.0
// A rotation mixes channels that decay at different rates.
#include <lightnet/recurrence.hpp>

namespace ln = lightnet;

void misuse(ln::execution<ln::cpu>& on, const ln::scan_inputs<ln::vector_decay, 2>& inputs,
            const ln::scan_outputs<ln::vector_decay, 2>& outputs) {
  ln::scan<ln::vector_decay, ln::axial, ln::md_lrpe_rotate, 2>(on, inputs, outputs);
}
