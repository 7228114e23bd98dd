// SPDX-License-Identifier: Apache-2.0
#pragma once

// letter: numbers that the host writes and a call reads.

#include <lightnet/core/config.hpp>

#include <lightnet/backend/cpu/letter.hpp>
#if defined(LIGHTNET_HAS_CUDA)
#include <lightnet/backend/cuda/letter.cuh>
#endif
