// SPDX-License-Identifier: Apache-2.0
// LightNet: its recurrence commutes, so one scan shows every token all tokens.
#include "../training.hpp"

namespace generate_images {

const mixer additive = mixer_with<model_options>("additive", "LightNet");

}  // namespace generate_images
