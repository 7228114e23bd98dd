// SPDX-License-Identifier: Apache-2.0
#include "cases.hpp"

#define LIGHTNET_CASE(recurrence, traversal, position, dims) make<recurrence, traversal, position, dims, double>()

std::vector<cases::operation> cases::global_double() { return {LIGHTNET_CASES_GLOBAL(LIGHTNET_CASE)}; }
