// SPDX-License-Identifier: Apache-2.0
// The image classifier for images of three dimensions: nothing is special about two.
#include <lightnet/model/image_classifier.hpp>

#include "image_question.hpp"

namespace {

namespace ln = lightnet;

struct volumes : ln::image_classifier_options {
  static constexpr int width = 6, heads = 1, inner = 7, layers = 1, channels = 1, patch = 2, classes = 5, modes = 3;
  static constexpr ln::gate_form gate = ln::gate_form::gate_then_norm;
};

}  // namespace

TEST_CASE("the classifier of volumes is its formula, with the gradients of finite differences") {
  check::image_question<volumes, 3> q({2, 4, 2, 6, 1});
  check::model(q, "image_classifier 3-D", q.expected(), 8);
  MESSAGE(oracle::gradient_report());
}
