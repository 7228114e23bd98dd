// SPDX-License-Identifier: Apache-2.0
#pragma once

// for_each: calls a body for the rows of a matrix, or for items that several threads may share.

#include <lightnet/core/config.hpp>

#include <lightnet/backend/cpu/for_each.hpp>
#if defined(LIGHTNET_HAS_CUDA)
#include <lightnet/backend/cuda/for_each.cuh>
#endif
