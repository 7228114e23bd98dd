// SPDX-License-Identifier: Apache-2.0
#include "harness/row.hpp"

#include "harness/memory.hpp"
#include "limits/rates.hpp"
#include "limits/stopwatch.hpp"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <deque>
#include <limits>
#include <memory>
#include <sstream>
#include <utility>

namespace bench {

namespace {

std::deque<row>& rows() {
  static std::deque<row> all;
  return all;
}

/// Keeps the least.
class least_of {
 public:
  void take(double value) { value_ = std::min(value_, value); }
  double value() const { return value_; }

 private:
  double value_ = std::numeric_limits<double>::infinity();
};

/// All that is measured of one row. Google Benchmark calls a benchmark several times, with more iterations each time;
/// what is measured here gathers over all of them. Of each quantity the best counts, limits and plain implementation
/// included: what disturbs a shared machine only ever takes away.
class measurement {
 public:
  explicit measurement(const row& r) : row_{r}, task_{r.prepare()} {
    workspace_ = peak_bytes(task_.call);
    for (int round = 0; round < least_rounds; ++round) {
      take_limits();
      call();
    }
    if (task_.other) compare();
  }

  const row& of() const { return row_; }

  /// The limits and the plain implementation, right before a call. Copying, or reading, is once for each call and moves as
  /// much as the row does, so that neither finds more of its arrays in the caches than the other.
  void take_limits() {
    if (row_.least.bytes == 0) return;
    for (int run = 0; run < 3; ++run) fma_.take(1 / fma_rate());
    if (rounds_++ < rounds_of_sgemm) sgemm_.take(1 / sgemm_rate());
    if (task_.plain) plain_.take(seconds(task_.plain));
    bytes_.take(1 / (reads() ? read_rate : copy_rate)(row_.threads, row_.least.bytes));
  }

  void call() { time_.take(seconds(task_.call)); }

  /// Why the limits are none, or nothing.
  std::string objection() const {
    if (fma_.value() <= sgemm_.value()) return {};
    std::ostringstream text;
    text << "the loop of multiply-adds reads " << 1e-9 / fma_.value() << " GFLOP/s, less than the "
         << 1e-9 / sgemm_.value() << " GFLOP/s of Eigen's sgemm: it is no limit";
    return text.str();
  }

  void report(benchmark::State& state) const {
    state.counters["us_per_token_and_head"] = 1e6 * time_.value() / row_.tokens;
    state.counters["workspace_kib"] = static_cast<double>(workspace_) / 1024;
    if (row_.least.bytes > 0) {
      const double by_flops = row_.least.flops * fma_.value() / row_.threads;
      const double by_bytes = row_.least.bytes * bytes_.value();
      const bool either = row_.least.by == limit::either || reads();
      const bool moving = row_.least.by == limit::copying || (either && by_bytes > by_flops);
      state.SetLabel(!moving ? "FMA" : reads() ? "read" : "copy");
      state.counters["of_limit"] = (moving ? by_bytes : by_flops) / time_.value();
      state.counters["fma_gflops"] = 1e-9 / fma_.value();
      state.counters["sgemm_gflops"] = 1e-9 / sgemm_.value();
      state.counters[reads() ? "read_gbytes" : "copy_gbytes"] = 1e-9 / bytes_.value();
    }
    if (task_.plain) {
      state.counters["speedup"] = plain_.value() / task_.plain_tokens * row_.tokens / time_.value();
      state.counters["plain_us_per_token_and_head"] = 1e6 * plain_.value() / task_.plain_tokens;
    }
    if (task_.other) state.counters[row_.compared.counter] = ratio_;
  }

 private:
  static constexpr int least_rounds = 5, rounds_of_sgemm = 8;

  bool reads() const { return row_.least.by == limit::either_reading; }

  // Two calls in turns, and the median of nine such pairs: what disturbs one of a pair mostly disturbs the other.
  void compare() {
    task_.other();
    std::array<double, 9> ratios;
    for (double& ratio : ratios) {
      const double there = seconds(task_.other) / task_.other_tokens, here = seconds(task_.call) / row_.tokens;
      ratio = row_.compared.of_times ? here / there : there / here;
    }
    std::nth_element(ratios.begin(), ratios.begin() + 4, ratios.end());
    ratio_ = ratios[4];
  }

  const row& row_;
  task task_;
  std::size_t workspace_ = 0;
  double ratio_ = 0;
  int rounds_ = 0;
  least_of time_, plain_, fma_, bytes_, sgemm_;  // seconds: of a call, and for each operation or byte
};

// The memory of a row is given back when the next begins.
void run(const row& r, benchmark::State& state) {
  static std::unique_ptr<measurement> current;
  if (!current || &current->of() != &r) {
    current.reset();
    current = std::make_unique<measurement>(r);
  }
  for (auto _ : state) {
    state.PauseTiming();
    current->take_limits();
    state.ResumeTiming();
    current->call();
  }
  const std::string objection = current->objection();
  if (!objection.empty()) state.SkipWithError(objection.c_str());
  current->report(state);
}

}  // namespace

void add(row r) {
  const row& kept = rows().emplace_back(std::move(r));
  benchmark::RegisterBenchmark(kept.name.c_str(), [&kept](benchmark::State& state) {
    run(kept, state);
  })->Unit(benchmark::kMillisecond);
}

const row* find_row(const std::string& name) {
  const auto found = std::find_if(rows().begin(), rows().end(), [&](const row& r) { return r.name == name; });
  return found == rows().end() ? nullptr : &*found;
}

std::string problem::name(const std::string& operation, const std::string& type) const {
  std::string text = operation + "/" + type + "/d" + std::to_string(width) + "/threads" + std::to_string(threads);
  if (tokens != 4096) text += "/tokens" + std::to_string(tokens);
  if (heads != 8) text += "/heads" + std::to_string(heads);
  return text;
}

}  // namespace bench
