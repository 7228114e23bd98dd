// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/parallel.hpp>
#include <lightnet/backend/operands.hpp>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

template <class Functor, class... Row>
void map_row(const Functor& functor, std::int64_t columns, Row... row) noexcept {
  LIGHTNET_OMP(omp simd)
  for (std::int64_t i = 0; i < columns; ++i) functor(row[i]...);
}

/// Rows that make a piece of work worth handing to a thread.
constexpr std::int64_t rows_of_block(std::int64_t columns) noexcept { return columns > 0 ? 1 + 16384 / columns : 1; }

/// Calls `functor(x, y, ...)` with references to what each operand has at every place of a matrix [rows, columns]; the
/// functor reads the const ones and writes the others. Rows are dense; written operands overlap no other.
template <class Functor, class... Operand>
void map(execution<cpu>& on, std::int64_t rows, std::int64_t columns, const Functor& functor,
         const Operand&... operands) {
  const std::int64_t block = rows_of_block(columns);
  parallel_for(on, block_range::blocks(block, rows), [&](std::int64_t index, int) {
    const block_range part{index, block, rows};
    for (std::int64_t r = part.first; r < part.last; ++r) map_row(functor, columns, row_of(operands, r, columns)...);
  });
}

/// A matrix in float, dense and in memory of the scope, from one whose rows are dense.
template <class T>
dynamic_view<2, float, cpu> widened(execution<cpu>& on, execution<cpu>::scope& scratch,
                                    const dynamic_view<2, T, cpu>& m) {
  const dynamic_view<2, float, cpu> to{scratch.take<float>(m.size()), {{m.extent(0), m.extent(1)}}};
  map(on, to.extent(0), to.extent(1), convert_number{}, to, m);
  return to;
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
