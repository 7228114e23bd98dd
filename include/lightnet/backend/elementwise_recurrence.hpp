// SPDX-License-Identifier: Apache-2.0
#pragma once

// elementwise_recurrence: h_t = a_t h_{t-1} + x_t of every channel, forward and backward, and the merging of its states.

#include <lightnet/backend/elementwise_operands.hpp>

#include <lightnet/backend/cpu/elementwise_recurrence.hpp>
#if defined(LIGHTNET_HAS_CUDA)
#include <lightnet/backend/cuda/elementwise_recurrence.cuh>
#endif
