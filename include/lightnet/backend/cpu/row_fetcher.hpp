// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/token_lines.hpp>
#include <lightnet/core/head_sequence.hpp>

#include <algorithm>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Asks memory for the rows that a thread will need next, a few at a time, while it multiplies: the rows of a head lie too
/// far apart for the processor to guess, and all at once they would wait for each other.
template <int Dims, class T>
class row_fetcher {
 public:
  /// Rows [first, first + count) of a line and head, of up to nine sequences; those not given are left out.
  template <class... Sequence>
  void expect(const token_line& line, std::int64_t head, std::int64_t first, std::int64_t count,
              const Sequence&... sequences) {
    line_ = line;
    head_ = head;
    sequences_ = 0;
    (add(sequences), ...);
    next_ = first;
    last_ = sequences_ == 0 ? first : std::min(first + count, line.length);
    current_ = 0;
  }

  /// The next some lines.
  void operator()() const {
    constexpr std::int64_t lines_at_once = 24, line_bytes = 64;
    for (std::int64_t lines = 0; lines < lines_at_once && next_ < last_;) {
      const source& rows = list_[current_];
      const char* const row = rows.base + line_.token(next_) * rows.token_bytes;
      for (std::int64_t at = 0; at < rows.row_bytes; at += line_bytes, ++lines) __builtin_prefetch(row + at, 0, 2);
      if (++current_ == sequences_) {
        current_ = 0;
        ++next_;
      }
    }
  }

 private:
  struct source {
    const char* base;
    std::int64_t token_bytes, row_bytes;
  };

  template <class U>
  void add(const head_sequence<Dims, U, cpu>& sequence) {
    std::int64_t step = 0;
    if (!sequence || sequence.channel_stride() != 1 || !sequence.evenly_spaced(step)) return;
    const auto bytes = static_cast<std::int64_t>(sizeof(U));
    list_[sequences_++] = {reinterpret_cast<const char*>(sequence.token(line_.batch, head_, 0)), step * bytes,
                           sequence.channels() * bytes};
  }

  source list_[9] = {};
  std::int64_t sequences_ = 0, head_ = 0, last_ = 0;
  mutable std::int64_t next_ = 0, current_ = 0;
  token_line line_{};
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
