// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/execution.cuh>

#include <algorithm>
#include <limits>
#include <tuple>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Blocks and threads of a kernel, the bytes of shared memory that it asks for, and, for launch_ahead, how many blocks that lie
/// side by side run at the same time, as a cluster.
struct launch_shape {
  std::int64_t blocks;
  int threads;
  std::size_t shared_bytes = 0;
  unsigned cluster = 1;
};

/// Lets a kernel have so many bytes of shared memory.
inline void allow_shared_memory(const char* operation, const void* kernel, std::size_t bytes) {
  constexpr std::size_t without_asking = 48 * 1024;
  if (bytes <= without_asking) return;
  check_cuda(operation, "cudaFuncSetAttribute",
             cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)));
}

/// Whether there is anything to launch; then the kernel may have its shared memory.
inline bool prepare_launch(const char* operation, const void* kernel, const launch_shape& shape) {
  if (shape.blocks <= 0) return false;
  if (shape.blocks > std::numeric_limits<std::int32_t>::max()) {
    throw device_error(operation, "blocks", "at most 2147483647", std::to_string(shape.blocks));
  }
  allow_shared_memory(operation, kernel, shape.shared_bytes);
  return true;
}

/// Puts a kernel on the stream; its blocks lie along x. Throws device_error, with the name of the operation, where it
/// cannot be launched. Of no blocks there is nothing to launch.
template <class... Parameter, class... Argument>
void launch(execution<cuda>& on, const char* operation, const launch_shape& shape, void (*kernel)(Parameter...),
            const Argument&... arguments) {
  if (!prepare_launch(operation, reinterpret_cast<const void*>(kernel), shape)) return;
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

// A kernel that is launched ahead begins while those before it still run, where processors have room, so that neither its
// launch nor what it does before it waits takes time of its own. Every thread of it calls wait_for_earlier_kernels() before it
// reads or writes anything that another kernel writes or reads, and before it ends: so a kernel that has ended tells that all
// before it have. To ask a cache for memory is neither reading nor writing.

/// Lets the next kernel begin, once all blocks have said so, where that one is launched ahead.
__device__ inline void let_next_kernel_begin() noexcept {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/// Waits until all kernels before this one have ended, and their memory is to be seen.
__device__ inline void wait_for_earlier_kernels() noexcept {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/// What a kernel that is launched ahead begins with where it has nothing to prepare.
__device__ inline void take_turn() noexcept {
  let_next_kernel_begin();
  wait_for_earlier_kernels();
}

/// Tells the other blocks of a cluster that this thread has come so far; for those that wait, all before it is to be seen.
__device__ inline void arrive_at_cluster() noexcept {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
#endif
}
/// Waits until all threads of the cluster have arrived, or ended.
__device__ inline void wait_for_cluster() noexcept {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}

/// Asks the L2 cache for so many bytes, and waits for nothing. Address and bytes are multiples of 16.
__device__ inline void prefetch(const void* memory, std::uint32_t bytes) noexcept {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(__cvta_generic_to_global(memory)), "r"(bytes)
               : "memory");
#endif
}

/// launch() for a kernel that does what the above says; an ordinary launch on GPUs that know no other.
template <class... Parameter, class... Argument>
void launch_ahead(execution<cuda>& on, const char* operation, const launch_shape& shape, void (*kernel)(Parameter...),
                  const Argument&... arguments) {
  if (!on.launches_ahead()) return launch(on, operation, shape, kernel, arguments...);
  if (!prepare_launch(operation, reinterpret_cast<const void*>(kernel), shape)) return;
  cudaLaunchAttribute attributes[2]{};
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim = {shape.cluster, 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(shape.blocks));
  config.blockDim = dim3(static_cast<unsigned>(shape.threads));
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = on.stream();
  config.attrs = attributes;
  config.numAttrs = shape.cluster > 1 ? 2 : 1;
  check_cuda(operation, "its kernel", cudaLaunchKernelEx(&config, kernel, arguments...));
}

template <class Body>
__global__ void __launch_bounds__(256) for_each_kernel(std::int64_t count, Body body) {
  take_turn();
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) body(i);
}

/// Calls `body(i)` for every i of [0, count), a thread each. A body is a named type with a device operator().
template <class Body>
void for_each(execution<cuda>& on, const char* operation, std::int64_t count, const Body& body) {
  constexpr int threads = 256;
  const std::int64_t most = static_cast<std::int64_t>(on.processors()) * 32;
  launch_ahead(on, operation, {std::min((count + threads - 1) / threads, most), threads}, for_each_kernel<Body>, count,
               body);
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
