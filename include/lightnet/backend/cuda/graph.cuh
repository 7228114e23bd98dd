// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/execution.cuh>

#include <utility>

LIGHTNET_BEGIN_NAMESPACE

/// A stream of the current device that waits for no other. What runs on it may be captured as a graph.
class cuda_stream {
 public:
  cuda_stream() {
    detail::check_cuda("cuda_stream", "cudaStreamCreateWithFlags",
                       cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
  }
  cuda_stream(const cuda_stream&) = delete;
  cuda_stream& operator=(const cuda_stream&) = delete;
  ~cuda_stream() { cudaStreamDestroy(stream_); }

  cudaStream_t get() const noexcept { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

/// Calls of an execution as a CUDA graph: the same kernels with the same arguments on the same memory, put on the stream
/// by one launch. What is to change from time to time lives in the memory of the device.
class captured_call {
 public:
  captured_call() noexcept = default;
  captured_call(captured_call&& other) noexcept { swap(other); }
  captured_call& operator=(captured_call&& other) noexcept {
    swap(other);
    return *this;
  }
  ~captured_call() { forget(); }

  /// Whether the execution's stream can be captured: any but the default one.
  static bool possible(const execution<cuda>& on) noexcept {
    return on.stream() != nullptr && on.stream() != cudaStreamLegacy;
  }

  /// Captures what `call()` puts on the execution's stream, and does none of it. The same call has been made before, so
  /// that nothing is left to allocate. Throws what the call throws, and device_error for the default stream, or where
  /// the call did what a graph cannot do; then nothing is captured.
  template <class Call>
  void capture(execution<cuda>& on, const Call& call) {
    forget();
    if (!possible(on)) throw device_error("captured_call", "stream", "one that is not the default stream", "that one");
    const std::int64_t version = on.workspace_version();
    detail::check_cuda("captured_call", "cudaStreamBeginCapture",
                       cudaStreamBeginCapture(on.stream(), cudaStreamCaptureModeThreadLocal));
    recording recorded{on.stream()};
    call();
    const cudaGraph_t graph = recorded.end();
    if (on.workspace_version() != version) {
      throw device_error("captured_call", "workspace", "memory from a call that was made before", "new memory");
    }
    detail::check_cuda("captured_call", "cudaGraphInstantiate", cudaGraphInstantiate(&ready_, graph, 0));
    owner_ = &on;
    version_ = version;
  }

  /// Whether this is a call of that execution, and all the memory that it uses is still there.
  bool fits(const execution<cuda>& on) const noexcept {
    return ready_ != nullptr && owner_ == &on && version_ == on.workspace_version();
  }

  /// Puts the call on the stream again. Throws device_error where it does not fit.
  void replay(execution<cuda>& on) const {
    if (!fits(on)) throw device_error("captured_call", "execution", "the one captured, with its workspace", "another");
    detail::check_cuda("captured_call", "cudaGraphLaunch", cudaGraphLaunch(ready_, on.stream()));
  }

 private:
  /// A capture under way, which ends whatever happens.
  class recording {
   public:
    explicit recording(cudaStream_t stream) noexcept : stream_{stream} {}
    recording(const recording&) = delete;
    recording& operator=(const recording&) = delete;
    ~recording() {
      if (!ended_ && cudaStreamEndCapture(stream_, &graph_) != cudaSuccess) cudaGetLastError();
      if (graph_) cudaGraphDestroy(graph_);
    }
    cudaGraph_t end() {
      ended_ = true;
      detail::check_cuda("captured_call", "cudaStreamEndCapture", cudaStreamEndCapture(stream_, &graph_));
      return graph_;
    }

   private:
    cudaStream_t stream_;
    cudaGraph_t graph_ = nullptr;
    bool ended_ = false;
  };

  void forget() noexcept {
    if (ready_) cudaGraphExecDestroy(ready_);  // after what it does at present
    ready_ = nullptr;
  }

  void swap(captured_call& other) noexcept {
    std::swap(ready_, other.ready_);
    std::swap(owner_, other.owner_);
    std::swap(version_, other.version_);
  }

  cudaGraphExec_t ready_ = nullptr;
  const execution<cuda>* owner_ = nullptr;
  std::int64_t version_ = 0;
};

LIGHTNET_END_NAMESPACE
