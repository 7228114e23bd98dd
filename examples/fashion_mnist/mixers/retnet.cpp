// SPDX-License-Identifier: Apache-2.0
// A constant decay with the rates of RetNet (arXiv 2307.08621), which takes a scan for each direction.
#include <lightnet/recurrence/constant_decay.hpp>

#include "../training.hpp"

namespace fashion_mnist {

namespace {

struct retnet_decay : lightnet::constant_decay {
  LIGHTNET_HOST_DEVICE static double default_log_decay(std::int64_t h, std::int64_t heads) noexcept {
    return lightnet::constant_decay::retnet(h, heads);
  }
};

struct retnet_options : model_options {
  using recurrence = retnet_decay;
  using traversal = lightnet::bidirectional;
};

}  // namespace

const mixer retnet = mixer_with<retnet_options>("retnet", "RetNet", "constant decay (RetNet), bidirectional");

}  // namespace fashion_mnist
