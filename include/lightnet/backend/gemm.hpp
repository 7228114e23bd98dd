// SPDX-License-Identifier: Apache-2.0
#pragma once

// gemm: matrix products.

#include <lightnet/core/config.hpp>

#include <lightnet/backend/cpu/gemm.hpp>
#if defined(LIGHTNET_HAS_CUDA)
#include <lightnet/backend/cuda/gemm.cuh>
#endif
