// SPDX-License-Identifier: Apache-2.0
#include "limits/rates.hpp"
#include "limits/stopwatch.hpp"

#include <benchmark/benchmark.h>
#include <lightnet/backend/execution.hpp>
#include <lightnet/core/tensor.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace bench {

double read_rate(int threads, double bytes) {
  constexpr double least = 128 << 20, most = 1 << 30;
  const auto part = static_cast<std::int64_t>(std::clamp(bytes, least, most) / 8) / threads;
  static lightnet::tensor<lightnet::rank<1>, std::uint64_t> from;  // in large pages, as the library's own memory is
  if (from.extent(0) < part * threads) from.resize({{part * threads}});
  const std::uint64_t* const all = from.data();
  const double taken = seconds([&] {
#if defined(_OPENMP)
#pragma omp parallel for num_threads(threads) schedule(static, 1)
#endif
    for (int thread = 0; thread < threads; ++thread) {
      const std::uint64_t* const mine = all + part * thread;
      std::uint64_t mixed = 0;
      for (std::int64_t i = 0; i < part; ++i) mixed ^= mine[i];
      benchmark::DoNotOptimize(mixed);
    }
  });
  return 8 * static_cast<double>(part) * threads / taken;
}

}  // namespace bench
