// SPDX-License-Identifier: Apache-2.0
#pragma once

// random: fills from the counter-based generator of core/random.hpp.

#include <lightnet/core/config.hpp>

#include <lightnet/backend/cpu/random.hpp>
#if defined(LIGHTNET_HAS_CUDA)
#include <lightnet/backend/cuda/random.cuh>
#endif
