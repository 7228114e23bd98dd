// SPDX-License-Identifier: Apache-2.0

// The benchmarks of the CUDA backend: each row against the copy rate of the same run.

#include "cuda/row.cuh"

#include <benchmark/benchmark.h>
#include <lightnet/backend/cuda/graph.cuh>

#include <algorithm>
#include <cstdlib>
#include <utility>
#include <vector>

namespace bench {
namespace {

/// Moments of a stream, by the clock of the device.
class moments {
 public:
  moments() {
    for (cudaEvent_t& each : events_) cudaEventCreate(&each);
  }
  moments(const moments&) = delete;
  moments& operator=(const moments&) = delete;
  ~moments() {
    for (const cudaEvent_t each : events_) cudaEventDestroy(each);
  }

  void mark(int moment, cudaStream_t stream) { cudaEventRecord(events_[moment], stream); }
  void wait(int moment) {
    ln::detail::check_cuda("bench", "cudaEventSynchronize", cudaEventSynchronize(events_[moment]));
  }
  /// The seconds from one to the next.
  double after(int moment) const {
    float milliseconds = 0;
    cudaEventElapsedTime(&milliseconds, events_[moment], events_[moment + 1]);
    return static_cast<double>(milliseconds) / 1000;
  }

 private:
  cudaEvent_t events_[4]{};
};

double median(std::vector<double> all) {
  std::sort(all.begin(), all.end());
  return all[all.size() / 2];
}

void run(benchmark::State& state, const gpu_row& row) {
  const ln::cuda_stream stream;  // not the default one, which no graph captures
  ln::execution<ln::cuda> on{stream.get()};
  on.allow_hopper = std::getenv("LIGHTNET_BENCH_AMPERE") == nullptr;
  const auto call = row.prepare();
  // Read and written bytes add up to what the row moves; small rows copy enough to leave the caches, and to take longer
  // than the host needs for a call.
  const auto half = static_cast<std::int64_t>(std::max(row.bytes, 512e6) / 2);
  ln::tensor<ln::rank<1>, unsigned char, ln::cuda> from{{{half}}}, to{{{half}}};
  const auto copy = [&] {
    cudaMemcpyAsync(to.data(), from.data(), static_cast<std::size_t>(half), cudaMemcpyDeviceToDevice, on.stream());
  };
  for (int warm = 0; warm < 2; ++warm) {
    call(on);
    copy();
  }
  const gpu_call other = row.compared.prepare ? row.compared.prepare() : gpu_call{};
  if (other) other(on);
  moments clock;
  std::vector<double> calls, copies, others;
  for (auto each : state) {
    static_cast<void>(each);
    // While the device copies, the host puts the call behind that: its own time does not count.
    clock.mark(0, on.stream());
    copy();
    clock.mark(1, on.stream());
    call(on);
    clock.mark(2, on.stream());
    if (other) other(on);
    clock.mark(3, on.stream());
    clock.wait(3);
    copies.push_back(clock.after(0));
    calls.push_back(clock.after(1));
    others.push_back(clock.after(2));
    state.SetIterationTime(calls.back());
  }
  on.check();
  const double rate = 2 * static_cast<double>(half) / median(copies);
  state.counters["of_limit"] = row.bytes / rate / median(calls);
  state.counters["milliseconds"] = 1000 * median(calls);
  state.counters["copy_TBps"] = rate / 1e12;
  state.counters["bytes"] = row.bytes;
  state.counters["work"] = row.work;
  if (!other) return;
  const double times = median(calls) / median(others);
  state.counters["times_other"] = times;
  state.counters["of_other_rate"] = row.work / row.compared.work / times;
}

}  // namespace

void add(const gpu_row& row) {
  benchmark::RegisterBenchmark(row.name.c_str(), [row](benchmark::State& state) { run(state, row); })
      ->UseManualTime()
      ->Iterations(row.calls);
}

}  // namespace bench

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  bench::add_limits();
  bench::add_recurrence_rows();
  bench::add_elementwise_rows();
  bench::add_step_rows();
  bench::add_position_rows();
  bench::add_layer_rows();
  bench::add_training_rows();
  bench::add_decoding_rows();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
