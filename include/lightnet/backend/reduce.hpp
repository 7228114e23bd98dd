// SPDX-License-Identifier: Apache-2.0
#pragma once

// reduce: sums in a fixed order.

#include <lightnet/core/config.hpp>

#include <lightnet/backend/cpu/reduce.hpp>
#if defined(LIGHTNET_HAS_CUDA)
#include <lightnet/backend/cuda/reduce.cuh>
#endif
