// SPDX-License-Identifier: Apache-2.0
#include "recurrence/scan_rows.hpp"
#include "rows.hpp"

#include <lightnet/recurrence/vector_decay.hpp>

namespace bench {

void add_vector_decay_rows() {
  const operation decay{.name = "vector_decay/causal",
                        .decays = {decay_source::share::channel, gla_decay},
                        .plain_forward = plain::vector_decay_forward,
                        .plain_backward = plain::vector_decay_backward,
                        .forward = {.speedup = 4}};
  add_scan_rows<ln::vector_decay, ln::causal>(decay);
  add_threads_rows<ln::vector_decay, ln::causal>(decay, direction::forward, 8);
}

void add_hgrn2_rows() {
  add_scan_rows<ln::hgrn2, ln::causal>({.name = "hgrn2/causal",
                                        .decays = {decay_source::share::channel, hgrn2_decay},
                                        .plain_forward = plain::hgrn2_forward,
                                        .forward = {.speedup = 4}});
}

}  // namespace bench
