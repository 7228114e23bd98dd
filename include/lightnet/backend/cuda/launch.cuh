// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/execution.cuh>

#include <algorithm>
#include <limits>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Blocks and threads of a kernel, and the bytes of shared memory that it asks for.
struct launch_shape {
  std::int64_t blocks;
  int threads;
  std::size_t shared_bytes = 0;
};

/// Puts a kernel on the stream; its blocks lie along x. Throws device_error, with the name of the operation, where it
/// cannot be launched. Of no blocks there is nothing to launch.
template <class... Parameter, class... Argument>
void launch(execution<cuda>& on, const char* operation, const launch_shape& shape, void (*kernel)(Parameter...),
            const Argument&... arguments) {
  if (shape.blocks <= 0) return;
  constexpr std::size_t shared_without_asking = 48 * 1024;
  if (shape.blocks > std::numeric_limits<std::int32_t>::max()) {
    throw device_error(operation, "blocks", "at most 2147483647", std::to_string(shape.blocks));
  }
  if (shape.shared_bytes > shared_without_asking) {
    check_cuda(operation, "cudaFuncSetAttribute",
               cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    static_cast<int>(shape.shared_bytes)));
  }
  kernel<<<static_cast<unsigned>(shape.blocks), static_cast<unsigned>(shape.threads), shape.shared_bytes,
           on.stream()>>>(arguments...);
  check_cuda(operation, "its kernel", cudaGetLastError());
}

template <class Body>
__global__ void __launch_bounds__(256) for_each_kernel(std::int64_t count, Body body) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) body(i);
}

/// Calls `body(i)` for every i of [0, count), a thread each. A body is a named type with a device operator().
template <class Body>
void for_each(execution<cuda>& on, const char* operation, std::int64_t count, const Body& body) {
  constexpr int threads = 256;
  const std::int64_t most = static_cast<std::int64_t>(on.processors()) * 32;
  launch(on, operation, {std::min((count + threads - 1) / threads, most), threads}, for_each_kernel<Body>, count, body);
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
