// SPDX-License-Identifier: Apache-2.0
// The paper's baseline: attention with a constant decay, scanned both ways.
#include <lightnet/model/attention.hpp>
#include <lightnet/recurrence/constant_decay.hpp>

#include "check.hpp"

namespace {

namespace ln = lightnet;

struct retnet : ln::attention_options {
  static constexpr int width = 15, heads = 3;
  static constexpr ln::gate_form gate = ln::gate_form::gate_then_norm;
  static constexpr bool norm_per_head = true;
  using recurrence = ln::constant_decay;
  using traversal = ln::bidirectional;
};

}  // namespace

TEST_CASE("attention with a decay in both directions is its formula, with the gradients of finite differences") {
  using layer = ln::attention<retnet, 1, double>;
  for (const bool masked : {false, true}) {
    check::tokens_question<layer, 1> q({{17}, 0, {}}, 2, masked);
    check::model(q, masked ? "decay with mask" : "decay",
                 reference::attention<retnet>(q.parameters, "", q.x, q.places()));
  }
  CHECK(layer::parameter_count == 4 * 15 * 15 + 2 * 5 * 15 + 15);
  MESSAGE(oracle::gradient_report());
}
