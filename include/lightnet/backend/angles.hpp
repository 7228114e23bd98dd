// SPDX-License-Identifier: Apache-2.0
#pragma once

// angles: the cosines and sines of MD-LRPE.

#include <lightnet/core/config.hpp>

#include <lightnet/backend/cpu/angles.hpp>
#if defined(LIGHTNET_HAS_CUDA)
#include <lightnet/backend/cuda/angles.cuh>
#endif
