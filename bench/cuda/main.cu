// SPDX-License-Identifier: Apache-2.0

// The benchmarks of the CUDA backend: each row against the copy rate of the same run.

#include "cuda/row.cuh"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdlib>
#include <utility>
#include <vector>

namespace bench {
namespace {

/// The time between two moments of a stream, by the clock of the device.
class stopwatch {
 public:
  stopwatch() {
    cudaEventCreate(&begin_);
    cudaEventCreate(&end_);
  }
  stopwatch(const stopwatch&) = delete;
  stopwatch& operator=(const stopwatch&) = delete;
  ~stopwatch() {
    cudaEventDestroy(begin_);
    cudaEventDestroy(end_);
  }

  /// The seconds that a call takes.
  template <class Call>
  double time(cudaStream_t stream, const Call& call) {
    cudaEventRecord(begin_, stream);
    call();
    cudaEventRecord(end_, stream);
    ln::detail::check_cuda("bench", "cudaEventSynchronize", cudaEventSynchronize(end_));
    float milliseconds = 0;
    cudaEventElapsedTime(&milliseconds, begin_, end_);
    return static_cast<double>(milliseconds) / 1000;
  }

 private:
  cudaEvent_t begin_{}, end_{};
};

double median(std::vector<double> all) {
  std::sort(all.begin(), all.end());
  return all[all.size() / 2];
}

void run(benchmark::State& state, const gpu_row& row) {
  ln::execution<ln::cuda> on;
  on.allow_hopper = std::getenv("LIGHTNET_BENCH_HOPPER") != nullptr;
  const auto call = row.prepare();
  // Read and written bytes add up to what the row moves; small rows copy enough to leave the caches.
  const auto half = static_cast<std::int64_t>(std::max(row.bytes, 256e6) / 2);
  ln::tensor<ln::rank<1>, unsigned char, ln::cuda> from{{{half}}}, to{{{half}}};
  const auto copy = [&] {
    cudaMemcpyAsync(to.data(), from.data(), static_cast<std::size_t>(half), cudaMemcpyDeviceToDevice, on.stream());
  };
  for (int warm = 0; warm < 2; ++warm) {
    call(on);
    copy();
  }
  stopwatch clock;
  std::vector<double> calls, copies;
  for (auto each : state) {
    static_cast<void>(each);
    copies.push_back(clock.time(on.stream(), copy));
    calls.push_back(clock.time(on.stream(), [&] { call(on); }));
    state.SetIterationTime(calls.back());
  }
  on.check();
  const double rate = 2 * static_cast<double>(half) / median(copies);
  state.counters["of_limit"] = row.bytes / rate / median(calls);
  state.counters["milliseconds"] = 1000 * median(calls);
  state.counters["copy_TBps"] = rate / 1e12;
}

}  // namespace

void add(const gpu_row& row) {
  benchmark::RegisterBenchmark(row.name.c_str(), [row](benchmark::State& state) { run(state, row); })
      ->UseManualTime()
      ->Iterations(15);
}

}  // namespace bench

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  bench::add_recurrence_rows();
  bench::add_position_rows();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
