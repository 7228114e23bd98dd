// expect: (bidirectional.*axial|axial.*bidirectional)
// SPDX-License-Identifier: Apache-2.0
// The single global reduction needs a recurrence that commutes, and a decay does not.
#include <lightnet/recurrence.hpp>

namespace ln = lightnet;

void misuse(ln::tensor<ln::rank<4>, float>& q, ln::tensor<ln::rank<4>, float>& k, ln::tensor<ln::rank<4>, float>& v,
            ln::tensor<ln::rank<4>, float>& o) {
  ln::scan<ln::constant_decay, ln::global>(q.view(), k.view(), v.view(), o.view());
}
