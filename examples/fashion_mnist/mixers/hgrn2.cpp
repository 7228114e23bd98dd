// SPDX-License-Identifier: Apache-2.0
// The vector decay of HGRN2 (arXiv 2404.07904) without its lower bounds, which takes a scan for each direction.
#include <lightnet/recurrence/vector_decay.hpp>

#include "../training.hpp"

namespace fashion_mnist {

namespace {

struct hgrn2_options : model_options {
  using recurrence = lightnet::hgrn2;
  using traversal = lightnet::bidirectional;
};

}  // namespace

const mixer hgrn2 = mixer_with<hgrn2_options>("hgrn2", "HGRN2", "vector decay (HGRN2), bidirectional");

}  // namespace fashion_mnist
