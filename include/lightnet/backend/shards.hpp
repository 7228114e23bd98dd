// SPDX-License-Identifier: Apache-2.0
#pragma once

// shards: the parts of a batch, each taken through a model by itself.

#include <lightnet/core/config.hpp>

#include <lightnet/backend/cpu/shards.hpp>
#if defined(LIGHTNET_HAS_CUDA)
#include <lightnet/backend/cuda/shards.cuh>
#endif
