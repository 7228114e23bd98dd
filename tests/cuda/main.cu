// SPDX-License-Identifier: Apache-2.0
// The main function of every test program that needs a GPU.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cuda_runtime_api.h>

#include <cstdio>

int main(int count, char** arguments) {
  constexpr int skipped = 77;
  doctest::Context context(count, arguments);
  int devices = 0;
  if (!context.shouldExit() && (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0)) {
    std::puts("skipped: no GPU here");
    return skipped;
  }
  return context.run();
}
