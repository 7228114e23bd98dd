// SPDX-License-Identifier: Apache-2.0
#pragma once

// A backend is a device tag (allocate, deallocate, copy, clear, reaches, current, make_current), an execution, and one
// file for each primitive, with these names and the same signatures in every backend; backend/<name>.hpp includes those of all backends there are:
//   map                element-wise functors over dense arrays
//   gemm               matrix products
//   reduce             sums in a fixed order
//   scan               sums along a line of tokens, with decays that do not change (MD-TPE)
//   linear_recurrence  a recurrence with a matrix state: forward, backward, step; linear_reduction for `global`
//   elementwise_recurrence  one with a vector state: forward, backward
//   random             fills from the counter-based generator of core/random.hpp
//   cross_entropy      the loss and its gradient, row by row
//   adam               one update over a flat block
//   shards             the parts of a batch, each taken through a model by itself
//   angles             the cosines and sines of MD-LRPE
//   encode             MD-LRPE of whole sequences
//   convert            sequences from one storage type to another
//   pooling            the mean over tokens
//   for_each           bodies for the rows of a matrix, or for items that threads share: patches, merging states
//   repeated_calls     work that comes again and again, such as the steps of a training
//   letter             numbers that the host writes and a call reads
// A further backend is one more folder beside cpu/ and cuda/.

#include <lightnet/backend/cpu/execution.hpp>
#if defined(LIGHTNET_HAS_CUDA)
#include <lightnet/backend/cuda/launch.cuh>
#endif
