// SPDX-License-Identifier: Apache-2.0
#pragma once

// pooling: the mean over tokens, and its gradient.

#include <lightnet/core/config.hpp>

#include <lightnet/backend/cpu/pooling.hpp>
#if defined(LIGHTNET_HAS_CUDA)
#include <lightnet/backend/cuda/pooling.cuh>
#endif
