// SPDX-License-Identifier: Apache-2.0
#pragma once

// gather: the rows of a table that ids name, and the sums that go back to them.

#include <lightnet/core/config.hpp>

#include <lightnet/backend/cpu/gather.hpp>
#if defined(LIGHTNET_HAS_CUDA)
#include <lightnet/backend/cuda/gather.cuh>
#endif
