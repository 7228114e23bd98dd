// SPDX-License-Identifier: Apache-2.0
// What every model has to do on the GPU: the numbers of the CPU, the same bits twice, in train and infer, and from a graph.
#pragma once

#include <lightnet/core/modes.hpp>
#include <lightnet/core/parameters.hpp>
#include <lightnet/core/sequence.hpp>

#include "../layer/device_numbers.cuh"

namespace check {

namespace ln = lightnet;
using ln::cpu, ln::cuda;
using numbers::array, numbers::list, numbers::outcomes;

// Numbers of a size at which every part of a model matters, the same on both devices.
template <class Layer, class T, class Device>
ln::parameter_block<T, Device> random_parameters(const Layer& layer) {
  auto all = ln::parameter_block<T, Device>::of(layer);
  std::uint64_t seed = 10;
  for (const ln::parameter& part : all.index()) {
    const bool norm = part.name.ends_with("norm.weight");
    const bool gamma = part.name.ends_with("gamma"), theta = part.name.ends_with("theta");
    const double scale = theta ? 0.2 : gamma ? 1 : 0.4, shift = norm ? 1 : gamma ? -2 : theta ? 0.7 : 0;
    const list<T> values = numbers::cast<T>(numbers::normal(part.size(), ++seed, scale, shift));
    Device::copy(all.view().data() + part.offset, values.data(), values.size() * sizeof(T));
  }
  return all;
}

// A model with its memory on a device. A question says what goes in and what comes out:
//   forward(on, parameters, x, y, context), backward(on, parameters, x, dy, dx, dparameters, context), inputs(), outputs()
template <class Question, class Device>
struct asked {
  using T = typename Question::number;
  using layer = typename Question::template layer<Device>;

  const Question& q;
  ln::parameter_block<T, Device> parameters = random_parameters<layer, T, Device>(layer{});
  typename layer::template context<ln::train> context;
  typename layer::template context<ln::infer> nothing;
  array<T, Device> x{numbers::cast<T>(numbers::normal(q.inputs(), 1))},
      dy{numbers::cast<T>(numbers::normal(q.outputs(), 2))}, y{numbers::unwritten<T>(q.outputs())},
      y_infer{numbers::unwritten<T>(q.outputs())}, dx{numbers::unwritten<T>(q.inputs())},
      dparameters{numbers::unwritten<T>(layer::parameter_count)};

  void run(ln::execution<Device>& on) {
    q.forward(on, std::as_const(parameters), x, y_infer, nothing);
    q.forward(on, std::as_const(parameters), x, y, context);
    q.backward(on, std::as_const(parameters), x, dy, dx, dparameters, context);
  }
  outcomes<T> read(ln::execution<Device>& on) {
    return {{"y", y.read(on)},
            {"y of infer", y_infer.read(on)},
            {"dx", dx.read(on)},
            {"dparameters", dparameters.read(on)}};
  }
  void forget(ln::execution<Device>& on) {
    on.synchronize();
    y = array<T, Device>{numbers::unwritten<T>(q.outputs())};
    y_infer = array<T, Device>{numbers::unwritten<T>(q.outputs())};
    dx = array<T, Device>{numbers::unwritten<T>(q.inputs())};
    dparameters = array<T, Device>{numbers::unwritten<T>(layer::parameter_count)};
  }
};

inline void succeeded(cudaError_t status) { REQUIRE(std::string{cudaGetErrorName(status)} == "cudaSuccess"); }

// Checks one model on one question.
template <class Question>
void model(const Question& q, const std::string& name, double tolerance) {
  CAPTURE(name);
  using T = typename Question::number;
  outcomes<T> expected;
  {
    ln::execution<cpu> on;
    asked<Question, cpu> there{q};
    there.run(on);
    expected = there.read(on);
  }
  cudaStream_t stream = nullptr;
  succeeded(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  {
    ln::execution<cuda> on{stream};
    asked<Question, cuda> there{q};
    there.run(on);
    const outcomes<T> got = there.read(on);
    numbers::check_close(got, expected, tolerance);
    CHECK(numbers::same_bits(got[0].values, got[1].values));
    there.forget(on);
    there.run(on);
    numbers::check_same_bits(there.read(on), got);
    CHECK_NOTHROW(on.check());

    there.forget(on);
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t replay = nullptr;
    succeeded(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    there.run(on);
    succeeded(cudaStreamEndCapture(stream, &graph));
    succeeded(cudaGraphInstantiate(&replay, graph, 0));
    on.synchronize();
    CHECK(std::isnan(there.y.read(on)[0]));  // a capture runs nothing
    for (int round = 0; round < 2; ++round) succeeded(cudaGraphLaunch(replay, stream));
    numbers::check_same_bits(there.read(on), got);
    succeeded(cudaGraphExecDestroy(replay));
    succeeded(cudaGraphDestroy(graph));
  }
  succeeded(cudaStreamDestroy(stream));
}

// A layer from tokens to tokens, [B, N, width]; every fifth token may be masked.
template <template <class> class Layer, int Dims, class T>
struct tokens_question {
  using number = T;
  template <class Device>
  using layer = typename Layer<Device>::type;

  ln::grid<Dims> where;
  std::int64_t batch;
  bool masked;
  ln::tensor<ln::rank<2>, bool, cpu> on_cpu = mask<cpu>();
  ln::tensor<ln::rank<2>, bool, cuda> on_cuda = mask<cuda>();

  static constexpr std::int64_t width = layer<cpu>::width;
  std::int64_t inputs() const { return batch * where.size() * width; }
  std::int64_t outputs() const { return inputs(); }

  template <class Device, class Context>
  void forward(ln::execution<Device>& on, const ln::parameter_block<T, Device>& parameters, array<T, Device>& x,
               array<T, Device>& y, Context& context) const {
    layer<Device>{}.forward(on, parameters.for_layer(layer<Device>{}), tokens(x), tokens(y), context);
  }
  template <class Device, class Context>
  void backward(ln::execution<Device>& on, const ln::parameter_block<T, Device>& parameters, array<T, Device>& x,
                array<T, Device>& dy, array<T, Device>& dx, array<T, Device>& dparameters, Context& context) const {
    layer<Device>{}.backward(on, parameters.for_layer(layer<Device>{}), tokens(x), tokens(dy), tokens(dx),
                             {dparameters.data(), {}}, context);
  }

 private:
  template <class Device>
  ln::tensor<ln::rank<2>, bool, Device> mask() const {
    return numbers::mask_of<Device>(batch, where.size(), [](std::int64_t i) { return i % 5 != 2; });
  }
  template <class Device>
  ln::sequence<Dims, T, Device> tokens(array<T, Device>& values) const {
    ln::dynamic_view<2, const bool, Device> keep;
    if constexpr (std::is_same_v<Device, cpu>) {
      if (masked) keep = on_cpu.view();
    } else {
      if (masked) keep = on_cuda.view();
    }
    return {values.template view<3>({batch, where.size(), width}), where, keep};
  }
};

}  // namespace check
