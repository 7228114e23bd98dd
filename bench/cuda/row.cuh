// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/execution.hpp>
#include <lightnet/backend/random.hpp>
#include <lightnet/core/tensor.hpp>

#include <functional>
#include <string>

namespace bench {

namespace ln = lightnet;

/// An operation on the GPU, and the least that it has to move and to compute.
struct gpu_row {
  std::string name;
  double bytes;  // every input read once, every output written once
  double work;   // floating-point operations; of a recurrence 4 d' e a token and head, 10 d' e backward
  std::function<std::function<void(ln::execution<ln::cuda>&)>()> prepare;  // takes the memory, gives the call
};

/// Makes a row a benchmark of Google Benchmark: the median of calls, each behind a large copy, by the clock of the device.
/// Counters: of_limit (the least bytes at the rate of the copies over the time of the call), milliseconds, copy_TBps, and the
/// row's bytes and work.
void add(const gpu_row& row);

/// A tensor [extents] of standard normal numbers, on the device.
template <class T, class... Extent>
ln::tensor<ln::rank<static_cast<int>(sizeof...(Extent))>, T, ln::cuda> normal(std::uint64_t seed, Extent... extent) {
  ln::tensor<ln::rank<static_cast<int>(sizeof...(Extent))>, T, ln::cuda> made{{{extent...}}};
  ln::execution<ln::cuda> on;
  ln::fill_normal<T>(on, ln::random_stream{seed, 0}, 0, ln::dynamic_view<1, T, ln::cuda>{made.data(), {{made.size()}}});
  on.synchronize();
  return made;
}

void add_decoding_rows();
void add_limits();
void add_position_rows();
void add_recurrence_rows();

}  // namespace bench
