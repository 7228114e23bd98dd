// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/lanes.hpp>
#include <lightnet/core/math.hpp>

#include <utility>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

// C[m, n] (+)= A[m, k] B[k, n], the small matrix product under every recurrence.
//
// Every element of C is a sum in the order of k, chains of `segment` multiply-adds added up: its bits depend on its row
// of A and its column of B alone, not on the sizes of the product or the place in it. That is what makes a sequence
// come out the same alone and in a batch, and an earlier row the same whatever follows it. A may have any strides (so
// its transpose costs nothing); rows of B and C are dense, and n is a whole number of vector registers.

/// The terms that are summed in one go. Long chains of equal terms round to one side, and lose digits.
inline constexpr std::int64_t segment = 64;

template <int Rows, int Vectors, class T>
inline void multiply_block(const T* a, std::int64_t a_row, std::int64_t a_column, const T* b, std::int64_t b_row, T* c,
                           std::int64_t c_row, std::int64_t k, bool accumulate) noexcept {
  constexpr int width = lane_count<T>;
  lanes<T> sum[Rows][Vectors];
  for (int i = 0; i < Rows; ++i) {
    for (int j = 0; j < Vectors; ++j) sum[i][j] = lanes<T>{};
  }
  for (std::int64_t s = 0; s < k; ++s) {
    lanes<T> row[Vectors];
    for (int j = 0; j < Vectors; ++j) row[j] = load_lanes(b + s * b_row + j * width);
    for (int i = 0; i < Rows; ++i) {
      const lanes<T> x = a[i * a_row + s * a_column] - lanes<T>{};  // in every lane, -0 too
      for (int j = 0; j < Vectors; ++j) sum[i][j] = multiply_add(x, row[j], sum[i][j]);
    }
  }
  for (int i = 0; i < Rows; ++i) {
    for (int j = 0; j < Vectors; ++j) {
      T* const to = c + i * c_row + j * width;
      store_lanes(to, accumulate ? load_lanes(to) + sum[i][j] : sum[i][j]);
    }
  }
}

/// The tallest block whose sums stay in registers, beside `Vectors` of B and one of A.
template <int Vectors>
inline constexpr int block_rows = vector_bytes == 64   ? (Vectors == 1 ? 16 : 12)
                                  : vector_bytes == 32 ? 6
                                                       : 4;

/// What is done between the blocks of a product: nothing.
struct nothing_between {
  void operator()() const noexcept {}
};

template <int Vectors, class T, class Between>
inline void multiply_columns(const T* a, std::int64_t a_row, std::int64_t a_column, const T* b, std::int64_t b_row,
                             T* c, std::int64_t c_row, std::int64_t m, std::int64_t k, bool accumulate,
                             const Between& between) noexcept {
  const auto block = [&]<int Rows>(std::int64_t i) {
    between();
    multiply_block<Rows, Vectors>(a + i * a_row, a_row, a_column, b, b_row, c + i * c_row, c_row, k, accumulate);
    return i + Rows;
  };
  constexpr int tall = block_rows<Vectors>;
  std::int64_t i = 0;
  while (i + tall <= m && (tall != 12 || m - i != 16)) i = block.template operator()<tall>(i);
  if constexpr (tall > 8) {
    while (i + 8 <= m) i = block.template operator()<8>(i);
  }
  while (i + 4 <= m) i = block.template operator()<4>(i);
  while (i < m) i = block.template operator()<1>(i);
}

template <class T, class Between = nothing_between>
void multiply(const T* a, std::int64_t a_row, std::int64_t a_column, const T* b, std::int64_t b_row, T* c,
              std::int64_t c_row, std::int64_t m, std::int64_t n, std::int64_t k, bool accumulate,
              const Between& between = {}) noexcept {
  constexpr std::int64_t width = lane_count<T>;
  for (std::int64_t s = 0; s == 0 || s < k; s += segment) {
    const std::int64_t depth = s + segment < k ? segment : k - s;
    const T* const left = a + s * a_column;
    const T* const right = b + s * b_row;
    const bool add = accumulate || s > 0;
    std::int64_t j = 0;
    for (; j + 2 * width <= n; j += 2 * width) {
      multiply_columns<2>(left, a_row, a_column, right + j, b_row, c + j, c_row, m, depth, add, between);
    }
    if (j < n) multiply_columns<1>(left, a_row, a_column, right + j, b_row, c + j, c_row, m, depth, add, between);
  }
}

/// A matrix in scratch memory whose rows end on whole registers; what pads them is zero or never read.
template <class T>
struct tile {
  T* data;
  std::int64_t stride;

  T* row(std::int64_t i) const noexcept { return data + i * stride; }
};

/// One step of a transposition: of two rows `Step` apart, the blocks off the diagonal change places.
template <int Step, class T, int... Lane>
inline void exchange_blocks(lanes<T>& upper, lanes<T>& lower, std::integer_sequence<int, Lane...>) noexcept {
  const lanes<T> a = upper, b = lower;
  upper = __builtin_shufflevector(a, b, ((Lane & Step) == 0 ? Lane : lane_count<T> + Lane - Step)...);
  lower = __builtin_shufflevector(a, b, ((Lane & Step) == 0 ? Lane + Step : lane_count<T> + Lane)...);
}

template <int Step, class T>
inline void transpose_registers(lanes<T> (&rows)[lane_count<T>]) noexcept {
  if constexpr (Step < lane_count<T>) {
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC unroll 16
#endif
    for (int i = 0; i < lane_count<T>; ++i) {
      if ((i & Step) == 0) {
        exchange_blocks<Step, T>(rows[i], rows[i + Step], std::make_integer_sequence<int, lane_count<T>>{});
      }
    }
    transpose_registers<2 * Step, T>(rows);
  }
}

/// to [width, height] = the transpose of from [height, width]. Reads and writes whole registers: what lies beyond the
/// height of `from` is written as zero.
template <class T>
void transpose(const tile<T>& from, std::int64_t height, std::int64_t width, const tile<T>& to) noexcept {
  constexpr std::int64_t block = lane_count<T>;
  for (std::int64_t i = 0; i < height; i += block) {
    for (std::int64_t j = 0; j < width; j += block) {
      lanes<T> rows[block];
      for (int r = 0; r < block; ++r) rows[r] = i + r < height ? load_lanes(from.row(i + r) + j) : lanes<T>{};
      transpose_registers<1, T>(rows);
      for (int r = 0; r < block; ++r) store_lanes(to.row(j + r) + i, rows[r]);
    }
  }
}

/// scores = tril(left right^T) for rows [start, last], `right` being transposed: what lies above the diagonal is zero by
/// selection.
template <class T, class Between = nothing_between>
void lower_triangle(const tile<T>& left, const tile<T>& right, const tile<T>& scores, std::int64_t depth,
                    std::int64_t start, std::int64_t last, const Between& between = {}) noexcept {
  constexpr std::int64_t strip = 16;
  for (std::int64_t r = start; r <= last; r += strip) {
    const std::int64_t end = r + strip < last + 1 ? r + strip : last + 1;
    const std::int64_t columns = whole_lanes<T>(end);
    multiply(left.row(r), left.stride, 1, right.data, right.stride, scores.row(r), scores.stride, end - r, columns,
             depth, false, between);
    for (std::int64_t t = r; t < end; ++t) {
      std::int64_t s = t / lane_count<T> * lane_count<T>;
      T* const row = scores.row(t);
      store_lanes(row + s, first_lanes<T>(load_lanes(row + s), t + 1 - s));
      while ((s += lane_count<T>) < columns) store_lanes(row + s, lanes<T>{});
    }
  }
}

/// to (+)= scores right for rows [start, last] of a lower triangle.
template <class T, class Between = nothing_between>
void multiply_triangle(const tile<T>& scores, const tile<T>& right, const tile<T>& to, std::int64_t columns,
                       std::int64_t start, std::int64_t last, bool accumulate, const Between& between = {}) noexcept {
  constexpr std::int64_t strip = 8;
  for (std::int64_t r = start; r <= last; r += strip) {
    const std::int64_t end = r + strip < last + 1 ? r + strip : last + 1;
    multiply(scores.row(r), scores.stride, 1, right.data, right.stride, to.row(r), to.stride, end - r, columns, end,
             accumulate, between);
  }
}

/// to += scores^T right, where rows [start, last] of the lower triangle are known; reaches rows [0, last].
template <class T, class Between = nothing_between>
void multiply_triangle_transposed(const tile<T>& scores, const tile<T>& right, const tile<T>& to, std::int64_t columns,
                                  std::int64_t start, std::int64_t last, const Between& between = {}) noexcept {
  // Rows are clean up to a whole register beyond the diagonal, and no further.
  constexpr std::int64_t strip = lane_count<T> < 8 ? lane_count<T> : 8;
  for (std::int64_t s = 0; s <= last; s += strip) {
    const std::int64_t end = s + strip < last + 1 ? s + strip : last + 1;
    const std::int64_t from = s > start ? s : start;  // a column is zero above the diagonal
    multiply(scores.row(from) + s, 1, scores.stride, right.row(from), right.stride, to.row(s), to.stride, end - s,
             columns, last + 1 - from, true, between);
  }
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
