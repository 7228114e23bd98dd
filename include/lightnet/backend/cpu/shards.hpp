// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/convert.hpp>

#include <algorithm>
#include <bit>
#include <exception>
#include <vector>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Takes the parts of a batch through a model, a thread a part: what one part needs stays in a cache, and threads meet
/// at the end of a part only, not at the end of every operation.
template <class Device>
class shard_runner;

template <>
class shard_runner<cpu> {
 public:
  /// How many shards are at work at a time, at most.
  static std::int64_t workers(const execution<cpu>& on) noexcept { return on.threads(); }
  /// Of how many shards, a power of two, a call should be where there are many: threads wait for each other at its end.
  static std::int64_t at_a_time(const execution<cpu>& on) noexcept {
    return static_cast<std::int64_t>(std::bit_ceil(4 * static_cast<std::uint64_t>(on.threads())));
  }

  /// Calls `body(execution, shard, worker)` for every shard of [0, count), each with one thread of its own, its worker. What
  /// a body throws is thrown again when all are done, that of the first shard before the others.
  template <class Body>
  void run(const execution<cpu>& on, std::int64_t count, const Body& body) {
    while (executions_.size() < static_cast<std::size_t>(on.threads())) executions_.emplace_back(1);
    std::vector<std::exception_ptr> thrown(static_cast<std::size_t>(count));
    parallel_for(on, count, [&](std::int64_t shard, int thread) {
      try {
        body(executions_[static_cast<std::size_t>(thread)], shard, thread);
      } catch (...) {
        thrown[static_cast<std::size_t>(shard)] = std::current_exception();
      }
    });
    for (const std::exception_ptr& each : thrown) {
      if (each) std::rethrow_exception(each);
    }
  }

 private:
  std::vector<execution<cpu>> executions_;
};

/// to = the sum of `count` blocks of `size` numbers at `parts`, pairwise; the parts are used up, and `to` may be the first.
template <class T>
void sum_parts(execution<cpu>& on, T* parts, std::int64_t count, std::int64_t size, T* to) {
  constexpr std::int64_t block = 8192;
  parallel_for(on, block_range::blocks(block, size), [&](std::int64_t index, int) {
    const block_range range{index, block, size};
    for (std::int64_t step = 1; step < count; step *= 2) {
      for (std::int64_t i = 0; i + step < count; i += 2 * step) {
        T* const left = parts + i * size;
        const T* const right = parts + (i + step) * size;
        for (std::int64_t j = range.first; j < range.last; ++j) left[j] += right[j];
      }
    }
    if (to != parts) std::copy(parts + range.first, parts + range.last, to + range.first);
  });
}

/// total = the sum of `count` blocks of `size` numbers at `parts`, one after the other, or where it goes on, more of it; to,
/// where given, takes it rounded. For types of two bytes, whose sums have to be in float.
template <class T>
void add_parts(execution<cpu>& on, const T* parts, std::int64_t count, std::int64_t size, bool goes_on,
               accumulator<T>* total, T* to) {
  constexpr std::int64_t block = 8192;
  parallel_for(on, block_range::blocks(block, size), [&](std::int64_t index, int) {
    const block_range range{index, block, size};
    accumulator<T>* const sum = total + range.first;
    const std::int64_t numbers = range.last - range.first;
    if (!goes_on) std::fill_n(sum, numbers, accumulator<T>(0));
    for (std::int64_t i = 0; i < count; ++i) {
      const T* const part = parts + i * size + range.first;
      for (std::int64_t j = 0; j < numbers; ++j) sum[j] += part[j];
    }
    if (to) convert(sum, to + range.first, numbers);
  });
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
