// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <benchmark/benchmark.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

namespace bench {

/// Prints the rows as tables in Markdown, each row when it is done.
class table_reporter : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context& context) override;
  void ReportRuns(const std::vector<Run>& report) override;
  void Finalize() override;

  /// Whether a row has failed.
  bool failed() const noexcept { return failed_; }

 private:
  struct range {
    double least, most;
  };

  void gather(const Run& run, const char* counter, int threads);

  bool failed_ = false, begun_ = false;
  std::vector<std::string> ratios_;                      // lines of the second table
  std::map<std::pair<std::string, int>, range> limits_;  // over all rows
};

}  // namespace bench
