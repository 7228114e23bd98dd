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
  /// One shard at a time.
  static std::int64_t workers(const execution<cuda>&) noexcept { return 1; }
  static std::int64_t at_a_time(const execution<cuda>&) noexcept { return 1; }

  /// Calls `body(execution, shard, 0)` for every shard of [0, count).
  template <class Body>
  void run(execution<cuda>& on, std::int64_t count, const Body& body) {
    for (std::int64_t shard = 0; shard < count; ++shard) body(on, shard, 0);
  }
};

template <class T>
struct sum_of_parts {
  T* parts;
  std::int64_t count, size;
  T* to;
  __device__ void operator()(std::int64_t j) const noexcept {
    for (std::int64_t step = 1; step < count; step *= 2) {
      for (std::int64_t i = 0; i + step < count; i += 2 * step) parts[i * size + j] += parts[(i + step) * size + j];
    }
    if (to != parts) to[j] = parts[j];
  }
};

/// to = the sum of `count` blocks of `size` numbers at `parts`, pairwise; the parts are used up, and `to` may be the first.
template <class T>
void sum_parts(execution<cuda>& on, T* parts, std::int64_t count, std::int64_t size, T* to) {
  for_each(on, "sum_parts", size, sum_of_parts<T>{parts, count, size, to});
}

template <class T>
struct sum_in_float {
  const T* parts;
  std::int64_t count, size;
  bool goes_on;
  accumulator<T>* total;
  T* to;
  __device__ void operator()(std::int64_t j) const noexcept {
    accumulator<T> sum = goes_on ? total[j] : accumulator<T>(0);
    for (std::int64_t i = 0; i < count; ++i) sum += parts[i * size + j];
    total[j] = sum;
    if (to) to[j] = static_cast<T>(sum);
  }
};

/// total = the sum of `count` blocks of `size` numbers at `parts`, one after the other, or where it goes on, more of it; to,
/// where given, takes it rounded. For types of two bytes, whose sums have to be in float.
template <class T>
void add_parts(execution<cuda>& on, const T* parts, std::int64_t count, std::int64_t size, bool goes_on,
               accumulator<T>* total, T* to) {
  for_each(on, "add_parts", size, sum_in_float<T>{parts, count, size, goes_on, total, to});
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
