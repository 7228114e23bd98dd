// SPDX-License-Identifier: Apache-2.0
// The layers with parameters in bfloat16: what they give in double, up to a few roundings.
#include "layers.hpp"
#include "sums_of_ones.hpp"

namespace {

namespace ln = lightnet;

template <class Layer, class Exact>
void check_layer(const std::string& name) {
  CAPTURE(name);
  for (const std::int64_t rows : {1, 7, 301}) {
    CAPTURE(rows);
    numbers::outcomes<double> got;
    for (const auto& each : Layer::template ask<ln::cpu>(rows)) {
      got.push_back({each.name, numbers::cast<double>(each.values)});
    }
    numbers::check_close(got, Exact::template ask<ln::cpu>(rows), 0x1p-6);
  }
  Layer::template ask<ln::cpu>(0);
}

template <class Recurrence>
void check_logits(const std::string& name) {
  check_layer<layers::logits_layer<ln::bfloat16, Recurrence>, layers::logits_layer<double, Recurrence>>(name);
}
template <ln::gate_form Form>
void check_gate(const std::string& name) {
  check_layer<layers::gate_layer<ln::bfloat16, Form>, layers::gate_layer<double, Form>>(name);
}

}  // namespace

TEST_CASE("layers with parameters in bfloat16 are those in double") {
  check_layer<layers::linear_layer<ln::bfloat16>, layers::linear_layer<double>>("linear");
  check_layer<layers::norm_layer<ln::bfloat16, 1>, layers::norm_layer<double, 1>>("rms_norm");
  check_layer<layers::norm_layer<ln::bfloat16, 6>, layers::norm_layer<double, 6>>("rms_norm of 6 groups");
  check_gate<ln::gate_form::norm_then_gate>("norm_then_gate");
  check_gate<ln::gate_form::gate_then_norm>("gate_then_norm");
  check_logits<ln::scalar_decay>("logits of scalar_decay");
  check_logits<ln::vector_decay>("logits of vector_decay");
  check_logits<ln::signed_decay<ln::vector_decay>>("logits of a signed decay");
  check_layer<layers::glu_layer<ln::bfloat16>, layers::glu_layer<double>>("glu");
}

TEST_CASE("sums of bfloat16 are in float") { numbers::check_sums_of_ones<ln::cpu>(); }
