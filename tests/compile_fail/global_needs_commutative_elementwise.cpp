// expect: (bidirectional.*axial|axial.*bidirectional)
// SPDX-License-Identifier: Apache-2.0
// The same as global_needs_commutative.cpp, for a recurrence whose state is a vector.
#include <lightnet/recurrence/elementwise_scan.hpp>
#include <lightnet/traversal/global.hpp>

namespace ln = lightnet;

void misuse(ln::execution<ln::cpu>& on, const ln::scan_inputs<ln::elementwise>& inputs,
            const ln::scan_outputs<ln::elementwise>& outputs) {
  ln::scan<ln::elementwise, ln::global>(on, inputs, outputs);
}
