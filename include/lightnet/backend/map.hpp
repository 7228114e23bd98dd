// SPDX-License-Identifier: Apache-2.0
#pragma once

// map: element-wise functors over dense arrays.

#include <lightnet/core/config.hpp>

#include <lightnet/backend/cpu/map.hpp>
#if defined(LIGHTNET_HAS_CUDA)
#include <lightnet/backend/cuda/map.cuh>
#endif
