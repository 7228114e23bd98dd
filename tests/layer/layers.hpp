// SPDX-License-Identifier: Apache-2.0
// The layers with parameters, asked on either device and in any type.
#pragma once

#include <lightnet/layer/gate.hpp>
#include <lightnet/layer/logits_projection.hpp>
#include <lightnet/model/glu.hpp>
#include <lightnet/recurrence/scalar_decay.hpp>
#include <lightnet/recurrence/signed_decay.hpp>
#include <lightnet/recurrence/vector_decay.hpp>

#include "device_numbers.cuh"

namespace layers {

namespace ln = lightnet;
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
      written[i] = T(0.0F);
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

}  // namespace layers
