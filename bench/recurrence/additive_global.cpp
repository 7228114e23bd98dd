// SPDX-License-Identifier: Apache-2.0
#include "recurrence/scan_rows.hpp"
#include "rows.hpp"

#include <lightnet/recurrence/additive.hpp>

namespace bench {

void add_additive_global_rows() {
  const operation additive{.name = "additive/global",
                           .plain_forward = plain::additive_global_forward,
                           .plain_backward = plain::additive_global_backward,
                           .forward = {.of_limit = 0.6},
                           .backward = {.of_limit = 0.6}};
  add_scan_rows<ln::additive, ln::global>(additive);
  add_threads_rows<ln::additive, ln::global>(additive, direction::forward, 8);
  add_threads_rows<ln::additive, ln::global>(additive, direction::forward, 1);
  add_length_rows<ln::additive, ln::global>(additive, direction::forward);
}

}  // namespace bench
