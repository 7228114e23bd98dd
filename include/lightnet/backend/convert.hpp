// SPDX-License-Identifier: Apache-2.0
#pragma once

// convert: sequences from one storage type to another.

#include <lightnet/core/config.hpp>

#include <lightnet/backend/cpu/convert.hpp>
#if defined(LIGHTNET_HAS_CUDA)
#include <lightnet/backend/cuda/convert.cuh>
#endif
