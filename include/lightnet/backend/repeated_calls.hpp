// SPDX-License-Identifier: Apache-2.0
#pragma once

// repeated_calls: work that comes again and again, the same each time but for what memory holds.

#include <lightnet/core/config.hpp>

#include <lightnet/backend/cpu/repeated_calls.hpp>
#if defined(LIGHTNET_HAS_CUDA)
#include <lightnet/backend/cuda/repeated_calls.cuh>
#endif
