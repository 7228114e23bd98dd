// SPDX-License-Identifier: Apache-2.0
// A constant decay with the rates of RetNet (arXiv 2307.08621), which takes a scan for each direction.
#include "../training.hpp"
#include "common/mixers.hpp"

namespace generate_images {

const mixer retnet = mixer_with<examples::retnet_options<model_options>>("retnet", "RetNet");

}  // namespace generate_images
