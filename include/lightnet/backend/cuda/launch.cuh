// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/execution.cuh>

#include <algorithm>
#include <limits>
#include <tuple>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Blocks and threads of a kernel, and the bytes of shared memory that it asks for.
struct launch_shape {
  std::int64_t blocks;
  int threads;
  std::size_t shared_bytes = 0;
};

/// Lets a kernel have so many bytes of shared memory.
inline void allow_shared_memory(const char* operation, const void* kernel, std::size_t bytes) {
  constexpr std::size_t without_asking = 48 * 1024;
  if (bytes <= without_asking) return;
  check_cuda(operation, "cudaFuncSetAttribute",
             cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)));
}

/// Puts a kernel on the stream; its blocks lie along x. Throws device_error, with the name of the operation, where it
/// cannot be launched. Of no blocks there is nothing to launch.
template <class... Parameter, class... Argument>
void launch(execution<cuda>& on, const char* operation, const launch_shape& shape, void (*kernel)(Parameter...),
            const Argument&... arguments) {
  if (shape.blocks <= 0) return;
  if (shape.blocks > std::numeric_limits<std::int32_t>::max()) {
    throw device_error(operation, "blocks", "at most 2147483647", std::to_string(shape.blocks));
  }
  allow_shared_memory(operation, reinterpret_cast<const void*>(kernel), shape.shared_bytes);
  kernel<<<static_cast<unsigned>(shape.blocks), static_cast<unsigned>(shape.threads), shape.shared_bytes,
           on.stream()>>>(arguments...);
  check_cuda(operation, "its kernel", cudaGetLastError());
}

/// The same with at most as many blocks as run at the same time, all of which do, so that they may wait for each other.
template <class... Parameter, class... Argument>
void launch_together(execution<cuda>& on, const char* operation, const launch_shape& shape,
                     void (*kernel)(Parameter...), const Argument&... arguments) {
  if (shape.blocks <= 0) return;
  const auto* const function = reinterpret_cast<const void*>(kernel);
  allow_shared_memory(operation, function, shape.shared_bytes);
  int of_processor = 0;
  check_cuda(operation, "cudaOccupancyMaxActiveBlocksPerMultiprocessor",
             cudaOccupancyMaxActiveBlocksPerMultiprocessor(&of_processor, function, shape.threads, shape.shared_bytes));
  const std::int64_t room = static_cast<std::int64_t>(of_processor) * on.processors();
  const auto blocks = static_cast<unsigned>(std::min(shape.blocks, room));
  std::tuple<Parameter...> parameters(arguments...);
  std::apply(
      [&](auto&... each) {
        void* addresses[] = {&each...};
        check_cuda(operation, "its kernel",
                   cudaLaunchCooperativeKernel(function, dim3(blocks), dim3(static_cast<unsigned>(shape.threads)),
                                               addresses, shape.shared_bytes, on.stream()));
      },
      parameters);
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
