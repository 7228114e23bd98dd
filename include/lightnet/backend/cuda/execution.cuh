// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/gemm_plans.cuh>
#include <lightnet/backend/cuda/status.cuh>
#include <lightnet/core/execution.hpp>
#include <lightnet/core/tensor.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

LIGHTNET_BEGIN_NAMESPACE

/// An NVIDIA GPU: the memory of the device that is current where it is allocated. These functions wait for what they
/// do, though not for other streams (execution::synchronize); no operation calls them once its workspace is sized.
struct cuda {
  static constexpr std::size_t alignment = 256;

  static void* allocate(std::size_t bytes) {
    void* memory = nullptr;
    detail::check_cuda("cuda::allocate", "cudaMalloc", cudaMalloc(&memory, bytes > 0 ? bytes : 1));
    return memory;
  }
  static void deallocate(void* memory) noexcept { cudaFree(memory); }
  /// Between any two of host and devices.
  static void copy(void* to, const void* from, std::size_t bytes) {
    detail::check_cuda("cuda::copy", "cudaMemcpy", cudaMemcpy(to, from, bytes, cudaMemcpyDefault));
    detail::check_cuda("cuda::copy", "cudaStreamSynchronize", cudaStreamSynchronize(nullptr));
  }
  static void clear(void* memory, std::size_t bytes) {
    if (bytes == 0) return;
    detail::check_cuda("cuda::clear", "cudaMemset", cudaMemset(memory, 0, bytes));
    detail::check_cuda("cuda::clear", "cudaStreamSynchronize", cudaStreamSynchronize(nullptr));
  }
  /// Whether a kernel of the current device may read and write there.
  static bool reaches(const void* memory) noexcept {
    cudaPointerAttributes attributes{};
    if (cudaPointerGetAttributes(&attributes, memory) != cudaSuccess) {
      cudaGetLastError();
      return false;
    }
    if (attributes.type == cudaMemoryTypeDevice) {
      int current = -1;
      return cudaGetDevice(&current) == cudaSuccess && attributes.device == current;
    }
    return attributes.devicePointer != nullptr && attributes.type != cudaMemoryTypeUnregistered;
  }
  /// The current device of this thread; a new thread's is the first.
  static int current() {
    int device = 0;
    detail::check_cuda("cuda::current", "cudaGetDevice", cudaGetDevice(&device));
    return device;
  }
  static void make_current(int device) {
    detail::check_cuda("cuda::make_current", "cudaSetDevice", cudaSetDevice(device));
  }
};

/// The same numbers in memory of another device.
template <class To, class Shape, class T, class From>
tensor<Shape, T, To> transfer(const tensor<Shape, T, From>& from) {
  Shape shape{from.extents()};
  tensor<Shape, T, To> to{shape};
  if (from.size() > 0) cuda::copy(to.data(), from.data(), static_cast<std::size_t>(from.size()) * sizeof(T));
  return to;
}

/// A stream of a device, and scratch memory for the calls that are put on it. Calls return before their work is done;
/// nothing waits but `synchronize` and `check`. One execution serves one call at a time.
template <>
class execution<cuda> {
 public:
  /// On a stream that somebody else owns, of the current device; null is the device's default stream.
  explicit execution(cudaStream_t stream = nullptr) : stream_{stream} {
    device_ = cuda::current();
    detail::check_cuda("execution", "cudaDeviceGetAttribute",
                       cudaDeviceGetAttribute(&processors_, cudaDevAttrMultiProcessorCount, device_));
    detail::check_cuda("execution", "cudaDeviceGetAttribute",
                       cudaDeviceGetAttribute(&shared_bytes_, cudaDevAttrMaxSharedMemoryPerBlockOptin, device_));
    int major = 0, minor = 0;
    detail::check_cuda("execution", "cudaDeviceGetAttribute",
                       cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device_));
    detail::check_cuda("execution", "cudaDeviceGetAttribute",
                       cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device_));
    capability_ = 10 * major + minor;
    bad_content_ = static_cast<unsigned*>(cuda::allocate(sizeof(unsigned)));
    cuda::clear(bad_content_, sizeof(unsigned));
  }
  execution(const execution&) = delete;
  execution& operator=(const execution&) = delete;
  ~execution() {
    for (const block& each : blocks_) cuda::deallocate(each.memory);
    cuda::deallocate(bad_content_);
  }

  cudaStream_t stream() const noexcept { return stream_; }
  int device() const noexcept { return device_; }
  int processors() const noexcept { return processors_; }
  /// The most bytes of shared memory that a block may have.
  std::size_t shared_bytes() const noexcept { return static_cast<std::size_t>(shared_bytes_); }

  /// Waits for all that was put on the stream. Throws device_error where some of it failed.
  void synchronize() const {
    detail::check_cuda("execution::synchronize", "cudaStreamSynchronize", cudaStreamSynchronize(stream_));
  }

  /// Waits, and throws value_error where an operation met contents that it does not accept: a label that is no class,
  /// which counts as one to ignore; an id that is no token, which reads as zeros; a log decay of a head above zero, which
  /// gives NaN; cumulative lengths that fall, which count as the largest so far.
  void check() {
    unsigned found = 0;
    detail::check_cuda("execution::check", "cudaMemcpyAsync",
                       cudaMemcpyAsync(&found, bad_content_, sizeof found, cudaMemcpyDeviceToHost, stream_));
    synchronize();
    if (found == 0) return;
    cuda::clear(bad_content_, sizeof(unsigned));
    throw value_error("execution::check", "contents in device memory", "labels, decays and lengths in their range",
                      "some that are not");
  }

  /// Where kernels say that they met such contents.
  unsigned* bad_content() const noexcept { return bad_content_; }

  /// A part of the workspace, given back when the scope ends. Scopes nest. Once the outermost scope has seen the
  /// largest call, no call allocates.
  class scope {
   public:
    explicit scope(execution& owner) noexcept : owner_{owner}, block_{owner.block_}, used_{owner.used_} {
      ++owner.depth_;
    }
    scope(const scope&) = delete;
    scope& operator=(const scope&) = delete;
    ~scope() {
      owner_.block_ = block_;
      owner_.used_ = used_;
      if (--owner_.depth_ == 0) owner_.join_blocks();
    }

    /// `count` elements, aligned to 256 bytes, of any content.
    template <class T>
    T* take(std::int64_t count) {
      return static_cast<T*>(owner_.take(static_cast<std::size_t>(count) * sizeof(T)));
    }

   private:
    execution& owner_;
    std::size_t block_, used_;
  };

  /// A promise for calls in its lifetime: neither they, nor what was put on the stream before and may still run beside their
  /// first kernel, write what a product of one row takes as its second factor. Its kernel then reads that before those ahead of
  /// it have ended. A copy of memory on the stream runs beside no kernel that comes after it.
  class constant_weights {
   public:
    explicit constant_weights(execution& owner) noexcept : owner_{owner}, before_{owner.weights_are_constant_} {
      owner_.weights_are_constant_ = true;
    }
    constant_weights(const constant_weights&) = delete;
    constant_weights& operator=(const constant_weights&) = delete;
    ~constant_weights() { owner_.weights_are_constant_ = before_; }

   private:
    execution& owner_;
    bool before_;
  };
  bool weights_are_constant() const noexcept { return weights_are_constant_; }

  /// Changes whenever memory of the workspace comes or goes: what was captured before reaches for memory that is gone.
  std::int64_t workspace_version() const noexcept { return workspace_version_; }

  /// The library of matrix products, opened by the first that asks.
  cublasLtHandle_t blas() { return plans_.blas(); }
  /// How its products are done.
  detail::gemm_plans& plans() noexcept { return plans_; }

  /// Whether products of float may round what they multiply to tf32 (11 bits): some eight times the speed, a thousandth
  /// of the precision.
  bool allow_tf32 = false;

  /// Whether recurrences of bfloat16 may take the kernels of Hopper's own instructions; without it they take those of the
  /// GPUs before it, on any.
  bool allow_hopper = true;

  /// Whether they do: on such a GPU, compiled for 90a.
  bool takes_hopper() const noexcept { return allow_hopper && is_hopper(); }

  /// Whether kernels that are written for it begin before those ahead of them have ended.
  bool launches_ahead() const noexcept { return is_hopper(); }

 private:
  bool is_hopper() const noexcept {
#if defined(LIGHTNET_SM90A)
    return capability_ == 90;
#else
    return false;
#endif
  }

  struct block {
    std::byte* memory;
    std::size_t size;
  };

  void* take(std::size_t bytes) {
    const std::size_t rounded = (bytes + cuda::alignment - 1) / cuda::alignment * cuda::alignment;
    while (block_ < blocks_.size() && blocks_[block_].size - used_ < rounded) {
      ++block_;
      used_ = 0;
    }
    if (block_ == blocks_.size()) {
      const std::size_t size = rounded < smallest_block ? smallest_block : rounded;
      blocks_.push_back({static_cast<std::byte*>(cuda::allocate(size)), size});
      ++workspace_version_;
    }
    void* const memory = blocks_[block_].memory + used_;
    used_ += rounded;
    return memory;
  }

  // Several blocks mean that the last call outgrew the first: the next one finds a single block that holds it all.
  // Without memory for that, the blocks stay apart, and it is tried again when there are more.
  void join_blocks() noexcept {
    if (blocks_.size() < 2 || blocks_.size() == apart_) return;
    std::size_t total = 0;
    for (const block& each : blocks_) total += each.size;
    void* joined = nullptr;
    if (cudaMalloc(&joined, total) != cudaSuccess) {
      cudaGetLastError();
      apart_ = blocks_.size();
      return;
    }
    for (const block& each : blocks_) cuda::deallocate(each.memory);  // which waits for the work that uses them
    blocks_.resize(1);
    apart_ = 0;
    blocks_[0] = {static_cast<std::byte*>(joined), total};
    ++workspace_version_;
  }

  static constexpr std::size_t smallest_block = std::size_t{1} << 20;

  cudaStream_t stream_;
  int device_ = 0, processors_ = 1, shared_bytes_ = 0, capability_ = 0;
  unsigned* bad_content_ = nullptr;
  detail::gemm_plans plans_;
  std::vector<block> blocks_;
  std::size_t block_ = 0, used_ = 0, apart_ = 0;  // apart: how many blocks there was no memory to join
  int depth_ = 0;
  std::int64_t workspace_version_ = 0;
  bool weights_are_constant_ = false;
};

LIGHTNET_END_NAMESPACE
