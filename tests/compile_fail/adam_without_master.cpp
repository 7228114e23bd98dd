// expect: give step a lightnet::master_parameters
// SPDX-License-Identifier: Apache-2.0
// The copy of bfloat16 that belongs to these parameters would not follow them.
#include <lightnet/train/adam.hpp>

namespace ln = lightnet;

void misuse(ln::execution<ln::cpu>& on, ln::adam<ln::bfloat16>& optimiser, ln::parameter_block<float>& parameters,
            const ln::parameter_block<ln::bfloat16>& gradients) {
  optimiser.step(on, parameters, gradients);
}
