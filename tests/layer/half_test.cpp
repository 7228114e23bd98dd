// SPDX-License-Identifier: Apache-2.0
// The layers with parameters in types of two bytes: what they give in double, up to a few roundings.
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

}  // namespace

TEST_CASE_TEMPLATE("layers with parameters in types of two bytes are those in double", T, ln::bfloat16, ln::float16) {
  using ln::gate_form, ln::scalar_decay, ln::vector_decay;
  using signs = ln::signed_decay<vector_decay>;
  using namespace layers;
  check_layer<linear_layer<T>, linear_layer<double>>("linear");
  check_layer<norm_layer<T, 1>, norm_layer<double, 1>>("rms_norm");
  check_layer<norm_layer<T, 6>, norm_layer<double, 6>>("rms_norm of 6 groups");
  check_layer<gate_layer<T, gate_form::norm_then_gate>, gate_layer<double, gate_form::norm_then_gate>>("norm, gate");
  check_layer<gate_layer<T, gate_form::gate_then_norm>, gate_layer<double, gate_form::gate_then_norm>>("gate, norm");
  check_layer<logits_layer<T, scalar_decay>, logits_layer<double, scalar_decay>>("logits of scalar_decay");
  check_layer<logits_layer<T, vector_decay>, logits_layer<double, vector_decay>>("logits of vector_decay");
  check_layer<logits_layer<T, signs>, logits_layer<double, signs>>("logits of a signed decay");
  check_layer<glu_layer<T>, glu_layer<double>>("glu");
}

TEST_CASE("sums of bfloat16 are in float") { numbers::check_sums_of_ones<ln::cpu>(); }
