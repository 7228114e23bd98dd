// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/reduce_map.cuh>
#include <lightnet/backend/cuda/row_product.cuh>
#include <lightnet/backend/product_parts.hpp>

#include <cstdint>
#include <tuple>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// A row that each block makes as reduce_map would, with sums in the same order: chunks of it that lie together, by a block where
/// the row is long or has no parts, else each part by a warp.
template <class T, int Count, class Terms, class Finish, class Functor>
struct made_row {
  static constexpr int warp = row_tiling::warp, warps = row_tiling::warps, threads = row_tiling::threads;
  static constexpr int size = row_tiling::side_by_side;
  static_assert(threads == row_product<T>::threads);
  using number = accumulator<T>;
  row_tiling order;  // of the parts
  Terms terms;
  Finish finish;
  Functor functor;

  template <class... Operand>
  bool takes(const Operand&... operands) const noexcept {
    return order.columns % size == 0 && all_lie_together(order.rows, order.columns, operands...);
  }

  template <class... Operand>
  __device__ void prepare(const Operand&... operands) const {
    if (blockIdx.x == 0 && threadIdx.x == 0) (prefetch_operand(operands, order.columns), ...);
  }

  template <class... Operand>
  __device__ void write(T* to, std::int64_t, const Operand&... operands) const {
    __shared__ number slots[warps];
    const int parts = static_cast<int>(order.rows), columns = static_cast<int>(order.columns);
    const bool by_block = order.lanes != warp || parts == 1;
    const int lanes = by_block ? threads : warp, step = by_block ? 1 : warps;
    const int thread = static_cast<int>(threadIdx.x);
    const auto make_parts = [&](auto... held) {
#pragma unroll 1
      for (int part = thread / lanes; part < parts; part += step) {
        sums<number, Count> sum;
#pragma unroll 1
        for (int first = order.lane() * size; first < columns; first += static_cast<int>(order.reach())) {
          const T unread{};
          (held.load_all(row_of(operands, part, columns), first), ...);
#pragma unroll
          for (int place = 0; place < size; ++place) {
            const sums<number, Count> term = terms(unread, held[place]...);
#pragma unroll
            for (int s = 0; s < Count; ++s) sum.values[s] += term.values[s];
          }
        }
#pragma unroll
        for (int s = 0; s < Count; ++s) sum.values[s] = combine_row(order, sum.values[s], slots, add_numbers{});
        const auto finished = finish(part, sum);
        const with_finished<Functor, decltype(finished)> apply{functor, finished};
#pragma unroll 1
        for (int first = thread % lanes * size; first < columns; first += lanes * size) {
          using places = neighbouring_places<T, size>;
          places made;
          (held.load_all(row_of(operands, part, columns), first), ...);
#pragma unroll
          for (int place = 0; place < size; ++place) apply(made.values[place], held[place]...);
          *reinterpret_cast<typename places::words*>(to + part * columns + first) =
              bits_as<typename places::words>(made);
        }
      }
    };
    make_parts(held_places<place_order::together, decltype(row_of(operands, 0, columns)), false>{}...);
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

/// Calls `launch(then)` with what a kernel takes of `then`, or returns false where it takes nothing of the kind.
template <class T, class Launch>
bool with_row_of(const dynamic_view<2, T, cuda>&, const plus_matrix<T, cuda>& then, const Launch& launch) {
  if (then.matrix && then.matrix.stride(1) != 1) return false;
  launch(plus_row<T>{then.matrix.data()});
  return true;
}
template <int Parts, class Functor, class T, class Launch>
bool with_row_of(const dynamic_view<2, T, cuda>& c, const then_mapped<Parts, Functor, T, cuda>& then,
                 const Launch& launch) {
  static_assert(Parts == 1 || Parts == 2, "lightnet: a kernel goes on with one or two numbers of a row");
  const std::int64_t width = then.to.extent(1);
  const bool halves = 2 * width == c.extent(1) && c.extent(1) % row_product<T>::rows == 0;
  if (then.to.stride(1) != 1 || (Parts == 2 && !halves)) return false;
  launch(then_mapped_row<T, Parts, Functor>{then.functor, then.to.data(), width});
  return true;
}

/// One row of a few: by row_product, where it takes the weights.
template <class U, class T, class Then>
bool one_kernel_product(execution<cuda>& on, const dynamic_view<2, U, cuda>& a, const dynamic_view<2, const T, cuda>& b,
                        const dynamic_view<2, T, cuda>& c, const Then& then) {
  if (c.size() == 0 || b.size() == 0 || !row_product<T>::takes(b, c) || !given_row<T>::takes(a)) return false;
  return with_row_of(c, then, [&](const auto& of_row) {
    launch_row_product(on, row_product<T>::of(b, c), given_row<T>{a.data()}, of_row);
  });
}
template <class T, int Count, class Terms, class Finish, class Functor, class... Operand, class Then>
bool one_kernel_product(execution<cuda>& on, const reduced_rows<T, cuda, Count, Terms, Finish, Functor, Operand...>& a,
                        const dynamic_view<2, const T, cuda>& b, const dynamic_view<2, T, cuda>& c, const Then& then) {
  if (c.size() == 0 || b.size() == 0 || !row_product<T>::takes(b, c)) return false;
  const made_row<T, Count, Terms, Finish, Functor> row{row_tiling::by_chunks(a.to.extent(0), a.to.extent(1)), a.terms,
                                                       a.finish, a.functor};
  return std::apply(
      [&](const auto&... operands) {
        return row.takes(operand_of(operands)...) && with_row_of(c, then, [&](const auto& of_row) {
                 launch_row_product(on, row_product<T>::of(b, c), row, of_row, operand_of(operands)...);
               });
      },
      a.operands);
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
