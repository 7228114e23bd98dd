// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/convert.hpp>
#include <lightnet/backend/cpu/parallel.hpp>
#include <lightnet/core/head_sequence.hpp>

#include <numeric>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Neighbouring channels of all heads, [first, first + count) of H d.
struct channel_block {
  std::int64_t channels, first, count;  // channels: of a head

  /// Calls `visit(head, channel, offset in the block, count)` for the part of each head.
  template <class Visit>
  void each_head(const Visit& visit) const {
    for (std::int64_t done = 0, part = 0; done < count; done += part) {
      const std::int64_t channel = (first + done) % channels;
      part = channels - channel < count - done ? channels - channel : count - done;
      visit((first + done) / channels, channel, done, part);
    }
  }

  /// A part of [B, H, d] as a row, `otherwise` where it is not given.
  template <class T>
  void read(const dynamic_view<3, const T, cpu>& from, std::int64_t sequence, T otherwise, T* row) const {
    each_head([&](std::int64_t head, std::int64_t channel, std::int64_t offset, std::int64_t part) {
      for (std::int64_t i = 0; i < part; ++i) row[offset + i] = from ? from(sequence, head, channel + i) : otherwise;
    });
  }
  template <class T>
  void write(const T* row, const dynamic_view<3, T, cpu>& to, std::int64_t sequence) const {
    if (!to) return;
    each_head([&](std::int64_t head, std::int64_t channel, std::int64_t offset, std::int64_t part) {
      for (std::int64_t i = 0; i < part; ++i) to(sequence, head, channel + i) = row[offset + i];
    });
  }
};

/// The blocks of a row: the whole of it, so that memory streams as it lies, or, where there is much to do, so many that
/// every thread has as much.
struct channel_blocks {
  static constexpr std::int64_t widest = 4096, narrowest = 64, much = 16384;

  std::int64_t channels, row, width, count;

  /// `tokens` are those of all lines.
  channel_blocks(int threads, std::int64_t lines, std::int64_t tokens, std::int64_t channels_of_head,
                 std::int64_t channels_of_row)
      : channels{channels_of_head}, row{channels_of_row} {
    std::int64_t shares = 1;
    if (tokens * row >= much) shares = threads / std::gcd<std::int64_t, std::int64_t>(threads, lines);
    width = ((row + shares - 1) / shares + narrowest - 1) / narrowest * narrowest;
    width = width < widest ? width : widest;
    count = width > 0 ? block_range::blocks(width, row) : 0;
  }
  channel_block operator[](std::int64_t index) const noexcept {
    const block_range range{index, width, row};
    return {channels, range.first, range.last - range.first};
  }
};

/// A block of the channels of a sequence's tokens, a row of the accumulator for each. Heads that follow each other in
/// memory are one long head.
template <int Dims, class U>
class token_rows {
  using stored = std::remove_const_t<U>;
  using sum_type = accumulator<stored>;

 public:
  token_rows(const head_sequence<Dims, U, cpu>& sequence, const channel_block& block)
      : sequence_{sequence},
        block_{block},
        stride_{sequence.channel_stride()},
        head_{block.first / block.channels},
        channel_{block.first % block.channels} {
    joined_ = channel_ + block_.count <= block_.channels ||
              sequence_.token(0, 1, 0) - sequence_.token(0, 0, 0) == block_.channels * stride_;
  }

  /// Whether rows are read and written where they lie.
  bool in_place() const noexcept { return row_at(0, 0) != nullptr; }

  /// Brings a row that lies as it is read into the caches.
  void touch(std::int64_t b, std::int64_t t) const noexcept {
    constexpr std::int64_t line = 64 / static_cast<std::int64_t>(sizeof(sum_type));
    const volatile sum_type* const row = row_at(b, t);
    for (std::int64_t i = 0; row && i < block_.count; i += line) static_cast<void>(row[i]);
  }

  /// The row where it lies, or a copy in `room`.
  const sum_type* read(std::int64_t b, std::int64_t t, sum_type* room) const noexcept {
    if (const sum_type* const row = row_at(b, t)) return row;
    each_part(b, t, [&](const stored* from, std::int64_t offset, std::int64_t count) {
      if (stride_ == 1) {
        convert(from, room + offset, count);
      } else {
        for (std::int64_t i = 0; i < count; ++i) room[offset + i] = static_cast<sum_type>(from[i * stride_]);
      }
    });
    return room;
  }

  /// Where to make a row that `write` takes: where it belongs if it can be written there, else `room`.
  sum_type* target(std::int64_t b, std::int64_t t, sum_type* room, bool add) const noexcept {
    sum_type* const row = add ? nullptr : row_at(b, t);
    return row ? row : room;
  }

  /// Writes a row, or adds it to what is there; nothing where the sequence is not given.
  void write(std::int64_t b, std::int64_t t, const sum_type* row, bool add) const noexcept {
    if (!sequence_ || (!add && row_at(b, t) == row)) return;
    each_part(b, t, [&](stored* to, std::int64_t offset, std::int64_t count) {
      if (add) {
        LIGHTNET_OMP(omp simd)
        for (std::int64_t i = 0; i < count; ++i) {
          stored& sum = to[i * stride_];
          sum = static_cast<stored>(static_cast<sum_type>(sum) + row[offset + i]);
        }
      } else if (stride_ == 1) {
        convert(row + offset, to, count);
      } else {
        for (std::int64_t i = 0; i < count; ++i) to[i * stride_] = static_cast<stored>(row[offset + i]);
      }
    });
  }

 private:
  /// The row where it lies, if there is a dense one.
  std::conditional_t<std::is_const_v<U>, const sum_type, sum_type>* row_at(std::int64_t b,
                                                                           std::int64_t t) const noexcept {
    if constexpr (std::is_same_v<stored, sum_type>) {
      if (sequence_ && joined_ && stride_ == 1) return sequence_.token(b, head_, t) + channel_;
    }
    return nullptr;
  }

  template <class Visit>
  void each_part(std::int64_t b, std::int64_t t, const Visit& visit) const noexcept {
    if (joined_) return visit(sequence_.token(b, head_, t) + channel_ * stride_, 0, block_.count);
    block_.each_head([&](std::int64_t head, std::int64_t channel, std::int64_t offset, std::int64_t count) {
      visit(sequence_.token(b, head, t) + channel * stride_, offset, count);
    });
  }

  const head_sequence<Dims, U, cpu>& sequence_;
  channel_block block_;
  std::int64_t stride_, head_, channel_;
  bool joined_;
};

/// One thread's rows in the workspace.
template <class T>
class row_store {
 public:
  row_store(const execution<cpu>& on, execution<cpu>::scope& scratch, std::int64_t rows, std::int64_t width)
      : rows_{rows}, width_{width}, data_{scratch.take<T>(on.threads() * rows * width)} {}

  T* operator()(int thread, std::int64_t row) const noexcept { return data_ + (thread * rows_ + row) * width_; }

 private:
  std::int64_t rows_, width_;
  T* data_;
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
