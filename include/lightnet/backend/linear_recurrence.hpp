// SPDX-License-Identifier: Apache-2.0
#pragma once

// linear_recurrence: a recurrence with a matrix state, forward, backward and step; linear_reduction for `global`.

#include <lightnet/core/config.hpp>

#include <lightnet/backend/cpu/linear_recurrence.hpp>
#include <lightnet/backend/cpu/linear_recurrence_backward.hpp>
#include <lightnet/backend/cpu/linear_reduction.hpp>
#include <lightnet/backend/cpu/linear_step.hpp>
#include <lightnet/backend/cpu/signed_recurrence_backward.hpp>
#if defined(LIGHTNET_HAS_CUDA)
#include <lightnet/backend/cuda/linear_recurrence.cuh>
#include <lightnet/backend/cuda/linear_recurrence_backward.cuh>
#include <lightnet/backend/cuda/linear_reduction.cuh>
#include <lightnet/backend/cuda/linear_step.cuh>
#include <lightnet/backend/cuda/signed_recurrence_backward.cuh>
#endif
