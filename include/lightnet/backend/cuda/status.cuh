// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/error.hpp>

#include <cuda_runtime_api.h>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Throws device_error, with the name of the operation, where a call of the CUDA runtime failed.
inline void check_cuda(const char* operation, const char* call, cudaError_t status) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // what is not sticky is reported once
  throw device_error(operation, call, "success",
                     std::string{cudaGetErrorName(status)} + " (" + cudaGetErrorString(status) + ")");
}

/// Makes a device the current one of this thread as long as it lives.
class current_device {
 public:
  explicit current_device(int device) {
    check_cuda("current_device", "cudaGetDevice", cudaGetDevice(&before_));
    if (device != before_) check_cuda("current_device", "cudaSetDevice", cudaSetDevice(device));
    changed_ = device != before_;
  }
  current_device(const current_device&) = delete;
  current_device& operator=(const current_device&) = delete;
  ~current_device() {
    if (changed_) cudaSetDevice(before_);
  }

 private:
  int before_ = 0;
  bool changed_ = false;
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
