// SPDX-License-Identifier: Apache-2.0
#pragma once

// scan: sums along a line of tokens, with decays that do not change (MD-TPE).

#include <lightnet/backend/modes.hpp>

#include <lightnet/backend/cpu/scan.hpp>
#if defined(LIGHTNET_HAS_CUDA)
#include <lightnet/backend/cuda/scan.cuh>
#endif
