// SPDX-License-Identifier: Apache-2.0
// Checkpoints of trainings on the GPU, whose steps are graphs.
#include <doctest/doctest.h>

#if __has_include(<nlohmann/json.hpp>)

#include <lightnet/backend/cuda/graph.cuh>

#include "train/later_process.hpp"

namespace ln = lightnet;

TEST_CASE("cuda checkpoint: ten updates, and ten in a new process, are twenty: float") {
  const ln::cuda_stream stream;
  ln::execution<ln::cuda> on{stream.get()};
  later::check<float>(on, "cuda checkpoint: ten updates*: float");
}

TEST_CASE("cuda checkpoint: ten updates, and ten in a new process, are twenty: bfloat16") {
  const ln::cuda_stream stream;
  ln::execution<ln::cuda> on{stream.get()};
  later::check<ln::bfloat16>(on, "cuda checkpoint: ten updates*: bfloat16");
}

#endif
