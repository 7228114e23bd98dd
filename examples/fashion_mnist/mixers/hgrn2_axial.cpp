// SPDX-License-Identifier: Apache-2.0
// The vector decay of HGRN2 (arXiv 2404.07904) without its lower bounds, along rows and columns: four scans.
#include "../training.hpp"
#include "common/mixers.hpp"

namespace fashion_mnist {

const mixer hgrn2_axial = mixer_with<examples::hgrn2_options<model_options, lightnet::axial>>(
    "hgrn2-axial", "HGRN2, axial", "vector decay (HGRN2), axial");

}  // namespace fashion_mnist
