// SPDX-License-Identifier: Apache-2.0
#include "limits/rates.hpp"
#include "limits/stopwatch.hpp"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <vector>

namespace bench {

double copy_rate(int threads, double bytes) {
  constexpr double least = 32 << 20, most = 128 << 20;
  static std::vector<std::byte> from(static_cast<std::size_t>(most / 2), std::byte{1}), to(from);
  const auto part = static_cast<std::size_t>(std::clamp(bytes, least, most) / 2 / threads);
  const double taken = seconds([&] {
#if defined(_OPENMP)
#pragma omp parallel for num_threads(threads) schedule(static, 1)
#endif
    for (int thread = 0; thread < threads; ++thread) {
      const std::size_t first = part * static_cast<std::size_t>(thread);
      std::memcpy(to.data() + first, from.data() + first, part);
      benchmark::ClobberMemory();
    }
  });
  return 2 * static_cast<double>(part) * threads / taken;
}

}  // namespace bench
