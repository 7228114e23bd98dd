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
    sequences_ = 0;
    (add(sequences, line, head, first), ...);
    current_ = 0;
    rows_ = std::max<std::int64_t>(std::min(count, line.length - first), 0);
    left_ = sequences_ * rows_;
  }

  /// And memory that is needed with these rows.
  void expect_too(const void* memory, std::int64_t bytes) {
    if (rows_ == 0) return;
    const std::int64_t share = (bytes + rows_ - 1) / rows_;
    list_[sequences_++] = {static_cast<const char*>(memory), share, share};
    left_ += rows_;
  }

  /// The next some lines: so many that a chunk with few products, 64 tokens of a global traversal of heads of 64, asks for
  /// all that comes after it.
  void operator()() const {
    constexpr std::int64_t lines_at_once = 48, line_bytes = 64;
    for (std::int64_t lines = 0; lines < lines_at_once && left_ > 0; --left_) {
      source& rows = list_[current_];
      for (std::int64_t at = 0; at < rows.row_bytes; at += line_bytes, ++lines) {
        __builtin_prefetch(rows.next + at, 0, 2);  // to the second cache: the nearest is full of what is worked on
      }
      rows.next += rows.step_bytes;
      current_ = current_ + 1 < sequences_ ? current_ + 1 : 0;
    }
  }

 private:
  struct source {
    const char* next;
    std::int64_t step_bytes, row_bytes;
  };

  template <class U>
  void add(const head_sequence<Dims, U, cpu>& sequence, const token_line& line, std::int64_t head, std::int64_t first) {
    std::int64_t step = 0;
    if (!sequence || first >= line.length || sequence.channel_stride() != 1 || !sequence.evenly_spaced(step)) return;
    const auto bytes = static_cast<std::int64_t>(sizeof(U));
    list_[sequences_++] = {reinterpret_cast<const char*>(sequence.token(line.batch, head, line.token(first))),
                           step * line.step * bytes, sequence.channels() * bytes};
  }

  mutable source list_[10] = {};
  std::int64_t sequences_ = 0, rows_ = 0;
  mutable std::int64_t current_ = 0, left_ = 0;  // the sequence that is next, and rows of all
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
