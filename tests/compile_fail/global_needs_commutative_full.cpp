// expect: (bidirectional.*axial|axial.*bidirectional)
// SPDX-License-Identifier: Apache-2.0
// The same as global_needs_commutative.cpp, in the full form.
#include <lightnet/recurrence.hpp>

namespace ln = lightnet;

void misuse(ln::execution<ln::cpu>& on, const ln::scan_inputs<ln::constant_decay, 2, double>& inputs,
            const ln::scan_outputs<ln::constant_decay, 2, double>& outputs) {
  ln::scan<ln::constant_decay, ln::global, ln::md_lrpe, 2, double>(on, inputs, outputs);
}
