// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/letter.hpp>
#include <lightnet/backend/cuda/execution.cuh>

#include <memory>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// In page-locked memory, so that the copy is a part of the stream, and of a graph.
template <class T>
class letter<T, cuda> {
 public:
  void resize(std::int64_t count) {
    if (count <= there_.extent(0)) return;
    T* grown = nullptr;
    check_cuda("letter", "cudaMallocHost", cudaMallocHost(&grown, static_cast<std::size_t>(count) * sizeof(T)));
    here_.reset(grown);
    there_.resize({{count}});
  }
  T* data() noexcept { return here_.get(); }
  const T* send(execution<cuda>& on, std::int64_t count) {
    check_cuda("letter", "cudaMemcpyAsync",
               cudaMemcpyAsync(there_.data(), here_.get(), static_cast<std::size_t>(count) * sizeof(T),
                               cudaMemcpyHostToDevice, on.stream()));
    return there_.data();
  }

 private:
  struct release {
    void operator()(T* memory) const noexcept { cudaFreeHost(memory); }
  };

  std::unique_ptr<T, release> here_;
  tensor<rank<1>, T, cuda> there_;
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
