// SPDX-License-Identifier: Apache-2.0
#include "recurrence/scan_rows.hpp"
#include "rows.hpp"

#include <lightnet/recurrence/additive.hpp>

namespace bench {

void add_additive_causal_rows() {
  const operation additive{.name = "additive/causal",
                           .plain_forward = plain::additive_causal_forward,
                           .plain_backward = plain::additive_causal_backward,
                           .forward = {.of_limit = 0.45, .speedup = 5},
                           .backward = {.of_limit = 0.35}};
  add_scan_rows<ln::additive, ln::causal>(additive);
  add_threads_rows<ln::additive, ln::causal>(additive, direction::forward, 8);
  add_threads_rows<ln::additive, ln::causal>(additive, direction::backward, 8);
  add_threads_rows<ln::additive, ln::causal>(additive, direction::forward, 1);
  add_threads_rows<ln::additive, ln::causal>(additive, direction::backward, 1);
  add_length_rows<ln::additive, ln::causal>(additive, direction::forward);
}

}  // namespace bench
