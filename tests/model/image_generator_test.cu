// SPDX-License-Identifier: Apache-2.0
// The image generator on the GPU: its formula and gradients, from calls and from a graph.
#include <lightnet/model/image_generator.hpp>

#include "generator_question.hpp"
#include "on_gpu.cuh"

namespace {

namespace ln = lightnet;
using ln::cuda;
using numbers::array;

struct pictures : ln::image_generator_options {
  static constexpr int width = 6, heads = 2, inner = 7, layers = 2, channels = 3, patch = 2, classes = 5, modes = 3,
                       time_features = 10;
};

// What goes to its calls: images with their time steps and classes, or what is like images.
class views {
 public:
  template <class Question>
  explicit views(const Question& q)
      : shape_{q.shape},
        times_{std::make_shared<array<std::int32_t, cuda>>(q.times)},
        labels_{std::make_shared<array<std::int32_t, cuda>>(q.labels)} {}

  ln::noisy_images<2, double, cuda> input(const double* data) const {
    return {{data, shape_}, {times_->data(), {{shape_[0]}}}, {labels_->data(), {{shape_[0]}}}};
  }
  ln::dynamic_view<4, double, cuda> input(double* data) const { return {data, shape_}; }
  template <class T>
  ln::dynamic_view<4, T, cuda> output(T* data) const {
    return {data, shape_};
  }

 private:
  std::array<std::int64_t, 4> shape_;
  std::shared_ptr<array<std::int32_t, cuda>> times_, labels_;
};

using question = check::on_gpu<check::generator_question<pictures, 2, cuda>, views>;

}  // namespace

TEST_CASE("the image generator on the GPU is its formula, with the gradients of finite differences") {
  question q(std::array<std::int64_t, 4>{3, 6, 10, 3});
  check::model(q, "image_generator", q.expected(), 4);
  check::graph(q);
  MESSAGE(oracle::gradient_report());
}
