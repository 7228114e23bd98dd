// expect: use lightnet::bfloat16
// SPDX-License-Identifier: Apache-2.0
// Gradients of float16 underflow where nothing scales the loss.
#include <lightnet/model/image_classifier.hpp>
#include <lightnet/train/trainer.hpp>

namespace ln = lightnet;

using model = ln::image_classifier<ln::image_classifier_options, 2, ln::float16>;

ln::trainer<model, ln::float16> misuse(const ln::trainer_options& options) { return {model{}, options}; }
