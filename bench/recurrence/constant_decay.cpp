// SPDX-License-Identifier: Apache-2.0
#include "recurrence/scan_rows.hpp"
#include "rows.hpp"

#include <lightnet/recurrence/constant_decay.hpp>

namespace bench {

void add_constant_decay_rows() {
  const operation decay{.name = "constant_decay/causal",
                        .plain_forward = plain::constant_decay_forward,
                        .plain_backward = plain::constant_decay_backward,
                        .forward = {.speedup = 4}};
  add_scan_rows<ln::constant_decay, ln::causal>(decay);
}

}  // namespace bench
