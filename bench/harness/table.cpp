// SPDX-License-Identifier: Apache-2.0
#include "harness/table.hpp"

#include "harness/row.hpp"

#include <algorithm>
#include <cstdio>
#include <ostream>

namespace bench {

namespace {

std::string text_of(const char* format, double value) {
  char text[64];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

std::string percent(double share) { return text_of("%.0f %%", 100 * share); }

std::string cell(double goal, const char* format, double scale = 1) {
  return goal > 0 ? text_of(format, scale * goal) : "";
}

double counter(const benchmark::BenchmarkReporter::Run& run, const char* name) {
  const auto found = run.counters.find(name);
  return found == run.counters.end() ? 0 : found->second.value;
}

}  // namespace

bool table_reporter::ReportContext(const Context& context) {
  std::ostream& out = GetOutputStream();
  out << context.cpu_info.num_cpus << " processors";
  for (const auto& cache : context.cpu_info.caches) {
    if (cache.level > 1) out << ", L" << cache.level << " " << cache.size / 1024 << " KiB";
  }
  if (!context.cpu_info.load_avg.empty()) out << ", load " << text_of("%.2f", context.cpu_info.load_avg[0]);
  out << std::endl;
  return true;
}

void table_reporter::ReportRuns(const std::vector<Run>& report) {
  std::ostream& out = GetOutputStream();
  for (const Run& run : report) {
    const row* const of = find_row(run.benchmark_name());
    if (!of) continue;
    if (run.error_occurred) {
      failed_ = true;
      GetErrorStream() << of->name << ": " << run.error_message << std::endl;
      continue;
    }
    for (const char* limit : {"fma_gflops", "sgemm_gflops"}) gather(run, limit, 1);
    for (const char* limit : {"copy_gbytes", "read_gbytes"}) gather(run, limit, of->threads);
    if (counter(run, "of_limit") > 0) {
      if (!begun_) {
        out << "\n| row | µs | of the limit | wanted | times plain | wanted | workspace |\n"
               "|---|--:|--:|--:|--:|--:|--:|\n";
      }
      begun_ = true;
      const double speedup = counter(run, "speedup");
      out << "| " << of->name << " | " << text_of("%.3f", counter(run, "us_per_token_and_head")) << " | "
          << percent(counter(run, "of_limit")) << " of " << run.report_label << " | "
          << cell(of->wanted.of_limit, "%.0f %%", 100) << " | " << cell(speedup, "%.1f") << " | "
          << cell(of->wanted.speedup, "%.0f") << " | " << text_of("%.0f KiB", counter(run, "workspace_kib")) << " |"
          << std::endl;
    }
    if (!of->compared.counter.empty()) {
      ratios_.push_back("| " + of->name + " | " + of->compared.with + " | " +
                        text_of("%.2f", counter(run, of->compared.counter.c_str())) + " | " +
                        cell(of->wanted.ratio, of->compared.of_times ? "at most %.2f" : "%.2f") + " |");
    }
  }
}

void table_reporter::gather(const Run& run, const char* name, int threads) {
  const double value = counter(run, name);
  if (value == 0) return;
  const auto [entry, is_new] = limits_.try_emplace({name, threads}, range{value, value});
  if (is_new) return;
  entry->second.least = std::min(entry->second.least, value);
  entry->second.most = std::max(entry->second.most, value);
}

void table_reporter::Finalize() {
  std::ostream& out = GetOutputStream();
  if (!ratios_.empty()) {
    out << "\n| row | compared with | ratio | wanted |\n|---|---|--:|--:|\n";
    for (const std::string& line : ratios_) out << line << "\n";
  }
  if (!limits_.empty()) out << "\n| limit, lowest and highest of all rows | |\n|---|--:|\n";
  for (const auto& [limit, over_rows] : limits_) {
    const bool copy = limit.first == "copy_gbytes", read = limit.first == "read_gbytes";
    const bool sgemm = limit.first == "sgemm_gflops";
    out << "| "
        << (copy    ? "copy"
            : read  ? "read"
            : sgemm ? "Eigen's sgemm"
                    : "multiply-adds")
        << ", " << limit.second << (limit.second == 1 ? " thread | " : " threads | ")
        << text_of("%.1f to ", over_rows.least) + text_of("%.1f", over_rows.most)
        << (copy || read ? " GB/s |\n" : " GFLOP/s |\n");
  }
  out << std::flush;
}

}  // namespace bench
