// SPDX-License-Identifier: Apache-2.0

// The benchmarks of the CPU: rows of Google Benchmark, printed as the table of docs/performance.md.

#include "harness/table.hpp"
#include "rows.hpp"

#include <vector>

int main(int argc, char** argv) {
  // Long enough for the best of several calls; an argument overrides it.
  char time[] = "--benchmark_min_time=0.3";
  std::vector<char*> arguments(argv, argv + argc);
  arguments.insert(arguments.begin() + 1, time);
  int count = static_cast<int>(arguments.size());
  benchmark::Initialize(&count, arguments.data());
  if (benchmark::ReportUnrecognizedArguments(count, arguments.data())) return 2;

  bench::add_additive_causal_rows();
  bench::add_additive_global_rows();
  bench::add_bfloat16_rows();
  bench::add_constant_decay_rows();
  bench::add_scalar_decay_rows();
  bench::add_vector_decay_rows();
  bench::add_hgrn2_rows();
  bench::add_elementwise_rows();
  bench::add_md_lrpe_rows();
  bench::add_md_tpe_rows();
  bench::add_training_rows();
  bench::add_decoding_rows();

  bench::table_reporter table;
  benchmark::RunSpecifiedBenchmarks(&table);
  benchmark::Shutdown();
  return table.failed() ? 1 : 0;
}
