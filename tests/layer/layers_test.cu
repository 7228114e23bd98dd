// SPDX-License-Identifier: Apache-2.0
// The layers with parameters, on the GPU: as on the CPU, the same bits twice, and norms alone as inside a batch.
#include "layers.hpp"

namespace {

namespace ln = lightnet;
using ln::cpu, ln::cuda;
using namespace layers;

template <class Layer, class T>
void check_layer(const std::string& name) {
  CAPTURE(name);
  const double tolerance = std::is_same_v<T, double> ? 1e-12 : std::is_same_v<T, float> ? 1e-5 : 0x1p-6;
  for (const std::int64_t rows : {1, 7, 301}) {
    CAPTURE(rows);
    const auto got = Layer::template ask<cuda>(rows);
    numbers::check_close(got, Layer::template ask<cpu>(rows), tolerance);
    numbers::check_same_bits(Layer::template ask<cuda>(rows), got);
  }
  Layer::template ask<cuda>(0);
}

}  // namespace

TEST_CASE_TEMPLATE("layers with parameters on the GPU are the CPU's", T, float, double, ln::bfloat16) {
  check_layer<linear_layer<T>, T>("linear");
  check_layer<norm_layer<T, 1>, T>("rms_norm");
  check_layer<norm_layer<T, 6>, T>("rms_norm of 6 groups");
  check_layer<gate_layer<T, ln::gate_form::norm_then_gate>, T>("norm_then_gate");
  check_layer<gate_layer<T, ln::gate_form::gate_then_norm>, T>("gate_then_norm");
  check_layer<logits_layer<T, ln::scalar_decay>, T>("logits of scalar_decay");
  check_layer<logits_layer<T, ln::vector_decay>, T>("logits of vector_decay");
  check_layer<logits_layer<T, ln::signed_decay<ln::vector_decay>>, T>("logits of a signed decay");
  check_layer<glu_layer<T>, T>("glu");
}

TEST_CASE("a norm gives a row the same bits alone and inside a batch") {
  using layer = ln::rms_norm<78, 6, float, cuda>;
  ln::execution<cuda> on;
  const std::int64_t rows = 131;
  auto params = random_numbers<float, cuda>(78, 1), x = random_numbers<float, cuda>(rows * 78, 2),
       y = unwritten<float, cuda>(rows * 78), one = unwritten<float, cuda>(78);
  layer{}.forward(on, {params.data(), {}}, x.view<2>({rows, 78}), y.view<2>({rows, 78}));
  const list<float> all = y.read(on);
  for (const std::int64_t row : {std::int64_t{0}, std::int64_t{64}, rows - 1}) {
    layer{}.forward(on, {params.data(), {}}, {x.data() + row * 78, {{1, 78}}}, one.view<2>({1, 78}));
    CHECK(numbers::same_bits(one.read(on), list<float>(all.begin() + row * 78, all.begin() + (row + 1) * 78)));
  }
}

TEST_CASE("layers with parameters name an argument in host memory and write nothing") {
  using layer = ln::linear<5, 3, true, float, cuda>;
  ln::execution<cuda> on;
  list<float> on_host(100);
  auto params = random_numbers<float, cuda>(layer::parameter_count, 1), x = random_numbers<float, cuda>(4 * 5, 2),
       y = unwritten<float, cuda>(4 * 3);
  const auto says = [](const char* argument, const auto& call) {
    CHECK(numbers::message_of<ln::device_error>(call) ==
          std::string{"lightnet: linear::forward: "} + argument +
              ": expected memory of the device that works on it, got memory of another place");
  };
  says("params", [&] { layer{}.forward(on, {on_host.data(), {}}, x.view<2>({4, 5}), y.view<2>({4, 3})); });
  says("x", [&] { layer{}.forward(on, {params.data(), {}}, {on_host.data(), {{4, 5}}}, y.view<2>({4, 3})); });
  says("y", [&] { layer{}.forward(on, {params.data(), {}}, x.view<2>({4, 5}), {on_host.data(), {{4, 3}}}); });
  for (const float a : y.read(on)) CHECK(std::isnan(a));
}
