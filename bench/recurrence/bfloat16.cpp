// SPDX-License-Identifier: Apache-2.0
#include "recurrence/scan_rows.hpp"
#include "rows.hpp"

#include <lightnet/backend/cpu/amx.hpp>
#include <lightnet/recurrence/additive.hpp>
#include <lightnet/recurrence/vector_decay.hpp>

namespace bench {

namespace {

/// Compared with float, from call to call. Where there is AMX, its products have to show.
template <class Recurrence, class Traversal>
void add_forward_rows(const operation& what) {
  for (const std::int64_t width : {64, 128}) {
    const problem p{.width = width};
    const double wanted = width == 128 && ln::detail::amx_available() ? 1.5 : 1;
    add_scan_row<Recurrence, Traversal, ln::no_position, 1, ln::bfloat16, float>(
        what, direction::forward, p, "bfloat16", {{"over_float", "float"}, p, wanted});
  }
}

}  // namespace

void add_bfloat16_rows() {
  add_forward_rows<ln::additive, ln::causal>(
      {.name = "additive/causal", .plain_forward = plain::additive_causal_forward});
  add_forward_rows<ln::additive, ln::global>(
      {.name = "additive/global", .plain_forward = plain::additive_global_forward});
  add_forward_rows<ln::vector_decay, ln::causal>({.name = "vector_decay/causal",
                                                  .decays = {decay_source::share::channel, gla_decay},
                                                  .plain_forward = plain::vector_decay_forward});
}

}  // namespace bench
