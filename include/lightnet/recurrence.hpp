// SPDX-License-Identifier: Apache-2.0
#pragma once

// The operators alone: recurrences, traversals, the encodings inside them, and scan.

#include <lightnet/recurrence/additive.hpp>
#include <lightnet/recurrence/constant_decay.hpp>
#include <lightnet/recurrence/convert_state.hpp>
#include <lightnet/recurrence/scan.hpp>
