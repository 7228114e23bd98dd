// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/reduce.cuh>
#include <lightnet/backend/cuda/row_product.cuh>
#include <lightnet/backend/product_parts.hpp>

#include <tuple>
#include <utility>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// A row that each block makes as reduce_map would, with sums in the same order. Long parts are summed by a block, each short
/// one by a warp, or the only one by every warp.
template <class T, int Count, class Terms, class Finish, class Functor>
struct made_row {
  static constexpr int warp = row_tiling::warp, warps = row_tiling::warps, threads = row_tiling::threads;
  static_assert(threads == row_product<T>::threads);
  using number = accumulator<T>;
  row_tiling order;  // of the parts
  bool together;     // whether the operands are read in chunks
  Terms terms;
  Finish finish;
  Functor functor;

  template <class... Operand>
  __device__ void prepare(const Operand&... operands) const {
    if (blockIdx.x == 0 && threadIdx.x == 0) (prefetch_operand(operands, order.columns), ...);
  }

  template <class... Operand>
  __device__ void write(T* to, std::int64_t, const Operand&... operands) const {
    __shared__ number slots[warps];
    const by_place<T> made{to, order.columns};
    const int parts = static_cast<int>(order.rows), columns = static_cast<int>(order.columns);
    const bool by_block = order.lanes != warp || parts == 1;
    const int lanes = by_block ? threads : warp, step = by_block ? 1 : warps;
    const int thread = static_cast<int>(threadIdx.x);
    for (int part = thread / lanes; part < parts; part += step) {
      sums<number, Count> sum;
      const auto add = [&](const sums<number, Count>& term) {
#pragma unroll
        for (int s = 0; s < Count; ++s) sum.values[s] += term.values[s];
      };
      const auto add_chunks = [&](auto... held) {
        constexpr int size = row_tiling::side_by_side;
        for (int first = order.lane() * size; first < columns; first += static_cast<int>(order.reach())) {
          if (together && first + size <= columns) {
            const T unread{};
            (held.load_all(row_of(operands, part, columns), first), ...);
#pragma unroll
            for (int place = 0; place < size; ++place) add(terms(unread, held[place]...));
          } else {
#pragma unroll 1
            for (int c = first; c < columns && c < first + size; ++c) {
              add(terms(row_of(made, part, columns)[c], row_of(operands, part, columns)[c]...));
            }
          }
        }
      };
      add_chunks(held_places<place_order::together, decltype(row_of(operands, part, columns)), false>{}...);
#pragma unroll
      for (int s = 0; s < Count; ++s) sum.values[s] = combine_row(order, sum.values[s], slots, add_numbers{});
      const auto finished = finish(part, sum);
      const with_finished<Functor, decltype(finished)> place{functor, finished};
      for (int first = thread % lanes; first < columns; first += lanes * places_at_once<place_order::apart>) {
        map_places<place_order::apart>(place, first, lanes, columns, std::index_sequence_for<T, Operand...>{},
                                       row_of(made, part, columns), row_of(operands, part, columns)...);
      }
    }
  }
};

/// For then_mapped.
template <class T, int Parts, class Functor>
struct then_mapped_row {
  static constexpr int parts = Parts;
  Functor functor;
  T* to;
  std::int64_t width;
  __device__ accumulator<T> start(int) const noexcept { return accumulator<T>(0); }
  __device__ void go_on(int n, const T& x) const noexcept {
    if (n < width) functor(to[n], x);
  }
  __device__ void go_on(int n, const T& x, const T& y) const noexcept { functor(to[n], x, y); }
};

inline bool products_do_more(const execution<cuda>&, std::int64_t rows) noexcept { return rows == 1; }

/// Calls `launch(then, soon)` with what a kernel takes of `then`, or returns false where it takes nothing of the kind.
template <class T, class Launch>
bool with_row_of(const dynamic_view<2, T, cuda>&, const plus_matrix<T, cuda>& then, const Launch& launch) {
  if (then.matrix && then.matrix.stride(1) != 1) return false;
  launch(plus_row<T>{then.matrix.data()}, cache_request{});
  return true;
}
template <int Parts, class Functor, class T, class Launch>
bool with_row_of(const dynamic_view<2, T, cuda>& c, const then_mapped<Parts, Functor, T, cuda>& then,
                 const Launch& launch) {
  static_assert(Parts == 1 || Parts == 2, "lightnet: a kernel goes on with one or two numbers of a row");
  const std::int64_t width = then.to.extent(1);
  const bool halves = 2 * width == c.extent(1) && c.extent(1) % row_product<T>::rows == 0;
  if (then.to.stride(1) != 1 || (Parts == 2 && !halves)) return false;
  launch(then_mapped_row<T, Parts, Functor>{then.functor, then.to.data(), width}, cache_request{then.soon});
  return true;
}

/// One row of a few: by row_product, where it takes the weights.
template <class U, class T, class Then>
bool one_kernel_product(execution<cuda>& on, const dynamic_view<2, U, cuda>& a, const dynamic_view<2, const T, cuda>& b,
                        const dynamic_view<2, T, cuda>& c, const Then& then) {
  if (c.size() == 0 || b.size() == 0 || !row_product<T>::takes(b, c) || !given_row<T>::takes(a)) return false;
  return with_row_of(c, then, [&](const auto& of_row, const cache_request& soon) {
    launch_row_product(on, row_product<T>::of(b, c, soon), given_row<T>{a.data()}, of_row);
  });
}
template <class T, int Count, class Terms, class Finish, class Functor, class... Operand, class Then>
bool one_kernel_product(execution<cuda>& on, const reduced_rows<T, cuda, Count, Terms, Finish, Functor, Operand...>& a,
                        const dynamic_view<2, const T, cuda>& b, const dynamic_view<2, T, cuda>& c, const Then& then) {
  if (c.size() == 0 || b.size() == 0 || !row_product<T>::takes(b, c)) return false;
  const made_row<T, Count, Terms, Finish, Functor> row{row_tiling::by_chunks(a.to.extent(0), a.to.extent(1)),
                                                       std::apply(
                                                           [&](const auto&... operands) {
                                                             return all_lie_together(a.to.extent(0), a.to.extent(1),
                                                                                     operand_of(operands)...);
                                                           },
                                                           a.operands),
                                                       a.terms, a.finish, a.functor};
  return with_row_of(c, then, [&](const auto& of_row, const cache_request& soon) {
    std::apply(
        [&](const auto&... operands) {
          launch_row_product(on, row_product<T>::of(b, c, soon), row, of_row, operand_of(operands)...);
        },
        a.operands);
  });
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
