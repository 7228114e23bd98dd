// SPDX-License-Identifier: Apache-2.0
#include <lightnet/backend/execution.hpp>

#include <cuda_runtime_api.h>

#include <cstdio>

#if __cplusplus < 202002L
#error "the target lightnet::cuda does not ask for C++20"
#endif
#if !defined(LIGHTNET_SM90A)
#error "the target lightnet::cuda does not say LIGHTNET_SM90A, and this is compiled for 90a"
#endif

namespace ln = lightnet;

struct twice {
  int* x;
  __device__ void operator()(std::int64_t i) const { x[i] *= 2; }
};

int threads();

int main() {
  if (threads() < 1) return 1;
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::puts("compiled and linked; no GPU here to run on");
    return 0;
  }
  ln::tensor<ln::rank<1>, int> x{{{5}}};
  for (int i = 0; i < 5; ++i) x.data()[i] = i;
  auto there = ln::transfer<ln::cuda>(x);
  ln::execution<ln::cuda> on;
  ln::detail::for_each(on, "consumer", 5, twice{there.data()});
  on.synchronize();
  const auto back = ln::transfer<ln::cpu>(there);
  return back.data()[4] == 8 ? 0 : 1;
}
