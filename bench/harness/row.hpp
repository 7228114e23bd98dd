// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string>

/// A row of the table: an operation, the least that it could take, and what it is compared with.
namespace bench {

/// What sets the least time of a row: flops / (threads times the rate of multiply-adds), bytes / (copy rate), the longer of
/// these, or the longer of the first and bytes / (read rate).
enum class limit { multiply_adds, copying, either, either_reading };

/// The least that an operation needs, whatever it executes.
struct work {
  double flops = 0, bytes = 0;
  limit by = limit::multiply_adds;
};

/// What a row runs. It owns its memory, and takes it when the row begins.
struct task {
  std::function<void()> call;
  std::function<void()> plain{};  // the plain implementation, on some tokens of one head
  double plain_tokens = 0;
  std::function<void()> other{};  // what the row is compared with, in turns with it
  double other_tokens = 0;        // tokens times heads of it
};

/// What a row is compared with, if anything: the same operation under other circumstances.
struct comparison {
  std::string counter{};  // in the JSON
  std::string with{};     // in words
  bool of_times = false;  // the ratio of the times for a token, not that of the speeds
};

/// What the project wants of a row; 0 where nothing was said.
struct goals {
  double of_limit = 0, speedup = 0, ratio = 0;
};

struct row {
  std::string name;
  double tokens;  // tokens times heads: times are given for one of them
  work least{};   // of the whole call
  int threads = 1;
  goals wanted{};
  comparison compared{};
  std::function<task()> prepare{};
};

/// Makes a row a benchmark of Google Benchmark. Rows run in the order in which they are added.
void add(row r);

/// The row of that name; null where there is none.
const row* find_row(const std::string& name);

/// Whether a second thread exists at all.
#if defined(_OPENMP)
inline constexpr bool has_threads = true;
#else
inline constexpr bool has_threads = false;
#endif

/// The sizes of the sequences of a row, and what they make of its name.
struct problem {
  std::int64_t width = 64;  // d and e
  std::int64_t tokens = 4096;
  std::int64_t heads = 8;
  int threads = 1;

  double token_heads() const { return static_cast<double>(tokens * heads); }
  /// "operation/float/d64/threads1", and the tokens and heads where they are not 4096 and 8.
  std::string name(const std::string& operation, const std::string& type = "float") const;
};

}  // namespace bench
