// SPDX-License-Identifier: Apache-2.0
#pragma once

// The operators alone: recurrences, traversals, the encodings inside them, and scan.

#include <lightnet/recurrence/additive.hpp>
#include <lightnet/recurrence/additive_gated.hpp>
#include <lightnet/recurrence/additive_plain.hpp>
#include <lightnet/recurrence/constant_decay.hpp>
#include <lightnet/recurrence/convert_state.hpp>
#include <lightnet/recurrence/elementwise.hpp>
#include <lightnet/recurrence/elementwise_scan.hpp>
#include <lightnet/recurrence/merge_states.hpp>
#include <lightnet/recurrence/no_decay.hpp>
#include <lightnet/recurrence/scalar_decay.hpp>
#include <lightnet/recurrence/scan.hpp>
#include <lightnet/recurrence/scan_next.hpp>
#include <lightnet/recurrence/signed_decay.hpp>
#include <lightnet/recurrence/vector_decay.hpp>
