// SPDX-License-Identifier: Apache-2.0
#pragma once

// What LightNet is compared with: the same network with another recurrence and traversal, and nothing else changed. Only the
// units that make models include this; how one of them is chosen is in chosen_mixer.hpp.

#include <lightnet/recurrence/constant_decay.hpp>
#include <lightnet/recurrence/vector_decay.hpp>
#include <lightnet/traversal/bidirectional.hpp>

namespace examples {

/// The constant decay with the rates of RetNet (arXiv 2307.08621).
struct retnet_decay : lightnet::constant_decay {
  LIGHTNET_HOST_DEVICE static double default_log_decay(std::int64_t h, std::int64_t heads) noexcept {
    return lightnet::constant_decay::retnet(h, heads);
  }
};

/// The options of a model with the decay of RetNet, which takes a scan for each direction.
template <class Options>
struct retnet_options : Options {
  using recurrence = retnet_decay;
  using traversal = lightnet::bidirectional;
};

/// The options of a model with the vector decay of HGRN2 (arXiv 2404.07904) without its lower bounds: bidirectional, a scan for
/// each direction, or axial, one for each direction of each axis.
template <class Options, class Traversal = lightnet::bidirectional>
struct hgrn2_options : Options {
  using recurrence = lightnet::hgrn2;
  using traversal = Traversal;
};

}  // namespace examples
