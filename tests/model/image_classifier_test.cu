// SPDX-License-Identifier: Apache-2.0
// The image classifier on the GPU: the CPU's, from a graph as well, and what it refuses.
#include <lightnet/model/image_classifier.hpp>

#include "device_model.cuh"

namespace {

namespace ln = lightnet;
using ln::cpu, ln::cuda;
using numbers::array, numbers::list;

struct pictures : ln::image_classifier_options {
  static constexpr int width = 14, heads = 2, inner = 11, layers = 2, channels = 2, patch = 2, classes = 5, modes = 3;
};

// images [B, s_1, s_2, channels]
template <class T>
struct image_question {
  using number = T;
  template <class Device>
  using layer = ln::image_classifier<pictures, 2, T, Device>;
  std::array<std::int64_t, 4> shape;

  std::int64_t inputs() const { return shape[0] * shape[1] * shape[2] * shape[3]; }
  std::int64_t outputs() const { return shape[0] * pictures::classes; }

  template <class Device, class Context>
  void forward(ln::execution<Device>& on, const ln::parameter_block<T, Device>& parameters, array<T, Device>& x,
               array<T, Device>& y, Context& context) const {
    layer<Device>{}.forward(on, parameters.for_layer(layer<Device>{}), x.template view<4>(shape),
                            y.template view<2>({shape[0], pictures::classes}), context);
  }
  template <class Device, class Context>
  void backward(ln::execution<Device>& on, const ln::parameter_block<T, Device>& parameters, array<T, Device>& x,
                array<T, Device>& dy, array<T, Device>& dx, array<T, Device>& dparameters, Context& context) const {
    layer<Device>{}.backward(on, parameters.for_layer(layer<Device>{}), x.template view<4>(shape),
                             dy.template view<2>({shape[0], pictures::classes}), dx.template view<4>(shape),
                             {dparameters.data(), {}}, context);
  }
};

}  // namespace

TEST_CASE("the image classifier on the GPU is the CPU's, from a graph as well") {
  check::model(image_question<double>{{3, 6, 10, 2}}, "double", 1e-11);
  check::model(image_question<double>{{1, 2, 2, 2}}, "one patch", 1e-11);
  check::model(image_question<float>{{5, 10, 6, 2}}, "float", 1e-4);
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
