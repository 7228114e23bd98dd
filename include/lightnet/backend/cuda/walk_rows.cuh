// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/even_rows.cuh>
#include <lightnet/backend/cuda/walk_memory.cuh>

#include <climits>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Rows [start, last] of the tile at a position; odd: not all 64 of them, or some are masked or bad. All are bad from a
/// position on, and those of a column from one of its own on.
struct run_of_rows {
  int first, start, last;
  std::uint64_t on;
  bool odd;
  int bad_token = INT_MAX;
};

/// How the warps that multiply write the rows of a tile. They have them transposed, y^T[channels, tokens]: y[t / 2 .. t / 2
/// + 7] of a thread are of 16 tokens from t on, its rows `row` and the 8th after it, of each two tokens and the two 8 later.
template <class Plan, int D>
class walk_rows {
 public:
  using memory = walk_memory<Plan, D>;
  using tile = typename memory::tile;
  static constexpr int rows = Plan::rows;

  __device__ walk_rows(const walked_line& line, memory& shared)
      : line_{line},
        shared_{shared},
        group_{Plan::groups == 1 ? 0 : static_cast<int>(threadIdx.x) / 128},
        thread_{static_cast<int>(threadIdx.x) % 128} {}

  /// Writes y of a run of rows to `channels` of a sequence, which is the output `number`, if it is given: zero where a token
  /// is masked, NaN where something bad reached it, if it is `poisoned`. The warps that multiply have met since they wrote
  /// rows.
  template <class Sequence>
  __device__ void store(const Sequence& sequence, int number, std::int64_t channels, const run_of_rows& run,
                        const float (&y)[32], bool poisoned, bool accumulate) const {
    using U = std::remove_pointer_t<decltype(sequence.token(0, 0, 0))>;
    if (!sequence) return;
    if constexpr (std::is_same_v<U, bfloat16>) {
      store_rows(sequence, number, channels, run, y, poisoned, accumulate);
    } else {
      const int thread = anew(thread_), lane = thread % 32, row = group_ * 64 + thread / 32 * 16 + lane / 4;
      if constexpr (std::is_same_v<U, float>) {
        if (shared_.even_outputs[number] && !run.odd) return store_even(number, run.first, row, y, accumulate);
      }
#pragma unroll
      for (int n = 0; n < 32; ++n) {
        const int r = n / 4 * 8 + lane % 4 * 2 + n % 2, column = row + n / 2 % 2 * 8;
        if (r < run.start || r > run.last || column >= channels) continue;
        U* const to = sequence.token(line_.at.line.batch, line_.at.head, line_.at.line.token(run.first + r));
        store_one(to[column * sequence.channel_stride()], run, r, column, y[n], poisoned, accumulate);
      }
    }
  }

  /// Starts to read what lies where the rows of a tile of bfloat16 will go, `count` of them from position `first` on, to the
  /// place from which these are stored; each thread what it stores itself, and has stored before.
  template <class Sequence>
  __device__ void fetch(const Sequence& sequence, int number, std::int64_t channels, int first, int count) const {
    const even_rows<unsigned char> even = shared_.even_outputs[number];
    const tile to = outputs();
    const int thread = anew(thread_), c = thread % 8 * 8, first_column = group_ * 64 + c;
    if (even && count == rows) {
#pragma unroll
      for (int r = thread / 8; r < rows; r += 16) {
        copy_to_shared(to.part(r, c), reinterpret_cast<const bfloat16*>(even.row(first + r)) + first_column);
      }
    } else {
      for (int r = thread / 8; r < count; r += 16) {
        const bfloat16* const row = sequence.token(line_.at.line.batch, line_.at.head, line_.at.line.token(first + r));
        for (int e = 0; e < 8 && first_column + e < channels; ++e) {
          *to.at(r, c + e) = row[(first_column + e) * sequence.channel_stride()].bits();
        }
      }
    }
    commit_copies();
  }
  /// Adds that to y. The warps that multiply have met since it is there.
  __device__ void add_fetched(float (&y)[32]) const {
#pragma unroll
    for (int t = 0; t < rows; t += 16) {
      std::uint32_t pairs[4];
      load_matrices_transposed(pairs, matrices_of(t));
#pragma unroll
      for (int n = 0; n < 8; ++n) {
        y[t / 2 + n] += n % 2 == 0 ? lower_bfloat16(pairs[n / 2]) : upper_bfloat16(pairs[n / 2]);
      }
    }
  }

  /// Has rows of U that are added to brought nearer, before what is added is known: by all that multiply.
  template <class U>
  __device__ void ask_for_rows(int number, int first) const {
    const even_rows<unsigned char> even = shared_.even_outputs[number];
    if (!even) return;
    constexpr int line = 128, lines = D * static_cast<int>(sizeof(U)) / line;
    for (int n = group_ * 128 + anew(thread_); n < rows * lines; n += Plan::readers) {
      const int position = first + n / lines;
      if (position < line_.length) prefetch_line(even.row(position) + n % lines * line);
    }
  }

 private:
  /// Where the rows of bfloat16 of a group are made ready, and of the 16 from t on what this thread's lane stands for.
  __device__ tile outputs() const { return {shared_.outputs.data + group_ * tile::panel_bytes}; }
  __device__ unsigned char* matrices_of(int t) const {
    const int thread = anew(thread_), lane = thread % 32;
    return outputs().part(t + lane / 16 * 8 + lane % 8, thread / 32 * 16 + lane / 8 % 2 * 8);
  }

  /// The sums of eight numbers and eight others.
  __device__ static uint4 sum_of(const uint4& a, const uint4& b) {
    const auto pair = [](std::uint32_t x, std::uint32_t y) {
      return pack_bfloat16(lower_bfloat16(x) + lower_bfloat16(y), upper_bfloat16(x) + upper_bfloat16(y));
    };
    return {pair(a.x, b.x), pair(a.y, b.y), pair(a.z, b.z), pair(a.w, b.w)};
  }

  /// Writes whole rows of float, 32 bytes of them at a time.
  __device__ void store_even(int number, int first, int row, const float (&y)[32], bool accumulate) const {
    const even_rows<unsigned char> even = shared_.even_outputs[number];
    constexpr int together = 16;  // numbers that are read before any is written
#pragma unroll
    for (int half = 0; half < 32; half += together) {
      float before[together] = {};
      const auto each = [&](const auto& body) {
#pragma unroll
        for (int n = 0; n < together; ++n) {
          const int r = (half + n) / 4 * 8 + anew(thread_) % 4 * 2 + n % 2;
          body(n, reinterpret_cast<float*>(even.row(first + r))[row + n / 2 % 2 * 8]);
        }
      };
      if (accumulate) each([&](int n, const float& from) { before[n] = from; });
      each([&](int n, float& to) { to = before[n] + y[half + n]; });
    }
  }

  template <class U>
  __device__ void store_one(U& to, const run_of_rows& run, int r, int column, float x, bool poisoned,
                            bool accumulate) const {
    const int position = run.first + r;
    const bool masked = (run.on >> r & 1U) == 0;
    const bool bad = poisoned && (position >= run.bad_token || position >= shared_.bad_column[column]);
    if (masked) x = 0;
    if (bad && !masked) x = limits<float>::not_a_number;
    to = static_cast<U>(accumulate ? static_cast<float>(to) + x : x);
  }

  /// The same by way of shared memory, so that whole rows are written, 16 bytes a thread.
  template <class Sequence>
  __device__ void store_rows(const Sequence& sequence, int number, std::int64_t channels, const run_of_rows& run,
                             const float (&y)[32], bool poisoned, bool accumulate) const {
    const tile to = outputs();
    const int thread = anew(thread_);
#pragma unroll
    for (int t = 0; t < rows; t += 16) {
      const float* const eight = y + t / 2;
      const std::uint32_t packed[4] = {pack_bfloat16(eight[0], eight[1]), pack_bfloat16(eight[2], eight[3]),
                                       pack_bfloat16(eight[4], eight[5]), pack_bfloat16(eight[6], eight[7])};
      store_matrices_transposed(matrices_of(t), packed);
    }
    memory::group(group_).meet();
    const int c = thread % 8 * 8, first_column = group_ * 64 + c;
    const even_rows<unsigned char> even = shared_.even_outputs[number];
    if (even && !run.odd) {
#pragma unroll
      for (int r = thread / 8; r < rows; r += 16) {
        bfloat16* const at = reinterpret_cast<bfloat16*>(even.row(run.first + r)) + first_column;
        uint4 x = *reinterpret_cast<const uint4*>(to.part(r, c));
        if (accumulate) x = sum_of(x, *reinterpret_cast<const uint4*>(at));
        *reinterpret_cast<uint4*>(at) = x;
      }
      return;
    }
    for (int r = thread / 8; r <= run.last; r += 16) {
      if (r < run.start) continue;
      bfloat16* const row = sequence.token(line_.at.line.batch, line_.at.head, line_.at.line.token(run.first + r));
      for (int e = 0; e < 8 && first_column + e < channels; ++e) {
        const int column = first_column + e;
        store_one(row[column * sequence.channel_stride()], run, r, column,
                  static_cast<float>(bfloat16::from_bits(*to.at(r, c + e))), poisoned, accumulate);
      }
    }
  }

  const walked_line& line_;
  memory& shared_;
  const int group_, thread_;
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
