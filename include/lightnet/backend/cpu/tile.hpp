// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/lanes.hpp>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

// C[m, n] (+)= A[m, k] B[k, n], the small matrix product under every recurrence.
//
// Every element of C is a sum in the order of k, chains of `segment` multiply-adds added up: its bits depend on its row
// of A and its column of B alone, not on the sizes of the product or the place in it. That is what makes a sequence
// come out the same alone and in a batch, and an earlier row the same whatever follows it. A may have any strides (so
// its transpose costs nothing); rows of B and C are dense, and n is a whole number of vector registers.

/// The terms that are summed in one go. Long chains of equal terms round to one side, and lose digits.
inline constexpr std::int64_t segment = 32;

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
      const T x = a[i * a_row + s * a_column];
      for (int j = 0; j < Vectors; ++j) sum[i][j] += x * row[j];
    }
  }
  for (int i = 0; i < Rows; ++i) {
    for (int j = 0; j < Vectors; ++j) {
      T* const to = c + i * c_row + j * width;
      store_lanes(to, accumulate ? load_lanes(to) + sum[i][j] : sum[i][j]);
    }
  }
}

template <int Vectors, class T>
inline void multiply_columns(const T* a, std::int64_t a_row, std::int64_t a_column, const T* b, std::int64_t b_row,
                             T* c, std::int64_t c_row, std::int64_t m, std::int64_t k, bool accumulate) noexcept {
  constexpr int tall = vector_bytes == 16 ? 4 : (vector_bytes == 32 ? 6 : 12);
  std::int64_t i = 0;
  for (; i + tall <= m; i += tall) {
    multiply_block<tall, Vectors>(a + i * a_row, a_row, a_column, b, b_row, c + i * c_row, c_row, k, accumulate);
  }
  for (; i + 4 <= m; i += 4) {
    multiply_block<4, Vectors>(a + i * a_row, a_row, a_column, b, b_row, c + i * c_row, c_row, k, accumulate);
  }
  for (; i < m; ++i) {
    multiply_block<1, Vectors>(a + i * a_row, a_row, a_column, b, b_row, c + i * c_row, c_row, k, accumulate);
  }
}

template <class T>
void multiply(const T* a, std::int64_t a_row, std::int64_t a_column, const T* b, std::int64_t b_row, T* c,
              std::int64_t c_row, std::int64_t m, std::int64_t n, std::int64_t k, bool accumulate) noexcept {
  constexpr std::int64_t width = lane_count<T>;
  for (std::int64_t s = 0; s == 0 || s < k; s += segment) {
    const std::int64_t depth = s + segment < k ? segment : k - s;
    const T* const left = a + s * a_column;
    const T* const right = b + s * b_row;
    const bool add = accumulate || s > 0;
    std::int64_t j = 0;
    for (; j + 2 * width <= n; j += 2 * width) {
      multiply_columns<2>(left, a_row, a_column, right + j, b_row, c + j, c_row, m, depth, add);
    }
    if (j < n) multiply_columns<1>(left, a_row, a_column, right + j, b_row, c + j, c_row, m, depth, add);
  }
}

/// A matrix in scratch memory whose rows end on whole registers; what pads them is zero or never read.
template <class T>
struct tile {
  T* data;
  std::int64_t stride;

  T* row(std::int64_t i) const noexcept { return data + i * stride; }
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
