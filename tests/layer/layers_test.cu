// SPDX-License-Identifier: Apache-2.0
// The layers with parameters, on the GPU: as on the CPU, the same bits twice, and norms alone as inside a batch.
#include <lightnet/layer/gate.hpp>
#include <lightnet/layer/logits_projection.hpp>
#include <lightnet/model/glu.hpp>
#include <lightnet/recurrence/scalar_decay.hpp>
#include <lightnet/recurrence/signed_decay.hpp>
#include <lightnet/recurrence/vector_decay.hpp>

#include "device_numbers.cuh"

namespace {

namespace ln = lightnet;
using ln::cpu, ln::cuda;
using numbers::array, numbers::list, numbers::outcomes;

template <class T, class Device>
array<T, Device> random_numbers(std::int64_t count, std::uint64_t seed) {
  return array<T, Device>{numbers::cast<T>(numbers::normal(count, seed))};
}
template <class T, class Device>
array<T, Device> unwritten(std::int64_t count) {
  return array<T, Device>{numbers::unwritten<T>(count)};
}

// The rows of x and y lie apart; dx is added to.
template <class T>
struct linear_layer {
  template <class Device>
  static outcomes<T> ask(std::int64_t rows) {
    using layer = ln::linear<37, 21, true, T, Device>;
    ln::execution<Device> on;
    auto params = random_numbers<T, Device>(layer::parameter_count, 1), x = random_numbers<T, Device>(rows * 41, 2),
         dy = random_numbers<T, Device>(rows * 23, 3), dx = random_numbers<T, Device>(rows * 37, 4),
         y = unwritten<T, Device>(rows * 23), dparams = unwritten<T, Device>(layer::parameter_count);
    const ln::dynamic_view<2, const T, Device> from{x.data(), {{rows, 37}}, {41, 1}};
    layer{}.forward(on, {params.data(), {}}, from, {y.data(), {{rows, 21}}, {23, 1}});
    layer{}.template backward<ln::write::add>(on, {params.data(), {}}, from, {dy.data(), {{rows, 21}}, {23, 1}},
                                              dx.template view<2>({rows, 37}), {dparams.data(), {}});
    list<T> written = y.read(on);
    for (std::size_t i = 0; i < written.size(); ++i) {
      if (i % 23 < 21) continue;
      CHECK(std::isnan(written[i]));
      written[i] = T(0);
    }
    return {{"y", written}, {"dx", dx.read(on)}, {"dparams", dparams.read(on)}};
  }
};

template <class T, int Groups>
struct norm_layer {
  template <class Device>
  static outcomes<T> ask(std::int64_t rows) {
    using layer = ln::rms_norm<78, Groups, T, Device>;
    ln::execution<Device> on;
    auto params = random_numbers<T, Device>(78, 1), x = random_numbers<T, Device>(rows * 78, 2),
         dy = random_numbers<T, Device>(rows * 78, 3), dx = unwritten<T, Device>(rows * 78),
         y = unwritten<T, Device>(rows * 78), dparams = unwritten<T, Device>(78);
    layer{}.forward(on, {params.data(), {}}, x.template view<2>({rows, 78}), y.template view<2>({rows, 78}));
    layer{}.backward(on, {params.data(), {}}, x.template view<2>({rows, 78}), dy.template view<2>({rows, 78}),
                     dx.template view<2>({rows, 78}), {dparams.data(), {}});
    return {{"y", y.read(on)}, {"dx", dx.read(on)}, {"dparams", dparams.read(on)}};
  }
};

template <class T, ln::gate_form Form>
struct gate_layer {
  template <class Device>
  static outcomes<T> ask(std::int64_t rows) {
    using layer = ln::norm_gate<Form, 42, 3, T, Device>;
    ln::execution<Device> on;
    const std::array<std::int64_t, 2> extents{rows, 42};
    auto params = random_numbers<T, Device>(42, 1), o = random_numbers<T, Device>(rows * 42, 2),
         u = random_numbers<T, Device>(rows * 42, 3), dy = random_numbers<T, Device>(rows * 42, 4),
         y = unwritten<T, Device>(rows * 42), d_o = unwritten<T, Device>(rows * 42),
         du = unwritten<T, Device>(rows * 42), dparams = unwritten<T, Device>(42);
    layer{}.forward(on, {params.data(), {}}, o.template view<2>(extents), u.template view<2>(extents),
                    y.template view<2>(extents));
    layer{}.backward(on, {params.data(), {}}, o.template view<2>(extents), u.template view<2>(extents),
                     dy.template view<2>(extents), d_o.template view<2>(extents), du.template view<2>(extents),
                     {dparams.data(), {}});
    return {{"y", y.read(on)}, {"do", d_o.read(on)}, {"du", du.read(on)}, {"dparams", dparams.read(on)}};
  }
};

template <class T, class Recurrence>
struct logits_layer {
  template <class Device>
  static outcomes<T> ask(std::int64_t rows) {
    using layer = ln::logits_projection<Recurrence, 15, 5, 7, T, Device>;
    ln::execution<Device> on;
    typename ln::execution<Device>::scope scratch{on};
    auto params = random_numbers<T, Device>(layer::parameter_count, 1),
         product = random_numbers<T, Device>(rows * layer::rows, 2),
         dlogits = random_numbers<T, Device>(rows * layer::count, 3),
         dproduct = unwritten<T, Device>(rows * layer::rows), dparams = unwritten<T, Device>(layer::parameter_count),
         copied = unwritten<T, Device>(rows * layer::count);
    const auto logits =
        layer{}.forward(on, scratch, {params.data(), {}}, product.template view<2>({rows, layer::rows}));
    layer{}.backward(on, {params.data(), {}}, product.template view<2>({rows, layer::rows}),
                     dlogits.template view<2>({rows, layer::count}), dproduct.template view<2>({rows, layer::rows}),
                     {dparams.data(), {}});
    dparams.read(on);  // waits
    Device::copy(copied.data(), logits.data(), static_cast<std::size_t>(rows * layer::count) * sizeof(T));
    return {{"logits", copied.read(on)}, {"dproduct", dproduct.read(on)}, {"dparams", dparams.read(on)}};
  }
};

template <class T>
struct glu_layer {
  template <class Device>
  static outcomes<T> ask(std::int64_t rows) {
    using layer = ln::glu<19, 31, 1, T, Device>;
    ln::execution<Device> on;
    typename layer::template context<ln::train> context;
    auto params = random_numbers<T, Device>(layer::parameter_count, 1), x = random_numbers<T, Device>(rows * 19, 2),
         dy = random_numbers<T, Device>(rows * 19, 3), y = unwritten<T, Device>(rows * 19),
         dx = unwritten<T, Device>(rows * 19), dparams = unwritten<T, Device>(layer::parameter_count);
    layer{}.forward(on, {params.data(), {}}, x.template view<2>({rows, 19}), y.template view<2>({rows, 19}), context);
    layer{}.backward(on, {params.data(), {}}, x.template view<2>({rows, 19}), dy.template view<2>({rows, 19}),
                     dx.template view<2>({rows, 19}), {dparams.data(), {}}, context);
    return {{"y", y.read(on)}, {"dx", dx.read(on)}, {"dparams", dparams.read(on)}};
  }
};

template <class Layer, class T>
void check_layer(const std::string& name) {
  CAPTURE(name);
  const double tolerance = std::is_same_v<T, float> ? 1e-5 : 1e-12;
  for (const std::int64_t rows : {1, 7, 301}) {
    CAPTURE(rows);
    const auto got = Layer::template ask<cuda>(rows);
    numbers::check_close(got, Layer::template ask<cpu>(rows), tolerance);
    numbers::check_same_bits(Layer::template ask<cuda>(rows), got);
  }
  Layer::template ask<cuda>(0);
}

}  // namespace

TEST_CASE_TEMPLATE("layers with parameters on the GPU are the CPU's", T, float, double) {
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
