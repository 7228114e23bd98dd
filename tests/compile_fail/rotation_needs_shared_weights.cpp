// expect: md_lrpe \(cosine\).*global
// SPDX-License-Identifier: Apache-2.0
// A rotation mixes channels whose weights differ: in causal order it would not be relative.
#include <lightnet/recurrence.hpp>

namespace ln = lightnet;

void misuse(ln::execution<ln::cpu>& on, const ln::scan_inputs<ln::additive>& inputs,
            const ln::scan_outputs<ln::additive>& outputs) {
  ln::scan<ln::additive, ln::causal, ln::md_lrpe_rotate>(on, inputs, outputs);
}
