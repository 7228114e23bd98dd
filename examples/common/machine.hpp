// SPDX-License-Identifier: Apache-2.0
#pragma once

// The device that the program is compiled for, at work.

#include <lightnet/backend/execution.hpp>
#include <lightnet/core/half.hpp>
#include <string>
#if defined(LIGHTNET_HAS_CUDA)
#include <lightnet/backend/cuda/graph.cuh>
#endif

namespace examples {

#if defined(LIGHTNET_HAS_CUDA)
using device = lightnet::cuda;
using number = lightnet::bfloat16;  // that the larger networks compute in: mixed precision

/// The current GPU, with a stream of its own, so that a step of training can be a graph.
class machine {
 public:
  /// A GPU has as many threads as it has.
  explicit machine(int /*threads*/) : on{stream_.get()} { on.allow_tf32 = true; }

  [[nodiscard]] std::string name() const {
    cudaDeviceProp properties{};
    lightnet::detail::check_cuda("machine", "cudaGetDeviceProperties",
                                 cudaGetDeviceProperties(&properties, on.device()));
    return properties.name;
  }

 private:
  lightnet::cuda_stream stream_;

 public:
  lightnet::execution<device> on;
};
#else
using device = lightnet::cpu;
using number = float;  // that the larger networks compute in

/// The CPU, with 0 or so many threads.
struct machine {
  explicit machine(int threads) : on{threads} {}

  [[nodiscard]] std::string name() const {
    return std::to_string(on.threads()) + (on.threads() == 1 ? " thread" : " threads");
  }

  lightnet::execution<device> on;
};
#endif

}  // namespace examples
