// SPDX-License-Identifier: Apache-2.0
// The segmenter of volumes on the GPU: its formula and gradients, from calls and from a graph.
#include <lightnet/model/segmenter.hpp>

#include "on_gpu.cuh"
#include "segmenter_question.hpp"

namespace {

namespace ln = lightnet;
using ln::cuda;

struct volumes : ln::segmenter_options {
  static constexpr int width = 6, heads = 1, inner = 7, layers = 2, channels = 1, patch = 2, classes = 3, modes = 3;
};

// What goes to its calls: volumes [B, z, y, x, C] and logits.
class views {
 public:
  template <class Question>
  explicit views(const Question& q) : shape_{q.shape}, logits_{q.logits} {}
  template <class T>
  ln::dynamic_view<5, T, cuda> input(T* data) const {
    return {data, shape_};
  }
  template <class T>
  ln::dynamic_view<5, T, cuda> output(T* data) const {
    return {data, logits_};
  }

 private:
  std::array<std::int64_t, 5> shape_, logits_;
};

template <class Options>
using question = check::on_gpu<check::segmenter_question<Options, 3, cuda>, views>;
using extents = std::array<std::int64_t, 5>;

}  // namespace

TEST_CASE("the segmenter on the GPU is its formula, with the gradients of finite differences") {
  question<volumes> q(extents{3, 4, 2, 6, 1});
  check::model(q, "segmenter 3-D", q.expected(), 4);
  check::graph(q);
  MESSAGE(oracle::gradient_report());
}
