// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/parallel.hpp>
#include <lightnet/core/half.hpp>
#include <lightnet/core/view.hpp>

#include <algorithm>
#include <string>
#include <type_traits>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Throws value_error for an id that is no row of a table of `rows`, naming the first.
inline void check_ids(const char* operation, const dynamic_view<1, const std::int32_t, cpu>& ids, std::int64_t rows) {
  for (std::int64_t r = 0; r < ids.extent(0); ++r) {
    if (ids(r) >= 0 && ids(r) < rows) continue;
    throw value_error(operation, "ids", "0 to " + std::to_string(rows - 1),
                      std::to_string(ids(r)) + " at row " + std::to_string(r));
  }
}

/// to[r] = table[ids[r]]. table [V, W], ids [R], to [R, W], rows dense. Throws value_error, before anything is written, for
/// an id that is no row of the table.
template <class T>
void gather_rows(execution<cpu>& on, const char* operation, const dynamic_view<2, const T, cpu>& table,
                 const dynamic_view<1, const std::int32_t, cpu>& ids, const dynamic_view<2, T, cpu>& to) {
  check_ids(operation, ids, table.extent(0));
  const std::int64_t width = to.extent(1), block = std::max<std::int64_t>(4096 / std::max<std::int64_t>(width, 1), 1);
  parallel_for(on, block_range::blocks(block, to.extent(0)), [&](std::int64_t index, int) {
    const block_range part{index, block, to.extent(0)};
    for (std::int64_t r = part.first; r < part.last; ++r) {
      std::copy_n(table.data() + ids(r) * table.stride(0), width, to.data() + r * to.stride(0));
    }
  });
}

/// to[v] = the sum of the rows r of `from` with ids[r] = v, in their order, beside what is there where it is added to.
/// from [R, W], to [V, W], rows dense. A thread takes some columns of all rows, so that no two write to one place; sums of
/// types of two bytes are in float. Throws as gather_rows does.
template <class T>
void scatter_rows(execution<cpu>& on, const char* operation, const dynamic_view<1, const std::int32_t, cpu>& ids,
                  const dynamic_view<2, const T, cpu>& from, const dynamic_view<2, T, cpu>& to, bool accumulate) {
  using sum_type = accumulator<T>;
  constexpr bool wide = !std::is_same_v<T, sum_type>;
  check_ids(operation, ids, to.extent(0));
  execution<cpu>::scope scratch{on};
  dynamic_view<2, sum_type, cpu> sums;
  if constexpr (wide) {
    sums = {scratch.take<sum_type>(to.size()), {{to.extent(0), to.extent(1)}}};
  } else {
    sums = to;
  }
  constexpr std::int64_t block = 64;
  parallel_for(on, block_range::blocks(block, to.extent(1)), [&](std::int64_t index, int) {
    const block_range part{index, block, to.extent(1)};
    const auto columns = [&part](const auto& matrix, std::int64_t row) {
      return matrix.data() + row * matrix.stride(0) + part.first;
    };
    const std::int64_t count = part.last - part.first;
    for (std::int64_t v = 0; v < to.extent(0) && (wide || !accumulate); ++v) {
      for (std::int64_t i = 0; i < count; ++i) columns(sums, v)[i] = accumulate ? columns(to, v)[i] : sum_type(0);
    }
    for (std::int64_t r = 0; r < from.extent(0); ++r) {
      sum_type* const sum = columns(sums, ids(r));
      const T* const x = columns(from, r);
      for (std::int64_t i = 0; i < count; ++i) sum[i] += x[i];
    }
    for (std::int64_t v = 0; v < to.extent(0) && wide; ++v) {
      for (std::int64_t i = 0; i < count; ++i) columns(to, v)[i] = static_cast<T>(columns(sums, v)[i]);
    }
  });
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
