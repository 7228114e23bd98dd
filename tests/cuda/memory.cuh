// SPDX-License-Identifier: Apache-2.0
// What the tests of large tensors ask of the GPU's memory.
#pragma once

#include <lightnet/backend/execution.hpp>

#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>
#include <vector>

namespace memory {

namespace ln = lightnet;

// Whether so many bytes are free; where not, the test says that it is skipped.
inline bool is_free(std::int64_t bytes) {
  std::size_t free = 0, total = 0;
  REQUIRE(cudaMemGetInfo(&free, &total) == cudaSuccess);
  constexpr std::int64_t spare = std::int64_t{1} << 30, gib = std::int64_t{1} << 30;
  if (static_cast<std::int64_t>(free) >= bytes + spare) return true;
  MESSAGE("skipped: needs ", (bytes + spare) / gib, " GiB of the GPU's memory; ", free / gib, " GiB are free");
  return false;
}

// Whether `count` elements have the same bits, and are not all the same.
template <class T>
bool same(const ln::execution<ln::cuda>& on, const T* a, const T* b, std::int64_t count) {
  on.synchronize();
  std::vector<unsigned char> left(static_cast<std::size_t>(count) * sizeof(T)), right(left);
  ln::cuda::copy(left.data(), a, left.size());
  ln::cuda::copy(right.data(), b, right.size());
  return left == right && std::memcmp(left.data(), left.data() + sizeof(T), left.size() - sizeof(T)) != 0;
}

}  // namespace memory
