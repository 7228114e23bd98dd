// SPDX-License-Identifier: Apache-2.0
#pragma once

// encode: MD-LRPE of whole sequences, from the cosines and sines of their angles.

#include <lightnet/core/config.hpp>

#include <lightnet/backend/cpu/encode.hpp>
#if defined(LIGHTNET_HAS_CUDA)
#include <lightnet/backend/cuda/encode.cuh>
#endif
