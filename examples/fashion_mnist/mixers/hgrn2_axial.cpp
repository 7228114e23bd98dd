// SPDX-License-Identifier: Apache-2.0
// The vector decay of HGRN2 (arXiv 2404.07904) without its lower bounds, along rows and columns: four scans.
#include <lightnet/recurrence/vector_decay.hpp>

#include "../training.hpp"

namespace fashion_mnist {

namespace {

struct hgrn2_axial_options : model_options {
  using recurrence = lightnet::hgrn2;
  using traversal = lightnet::axial;
};

}  // namespace

const mixer hgrn2_axial = mixer_with<hgrn2_axial_options>("hgrn2-axial", "HGRN2, axial", "vector decay (HGRN2), axial");

}  // namespace fashion_mnist
