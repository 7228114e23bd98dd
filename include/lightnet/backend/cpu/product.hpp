// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/tile.hpp>
#include <lightnet/core/math.hpp>

#include <algorithm>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

// C[m, n] (+)= A[m, k] B[k, n], the small matrix product under every recurrence.
//
// Every element of C is a sum in the order of k, chains of `segment` multiply-adds added up (where two products are
// summed, their first segments are one chain): its bits depend on its row
// of A and its column of B alone, not on the sizes of the product or the place in it. That is what makes a sequence
// come out the same alone and in a batch, and an earlier row the same whatever follows it. A may have any strides (so
// its transpose costs nothing); rows of B and C are dense, and n is a whole number of vector registers.

/// The terms that are summed in one go. Long chains of equal terms round to one side, and lose digits.
inline constexpr std::int64_t segment = 64;

/// A [m, k] and B [k, n], to be multiplied.
template <class T>
struct factors {
  const T* a;
  std::int64_t a_row, a_column;
  const T* b;
  std::int64_t b_row, depth;

  /// left right, left having `depth` columns.
  static factors of(const tile<T>& left, const tile<T>& right, std::int64_t depth) noexcept {
    return {left.data, left.stride, 1, right.data, right.stride, depth};
  }
  /// left^T right, left having `depth` rows.
  static factors transposed(const tile<T>& left, const tile<T>& right, std::int64_t depth) noexcept {
    return {left.data, 1, left.stride, right.data, right.stride, depth};
  }
  /// The part that gives rows [i, m) and columns [j, n).
  factors part(std::int64_t i, std::int64_t j) const noexcept {
    return {a + i * a_row, a_row, a_column, b + j, b_row, depth};
  }
  /// The terms [first, first + count) of the sums.
  factors terms(std::int64_t first, std::int64_t count) const noexcept {
    return {a + first * a_column, a_row, a_column, b + first * b_row, b_row, count};
  }
};

/// Which numbers scale a matrix: one for each row, or one for each column.
enum class scaling { rows, columns };

/// keep old + gain fresh for one register, whose first factors are number `place`.
template <scaling By, class T>
lanes<T> blend(const T* keep, const lanes<T>& old, const T* gain, const lanes<T>& fresh, std::int64_t place) noexcept {
  const auto factor = [place](const T* of) {
    return By == scaling::rows ? all_lanes<lanes<T>>(of[place]) : load_lanes(of + place);
  };
  return multiply_add(factor(gain), fresh, factor(keep) * old);
}

/// Where a product goes: in place of what is there, or added to it.
template <class T>
struct destination {
  T* data;
  std::int64_t stride;
  bool accumulate = false;

  static destination in(const tile<T>& to) noexcept { return {to.data, to.stride}; }
  static destination onto(const tile<T>& to, bool accumulate = true) noexcept {
    return {to.data, to.stride, accumulate};
  }
  destination part(std::int64_t i, std::int64_t j) const noexcept {
    return {data + i * stride + j, stride, accumulate};
  }

  void fetch(std::int64_t i) const noexcept {
    if (accumulate) __builtin_prefetch(data + i * stride, 1);
  }
  void store(std::int64_t i, std::int64_t j, const lanes<T>& sum) const noexcept {
    T* const c = data + i * stride + j;
    store_lanes(c, accumulate ? load_lanes(c) + sum : sum);
  }
};

/// A state after a chunk: keep old + gain A B. The product is of one segment.
template <scaling By, class T>
struct next_state {
  T* data;
  const T* old;  // may be `data`
  std::int64_t stride;
  const T *keep, *gain;    // one for each row or column
  bool is_handed = false;  // another thread will read it

  next_state part(std::int64_t i, std::int64_t j) const noexcept {
    const std::int64_t place = i * stride + j, factor = By == scaling::rows ? i : j;
    return {data + place, old + place, stride, keep + factor, gain + factor, is_handed};
  }
  void fetch(std::int64_t i) const noexcept { __builtin_prefetch(old + i * stride, 1); }
  void store(std::int64_t i, std::int64_t j, const lanes<T>& sum) const noexcept {
    advance(i * stride + j, By == scaling::rows ? i : j, sum);
  }
  /// One register, from that of the product; its first factors are number `factor`.
  void advance(std::int64_t place, std::int64_t factor, const lanes<T>& sum) const noexcept {
    const lanes<T> value = blend<By>(keep, load_lanes(old + place), gain, sum, factor);
    is_handed ? stream_lanes(data + place, value) : store_lanes(data + place, value);
  }
};

/// Adds the terms of a block of rows and registers to its sums. Always inlined, or the sums would lie in memory.
template <int Rows, int Vectors, class T>
[[gnu::always_inline]] inline void add_terms(lanes<T> (&sum)[Rows][Vectors], const factors<T>& of) noexcept {
  // A pointer for every fourth row, which the compiler must not derive from each other: it would need a register for the
  // place of every row, and there are too few.
  constexpr int step = 4, pointers = (Rows + step - 1) / step;
  const T* left[pointers];
  LIGHTNET_UNROLL
  for (int i = 0; i < pointers; ++i) {
    left[i] = of.a + i * step * of.a_row;
    asm("" : "+r"(left[i]));
  }
  const T* right = of.b;
  for (std::int64_t s = 0; s < of.depth; ++s, right += of.b_row) {
    lanes<T> row[Vectors];
    for (int j = 0; j < Vectors; ++j) row[j] = load_lanes(right + j * lane_count<T>);
    LIGHTNET_UNROLL
    for (int i = 0; i < Rows; ++i) {
      const lanes<T> x = all_lanes<lanes<T>>(left[i / step][i % step * of.a_row]);
      for (int j = 0; j < Vectors; ++j) sum[i][j] = multiply_add(x, row[j], sum[i][j]);
    }
    for (int i = 0; i < pointers; ++i) left[i] += of.a_column;
  }
}

/// One block of C. Not inlined: what surrounds it would take the registers of its inner loop.
template <int Rows, int Vectors, class T, class To, class... Factors>
[[gnu::noinline]] void multiply_block(const To& to, const Factors&... products) noexcept {
  lanes<T> sum[Rows][Vectors];
  LIGHTNET_UNROLL
  for (int i = 0; i < Rows; ++i) {
    to.fetch(i);
    for (int j = 0; j < Vectors; ++j) sum[i][j] = lanes<T>{};
  }
  (add_terms(sum, products), ...);
  LIGHTNET_UNROLL
  for (int i = 0; i < Rows; ++i) {
    for (int j = 0; j < Vectors; ++j) to.store(i, j * lane_count<T>, sum[i][j]);
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

template <int Vectors, class T, class To, class Between, class... Factors>
inline void multiply_columns(const To& to, std::int64_t m, std::int64_t column, const Between& between,
                             const Factors&... products) noexcept {
  const auto block = [&]<int Rows>(std::int64_t i) {
    between();
    multiply_block<Rows, Vectors, T>(to.part(i, column), products.part(i, column)...);
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

template <class T, class To, class Between, class... Factors>
inline void multiply_segment(const To& to, std::int64_t m, std::int64_t n, const Between& between,
                             const Factors&... products) noexcept {
  constexpr std::int64_t width = lane_count<T>;
  std::int64_t j = 0;
  for (; j + 2 * width <= n; j += 2 * width) multiply_columns<2, T>(to, m, j, between, products...);
  if (j < n) multiply_columns<1, T>(to, m, j, between, products...);
}

/// The state [m, n] from one product.
template <scaling By, class T, class Between = nothing_between>
void multiply(const next_state<By, T>& to, std::int64_t m, std::int64_t n, const factors<T>& product,
              const Between& between = {}) noexcept {
  multiply_segment<T>(to, m, n, between, product);
}

/// C [m, n] from one product.
template <class T, class Between = nothing_between>
void multiply(const destination<T>& to, std::int64_t m, std::int64_t n, const factors<T>& product,
              const Between& between = {}) noexcept {
  destination<T> next = to;
  for (std::int64_t s = 0; s == 0 || s < product.depth; s += segment) {
    multiply_segment<T>(next, m, n, between, product.terms(s, std::min(segment, product.depth - s)));
    next.accumulate = true;
  }
}

/// C [m, n] from the sum of two products, whose first segments are one chain: terms of zero at the end of either change no
/// bit.
template <class T, class Between = nothing_between>
void multiply(const destination<T>& to, std::int64_t m, std::int64_t n, const factors<T>& left, const factors<T>& right,
              const Between& between = {}) noexcept {
  multiply_segment<T>(to, m, n, between, left.terms(0, std::min(segment, left.depth)),
                      right.terms(0, std::min(segment, right.depth)));
  for (const factors<T>& product : {left, right}) {
    if (product.depth <= segment) continue;
    multiply(destination<T>{to.data, to.stride, true}, m, n, product.terms(segment, product.depth - segment), between);
  }
}

/// scores = tril(left right^T) for rows [start, last], `right` being transposed: what lies above the diagonal is zero by
/// selection, and beyond the columns that are written it stays zero, as in a tile that began as zero.
template <class T, class Between = nothing_between>
void lower_triangle(const tile<T>& left, const tile<T>& right, const tile<T>& scores, std::int64_t depth,
                    std::int64_t start, std::int64_t last, const Between& between = {}) noexcept {
  constexpr std::int64_t strip = 16;
  for (std::int64_t r = start; r <= last; r += strip) {
    const std::int64_t end = r + strip < last + 1 ? r + strip : last + 1;
    const std::int64_t columns = whole_lanes<T>(end);
    multiply(destination<T>::in(scores.from(r)), end - r, columns, factors<T>::of(left.from(r), right, depth), between);
    for (std::int64_t t = r; t < end; ++t) {
      std::int64_t s = t / lane_count<T> * lane_count<T>;
      T* const row = scores.row(t);
      store_lanes(row + s, first_lanes<T>(load_lanes(row + s), t + 1 - s));
      while ((s += lane_count<T>) < columns) store_lanes(row + s, lanes<T>{});
    }
  }
}

/// to (+)= scores right + more for rows [start, last] of a lower triangle; `more` are the factors of another product that
/// gives these rows, or none.
template <class T, class Between, class... More>
void multiply_triangle(const tile<T>& scores, const tile<T>& right, const destination<T>& to, std::int64_t columns,
                       std::int64_t start, std::int64_t last, const Between& between, const More&... more) noexcept {
  constexpr std::int64_t strip = 8, across = 2 * lane_count<T>;
  for (std::int64_t j = 0; j < columns; j += across) {  // so that these columns of B are read from afar but once
    for (std::int64_t r = start; r <= last; r += strip) {
      const std::int64_t end = std::min(r + strip, last + 1);
      multiply(to.part(r - start, j), end - r, std::min(across, columns - j),
               factors<T>::of(scores.from(r), right, end).part(0, j), more.part(r - start, j)..., between);
    }
  }
}

/// to (+)= scores^T right + more, where rows [start, last] of the lower triangle are known; reaches rows [0, last].
template <class T, class Between, class... More>
void multiply_triangle_transposed(const tile<T>& scores, const tile<T>& right, const destination<T>& to,
                                  std::int64_t columns, std::int64_t start, std::int64_t last, const Between& between,
                                  const More&... more) noexcept {
  constexpr std::int64_t strip = lane_count<T> < 8 ? lane_count<T> : 8, across = 2 * lane_count<T>;
  for (std::int64_t j = 0; j < columns; j += across) {
    for (std::int64_t s = 0; s <= last; s += strip) {
      const std::int64_t end = std::min(s + strip, last + 1);
      const std::int64_t from = std::max(s, start);  // a column is zero above the diagonal
      const tile<T> columns_of{scores.row(from) + s, scores.stride};
      multiply(to.part(s, j), end - s, std::min(across, columns - j),
               factors<T>::transposed(columns_of, right.from(from), last + 1 - from).part(0, j), more.part(s, j)...,
               between);
    }
  }
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
