// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/map.hpp>
#include <lightnet/core/half.hpp>

#include <algorithm>
#include <type_traits>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// A few sums that are built together.
template <class T, int Count>
struct sums {
  T values[Count] = {};
};

/// A finish that leaves what it gave, too.
template <class T, int Count, class Finish>
struct keep_finished {
  using finished_type = std::invoke_result_t<const Finish&, std::int64_t, const sums<T, Count>&>;
  Finish finish;
  finished_type* kept;
  LIGHTNET_HOST_DEVICE finished_type operator()(std::int64_t row, const sums<T, Count>& sum) const noexcept {
    return kept[row] = finish(row, sum);
  }
};

/// The sums of `terms(x, y, ...)` over one row: sixteen partial sums, then a tree, whatever the instruction set.
template <class T, int Count, class Terms, class... Row>
sums<T, Count> sum_row(const Terms& terms, std::int64_t columns, Row... row) noexcept {
  constexpr int width = 16;
  T partial[Count][width] = {};
  std::int64_t i = 0;
  for (; i + width <= columns; i += width) {
    for (int lane = 0; lane < width; ++lane) {
      const sums<T, Count> term = terms(row[i + lane]...);
      for (int s = 0; s < Count; ++s) partial[s][lane] += term.values[s];
    }
  }
  for (int lane = 0; i < columns; ++i, ++lane) {
    const sums<T, Count> term = terms(row[i]...);
    for (int s = 0; s < Count; ++s) partial[s][lane] += term.values[s];
  }
  sums<T, Count> total;
  for (int s = 0; s < Count; ++s) {
    for (int half = width / 2; half > 0; half /= 2) {
      for (int lane = 0; lane < half; ++lane) partial[s][lane] += partial[s][lane + half];
    }
    total.values[s] = partial[s][0];
  }
  return total;
}

/// For every row: the sums of `terms(x, y, ...)` over its columns, `finish(row, sums)` of them, and with what that gave
/// `functor(finished, x, y, ...)` at each place.
template <class T, int Count, class Terms, class Finish, class Functor, class... Operand>
void reduce_map(execution<cpu>& on, std::int64_t rows, std::int64_t columns, const Terms& terms, const Finish& finish,
                const Functor& functor, const Operand&... operands) {
  const std::int64_t block = rows_of_block(columns);
  parallel_for(on, block_range::blocks(block, rows), [&](std::int64_t index, int) {
    const block_range part{index, block, rows};
    for (std::int64_t r = part.first; r < part.last; ++r) {
      const auto finished = finish(r, sum_row<T, Count>(terms, columns, row_of(operands, r, columns)...));
      const auto place = [&](auto&... x) { functor(finished, x...); };
      map_row(place, columns, row_of(operands, r, columns)...);
    }
  });
}

/// to [period, columns] = the sums of `term(x, y, ...)` over the rows, those of each turn for themselves: blocks of a
/// fixed number of rows, added in their order; those of types of two bytes in float, rounded once.
template <class T, class Term, class... Operand>
void reduce_columns(execution<cpu>& on, std::int64_t rows, std::int64_t columns, T* to, std::int64_t period,
                    const Term& term, const Operand&... operands) {
  using sum_type = accumulator<T>;
  const std::int64_t block = 256 * period, size = period * columns;
  const std::int64_t blocks = std::max<std::int64_t>(1, block_range::blocks(block, rows));
  execution<cpu>::scope scratch{on};
  sum_type* const parts = scratch.take<sum_type>(blocks * size);
  parallel_for(on, blocks, [&](std::int64_t index, int) {
    const block_range range{index, block, rows};
    sum_type* const part = parts + index * size;
    std::fill_n(part, size, sum_type(0));
    const auto add = [&](sum_type& sum, auto&... x) { sum += term(x...); };
    for (std::int64_t r = range.first; r < range.last; ++r) {
      map_row(add, columns, part + r % period * columns, row_of(operands, r, columns)...);
    }
  });
  for (std::int64_t index = 1; index < blocks; ++index) {
    for (std::int64_t i = 0; i < size; ++i) parts[i] += parts[index * size + i];
  }
  for (std::int64_t i = 0; i < size; ++i) to[i] = static_cast<T>(parts[i]);
}

/// The two one after the other: what `finish` gave is kept for all rows.
template <class T, int Count, class U, class Terms, class Finish, class Functor, class Term, class Device,
          class... Operand>
void reduce_map_then_columns(execution<Device>& on, typename execution<Device>::scope& scratch, std::int64_t rows,
                             std::int64_t columns, const Terms& terms, const Finish& finish, const Functor& functor,
                             U* to, std::int64_t period, const Term& term, const Operand&... operands) {
  using finished_type = std::invoke_result_t<const Finish&, std::int64_t, const sums<T, Count>&>;
  auto* const finished = scratch.template take<finished_type>(rows);
  reduce_map<T, Count>(on, rows, columns, terms, keep_finished<T, Count, Finish>{finish, finished}, functor,
                       operands...);
  reduce_columns(on, rows, columns, to, period, term, by_row{finished}, operands...);
}

/// reduce_map, and to [period, columns] = the sums of `term(finished, x, y, ...)` over the rows as by reduce_columns. `functor`
/// writes nothing that `term` reads.
template <class T, int Count, class U, class Terms, class Finish, class Functor, class Term, class... Operand>
void reduce_map_and_columns(execution<cpu>& on, std::int64_t rows, std::int64_t columns, const Terms& terms,
                            const Finish& finish, const Functor& functor, U* to, std::int64_t period, const Term& term,
                            const Operand&... operands) {
  execution<cpu>::scope scratch{on};
  reduce_map_then_columns<T, Count>(on, scratch, rows, columns, terms, finish, functor, to, period, term, operands...);
}

/// Adds what every line gave, in their order: to [H] (+)= shares [L, H].
template <class T>
void sum_shares(execution<cpu>&, const dynamic_view<2, T, cpu>& shares, const dynamic_view<1, T, cpu>& to,
                bool accumulate) {
  for (std::int64_t h = 0; h < to.extent(0); ++h) {
    T sum = accumulate ? to(h) : T(0);
    for (std::int64_t b = 0; b < shares.extent(0); ++b) sum += shares(b, h);
    to(h) = sum;
  }
}

/// The same for [1 or H, share] from [L, H, share]: heads that share their angles are added too.
template <class T>
void sum_shares(execution<cpu>&, const dynamic_view<3, T, cpu>& shares, const dynamic_view<2, T, cpu>& to,
                bool accumulate) {
  const bool per_head = to.extent(0) == shares.extent(1);
  for (std::int64_t row = 0; row < to.extent(0); ++row) {
    for (std::int64_t j = 0; j < to.extent(1); ++j) {
      T sum = accumulate ? to(row, j) : T(0);
      for (std::int64_t b = 0; b < shares.extent(0); ++b) {
        for (std::int64_t h = 0; h < shares.extent(1); ++h) {
          if (!per_head || h == row) sum += shares(b, h, j);
        }
      }
      to(row, j) = sum;
    }
  }
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
