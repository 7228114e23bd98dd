// SPDX-License-Identifier: Apache-2.0
// A question to a model whose layer is on the GPU: the checks of check.hpp, and that a graph replays the same bits.
#pragma once

#include "../layer/device_numbers.cuh"
#include "check.hpp"

namespace check {

using ln::cuda;
using numbers::array;

// What goes to the calls of a layer from tokens to tokens.
template <int Dims>
class token_views {
 public:
  template <class Question>
  explicit token_views(const Question& q)
      : where_{q.where},
        batch_{q.batch},
        width_{Question::width},
        mask_{numbers::mask_of<cuda>(q.keep ? q.batch : 0, q.where.size(),
                                     [&](std::int64_t i) { return q.keep[static_cast<std::size_t>(i)]; })} {}

  template <class T>
  ln::sequence<Dims, T, cuda> input(T* data) const {
    ln::dynamic_view<2, const bool, cuda> keep;
    if (mask_.size() > 0) keep = mask_.view();
    return {{data, {{batch_, where_.size(), width_}}}, where_, keep};
  }
  template <class T>
  ln::sequence<Dims, T, cuda> output(T* data) const {
    return input(data);
  }

 private:
  ln::grid<Dims> where_;
  std::int64_t batch_, width_;
  ln::tensor<ln::rank<2>, bool, cuda> mask_;
};

// And of the image classifier.
template <int Dims, int Classes>
class image_views {
 public:
  template <class Question>
  explicit image_views(const Question& q) : shape_{q.shape} {}
  template <class T>
  ln::dynamic_view<Dims + 2, T, cuda> input(T* data) const {
    return {data, shape_};
  }
  template <class T>
  ln::dynamic_view<2, T, cuda> output(T* data) const {
    return {data, {{shape_[0], Classes}}};
  }

 private:
  std::array<std::int64_t, static_cast<std::size_t>(Dims + 2)> shape_;
};

// The question of the CPU, whose calls go to the GPU. Its executions are the CPU's, for check.hpp makes them.
template <class Question, class Views>
struct on_gpu : Question {
  using layer_type = typename Question::layer_type;
  template <class Mode>
  using context = typename layer_type::template context<Mode>;

  template <class... Argument>
  explicit on_gpu(const Argument&... arguments) : Question(arguments...), views{static_cast<const Question&>(*this)} {}

  std::shared_ptr<ln::execution<cuda>> gpu = std::make_shared<ln::execution<cuda>>();
  Views views;

  list<double> parameter_list() const {
    const auto all = this->parameters.view();
    return {all.data(), all.data() + all.size()};
  }

  template <class Mode>
  void forward(ln::execution<ln::cpu>&, list<double>& y, context<Mode>& kept) const {
    const array<double, cuda> weights(parameter_list()), from(this->x);
    array<double, cuda> to(y);
    layer_type{}.forward(*gpu, {weights.data(), {}}, views.input(from.data()), views.output(to.data()), kept);
    y = to.read(*gpu);
  }
  template <ln::write Write>
  void backward(ln::execution<ln::cpu>&, const list<double>& dy, list<double>& dx, list<double>& dparameters,
                const context<ln::train>& kept) const {
    const array<double, cuda> weights(parameter_list()), from(this->x), incoming(dy);
    array<double, cuda> to(dx), d(dparameters);
    layer_type{}.template backward<Write>(*gpu, {weights.data(), {}}, views.input(from.data()),
                                          views.output(incoming.data()), views.input(to.data()), {d.data(), {}}, kept);
    dx = to.read(*gpu);
    dparameters = d.read(*gpu);
  }
};

inline void succeeded(cudaError_t status) { REQUIRE(std::string{cudaGetErrorName(status)} == "cudaSuccess"); }

// A forward and a backward call from a graph: the bits of the calls themselves, each time.
template <class Question>
void graph(const Question& q) {
  using layer = typename Question::layer_type;
  const list<double> dy = numbers::normal(q.outputs(), 2);
  const auto inputs = static_cast<std::int64_t>(q.x.size());
  const list<double> expected = forward<ln::train>(q);
  const gradients d = backward(q, dy, numbers::unwritten(inputs));

  cudaStream_t stream = nullptr;
  succeeded(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  {
    ln::execution<cuda> on{stream};
    typename Question::template context<ln::train> context;
    const array<double, cuda> parameters(q.parameter_list()), x(q.x), incoming(dy);
    array<double, cuda> y(expected), dx(q.x), dparameters(q.parameter_list());
    const auto step = [&] {
      layer{}.forward(on, {parameters.data(), {}}, q.views.input(x.data()), q.views.output(y.data()), context);
      layer{}.backward(on, {parameters.data(), {}}, q.views.input(x.data()), q.views.output(incoming.data()),
                       q.views.input(dx.data()), {dparameters.data(), {}}, context);
    };
    step();
    step();  // here the workspace becomes one block
    on.synchronize();
    y.write(numbers::unwritten(q.outputs()));
    dx.write(numbers::unwritten(inputs));
    dparameters.write(numbers::unwritten(layer::parameter_count));
    cudaGraph_t captured = nullptr;
    cudaGraphExec_t replay = nullptr;
    succeeded(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    step();
    succeeded(cudaStreamEndCapture(stream, &captured));
    succeeded(cudaGraphInstantiate(&replay, captured, 0));
    CHECK(std::isnan(y.read(on)[0]));  // a capture runs nothing
    for (int round = 0; round < 3; ++round) {
      succeeded(cudaGraphLaunch(replay, stream));
      CHECK(numbers::same_bits(y.read(on), expected));
      CHECK(numbers::same_bits(dx.read(on), d.x));
      CHECK(numbers::same_bits(dparameters.read(on), d.parameters));
      y.write(numbers::unwritten(q.outputs()));
      dx.write(numbers::unwritten(inputs));
      dparameters.write(numbers::unwritten(layer::parameter_count));
    }
    CHECK_NOTHROW(on.check());
    succeeded(cudaGraphExecDestroy(replay));
    succeeded(cudaGraphDestroy(captured));
  }
  succeeded(cudaStreamDestroy(stream));
}

template <class Layer, int Dims>
using tokens_on_gpu = on_gpu<tokens_question<Layer, Dims>, token_views<Dims>>;

}  // namespace check
