// SPDX-License-Identifier: Apache-2.0
#include "cases.hpp"

#define LIGHTNET_CASE(recurrence, traversal, position, dims) make<recurrence, traversal, position, dims, float>()

std::vector<cases::operation> cases::decay_float() { return {LIGHTNET_CASES_DECAY(LIGHTNET_CASE)}; }
