// SPDX-License-Identifier: Apache-2.0
// The vector decay of HGRN2 (arXiv 2404.07904) without its lower bounds, which takes a scan for each direction.
#include "../training.hpp"
#include "common/mixers.hpp"

namespace generate_images {

const mixer hgrn2 = mixer_with<examples::hgrn2_options<model_options>>("hgrn2", "HGRN2");

}  // namespace generate_images
