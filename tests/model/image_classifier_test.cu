// SPDX-License-Identifier: Apache-2.0
// The image classifier on the GPU: its formula, its first parameters, and what it refuses.
#include <lightnet/model/image_classifier.hpp>

#include "image_question.hpp"
#include "on_gpu.cuh"

namespace {

namespace ln = lightnet;
using ln::cpu, ln::cuda;
using numbers::array, numbers::list;

struct pictures : ln::image_classifier_options {
  static constexpr int width = 6, heads = 2, inner = 7, layers = 2, channels = 2, patch = 2, classes = 5, modes = 3;
};

using question = check::on_gpu<check::image_question<pictures, 2, cuda>, check::image_views<2, pictures::classes>>;
using extents = std::array<std::int64_t, 4>;

// Logits and gradients in a type, from the same numbers.
template <class T>
numbers::outcomes<double> answers(const question& q) {
  using layer = ln::image_classifier<pictures, 2, T, cuda>;
  ln::execution<cuda> on;
  typename layer::template context<ln::train> context;
  const array<T, cuda> parameters(numbers::cast<T>(q.parameter_list())), images(numbers::cast<T>(q.x)),
      dy(numbers::cast<T>(numbers::normal(q.outputs(), 2)));
  array<T, cuda> y(numbers::unwritten<T>(q.outputs())), dx(numbers::cast<T>(q.x)),
      dparameters(numbers::cast<T>(q.parameter_list()));
  layer{}.forward(on, {parameters.data(), {}}, {images.data(), q.shape}, {y.data(), {{q.shape[0], pictures::classes}}},
                  context);
  layer{}.backward(on, {parameters.data(), {}}, {images.data(), q.shape},
                   {dy.data(), {{q.shape[0], pictures::classes}}}, {dx.data(), q.shape}, {dparameters.data(), {}},
                   context);
  return {{"y", numbers::cast<double>(y.read(on))},
          {"dx", numbers::cast<double>(dx.read(on))},
          {"dparameters", numbers::cast<double>(dparameters.read(on))}};
}

}  // namespace

TEST_CASE("the image classifier on the GPU is its formula, with the gradients of finite differences") {
  question several(extents{3, 6, 10, 2});
  check::model(several, "image_classifier 2-D", several.expected(), 4);
  check::graph(several);
  question one(extents{1, 2, 2, 2});
  // One token is its own mean: neither its key nor the decays of its position matter.
  check::model(one, "image_classifier of one patch", one.expected(), 4, 1e-3);
  MESSAGE(oracle::gradient_report());
}

TEST_CASE("the image classifier on the GPU gives in float what it gives in double") {
  const question q(extents{7, 10, 6, 2});
  numbers::check_close(answers<float>(q), answers<double>(q), 1e-4);
}

TEST_CASE("parameters start with the same bits on both devices") {
  using layer = ln::image_classifier<pictures, 2, float, cuda>;
  auto there = ln::parameter_block<float, cuda>::of(layer{});
  auto here = ln::parameter_block<float, cpu>::of(ln::image_classifier<pictures, 2, float, cpu>{});
  there.initialise(7);
  here.initialise(7);
  list<float> got(static_cast<std::size_t>(there.size()));
  cuda::copy(got.data(), there.view().data(), got.size() * sizeof(float));
  CHECK(numbers::same_bits(got, list<float>(here.view().data(), here.view().data() + here.size())));
}

TEST_CASE("the image classifier on the GPU names images in host memory and writes nothing") {
  using layer = ln::image_classifier<pictures, 2, float, cuda>;
  ln::execution<cuda> on;
  layer::context<ln::infer> context;
  const auto parameters = ln::parameter_block<float, cuda>::of(layer{});
  const list<float> images(3 * 6 * 10 * 2);
  array<float, cuda> logits(numbers::unwritten<float>(3 * 5));
  CHECK(numbers::message_of<ln::device_error>([&] {
          layer{}.forward(on, parameters.for_layer(layer{}), {images.data(), {{3, 6, 10, 2}}}, logits.view<2>({3, 5}),
                          context);
        }) ==
        "lightnet: image_classifier::forward: images: expected memory of the device that works on it, got memory of "
        "another place");
  for (const float a : logits.read(on)) CHECK(std::isnan(a));
}
