// SPDX-License-Identifier: Apache-2.0
// The masked language model on the GPU: its formula and its gradients.
#include <lightnet/model/masked_language_model.hpp>

#include "language_on_gpu.cuh"

namespace {

namespace ln = lightnet;

struct letters : ln::masked_language_model_options {
  static constexpr int width = 6, heads = 1, inner = 7, layers = 2, vocabulary = 11, modes = 3;
};

}  // namespace

TEST_CASE("the masked language model on the GPU is its formula, with the gradients of finite differences") {
  check::language_question<ln::masked_language_model, letters> q;
  check::language_model(q, "masked_language_model");
  MESSAGE(oracle::gradient_report());
}
