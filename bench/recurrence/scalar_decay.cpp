// SPDX-License-Identifier: Apache-2.0
#include "recurrence/scan_rows.hpp"
#include "rows.hpp"

#include <lightnet/recurrence/scalar_decay.hpp>

namespace bench {

void add_scalar_decay_rows() {
  const operation decay{.name = "scalar_decay/causal",
                        .decays = {decay_source::share::token, mamba2_decay},
                        .plain_forward = plain::scalar_decay_forward,
                        .plain_backward = plain::scalar_decay_backward,
                        .forward = {.speedup = 4}};
  add_scan_rows<ln::scalar_decay, ln::causal>(decay);
}

}  // namespace bench
