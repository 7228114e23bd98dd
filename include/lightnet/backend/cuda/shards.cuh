// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/shards.hpp>
#include <lightnet/backend/cuda/launch.cuh>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// One part of a batch after the other, each on the whole device: a part should be large enough to fill it.
template <>
class shard_runner<cuda> {
 public:
  /// Calls `body(execution, shard)` for every shard of [0, count).
  template <class Body>
  void run(execution<cuda>& on, std::int64_t count, const Body& body) {
    for (std::int64_t shard = 0; shard < count; ++shard) body(on, shard);
  }
};

template <class T>
struct sum_of_parts {
  T* parts;
  std::int64_t count, size;
  T* to;
  __device__ void operator()(std::int64_t j) const noexcept {
    if constexpr (std::is_same_v<T, accumulator<T>>) {
      for (std::int64_t step = 1; step < count; step *= 2) {
        for (std::int64_t i = 0; i + step < count; i += 2 * step) parts[i * size + j] += parts[(i + step) * size + j];
      }
      to[j] = parts[j];
    } else {
      accumulator<T> sum(0);
      for (std::int64_t i = 0; i < count; ++i) sum += parts[i * size + j];
      to[j] = static_cast<T>(sum);
    }
  }
};

/// to = the sum of `count` blocks of `size` numbers at `parts`, pairwise; the parts are used up. Types of two bytes are
/// added in float, one after the other, and rounded once.
template <class T>
void sum_parts(execution<cuda>& on, T* parts, std::int64_t count, std::int64_t size, T* to) {
  for_each(on, "sum_parts", size, sum_of_parts<T>{parts, count, size, to});
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
