// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/reduce.cuh>
#include <lightnet/backend/cuda/row_product.cuh>
#include <lightnet/backend/product_parts.hpp>

#include <cstddef>
#include <cstdint>
#include <tuple>
#include <type_traits>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Numbers of an operand that one thread reads at a time, beside those of a piece of the row that is made.
template <class U, int Count>
struct alignas(16) operand_piece {
  U values[Count];
  __device__ const U& operator[](int i) const { return values[i]; }
};

/// Where an operand has part `part`, of so many columns, of the row.
template <class U>
__device__ const U* part_of_row(const by_place<const U>& operand, int part, int) {
  return operand.data + part * operand.stride;
}
template <class U>
__device__ const U* part_of_row(const by_column<const U>& operand, int part, int columns) {
  return operand.data + part % static_cast<int>(operand.period) * columns;
}

/// Whether its parts may be read 16 bytes at a time.
template <class U>
bool in_pieces(const by_place<const U>& operand, std::int64_t) noexcept {
  return reinterpret_cast<std::uintptr_t>(operand.data) % 16 == 0 &&
         operand.stride * static_cast<std::int64_t>(sizeof(U)) % 16 == 0;
}
template <class U>
bool in_pieces(const by_column<const U>& operand, std::int64_t columns) noexcept {
  return in_pieces(by_place<const U>{operand.data, columns}, columns);
}

/// A row that each block makes as reduce_map would, with sums in the same order. Each thread makes pieces of 16 bytes of it, and
/// before that their terms, in shared memory behind the row. Long parts are summed by a block, each short one by a warp, or the
/// only one by every warp.
template <class T, int Count, class Terms, class Finish, class Functor>
struct made_row {
  static constexpr int warp = row_tiling::warp, warps = row_tiling::warps, threads = row_tiling::threads;
  static constexpr int width = row_product<T>::width;
  static_assert(threads == row_product<T>::threads);
  using number = accumulator<T>;
  using term_type = sums<number, Count>;
  using finished_type = std::remove_cvref_t<std::invoke_result_t<const Finish&, std::int64_t, const term_type&>>;
  static constexpr std::int64_t longest = 64 * 1024 / static_cast<std::int64_t>(sizeof(term_type));
  static constexpr std::int64_t most_parts = 128;

  row_tiling order;  // of the parts
  Terms terms;
  Finish finish;
  Functor functor;

  template <class... Operand>
  bool takes(const Operand&... operands) const noexcept {
    return order.rows * order.columns <= longest && order.rows <= most_parts && order.columns % width == 0 &&
           (in_pieces(operands, order.columns) && ...);
  }
  std::size_t more_shared_bytes(std::int64_t k) const noexcept {
    return static_cast<std::size_t>(k) * sizeof(term_type);
  }

  template <class... Operand>
  __device__ void prepare(const Operand&... operands) const {
    if (blockIdx.x == 0 && threadIdx.x == 0) (prefetch_operand(operands, order.columns), ...);
  }

  template <class... Operand>
  __device__ void write(T* to, std::int64_t k, const Operand&... operands) const {
    __shared__ number slots[warps];
    __shared__ alignas(16) unsigned char all_finished[most_parts * sizeof(finished_type)];
    auto* const finished = reinterpret_cast<finished_type*>(all_finished);
    auto* const all_terms = reinterpret_cast<term_type*>(to + k);
    const int parts = static_cast<int>(order.rows), columns = static_cast<int>(order.columns);
    const int thread = static_cast<int>(threadIdx.x), pieces = static_cast<int>(k) / width;
    const auto each_piece = [&](const auto& body) {
#pragma unroll 1
      for (int n = thread; n < pieces; n += threads) {
        const int part = n * width / columns, column = n * width - part * columns;
        body(n * width, part, load(part_of_row(operands, part, columns) + column)...);
      }
    };
    each_piece([&](int place, int, const auto&... held) {
      const T made{};
#pragma unroll
      for (int i = 0; i < width; ++i) all_terms[place + i] = terms(made, held[i]...);
    });
    __syncthreads();
    const bool together = order.lanes != warp || parts == 1;
    const int lanes = together ? threads : warp, step = together ? 1 : warps;
#pragma unroll 1
    for (int part = thread / lanes; part < parts; part += step) {
      const term_type* const of_part = all_terms + part * columns;
      term_type sum;
#pragma unroll 8
      for (int c = order.lane(); c < columns; c += order.lanes) {
#pragma unroll
        for (int s = 0; s < Count; ++s) sum.values[s] += of_part[c].values[s];
      }
#pragma unroll
      for (int s = 0; s < Count; ++s) sum.values[s] = combine_row(order, sum.values[s], slots, add_numbers{});
      if (thread % lanes == 0) finished[part] = finish(part, sum);
    }
    __syncthreads();
    each_piece([&](int place, int part, const auto&... held) {
      const with_finished<Functor, finished_type> apply{functor, finished[part]};
      operand_piece<T, width> made;
#pragma unroll
      for (int i = 0; i < width; ++i) apply(made.values[i], held[i]...);
      *reinterpret_cast<operand_piece<T, width>*>(to + place) = made;
    });
  }

 private:
  template <class U>
  __device__ static operand_piece<U, width> load(const U* from) {
    return *reinterpret_cast<const operand_piece<U, width>*>(from);
  }
};

/// For then_mapped.
template <class T, int Parts, class Functor, class To>
struct then_mapped_row {
  static constexpr int parts = Parts;
  Functor functor;
  To* to;
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
template <int Parts, class Functor, class T, class To, class Launch>
bool with_row_of(const dynamic_view<2, T, cuda>& c, const then_mapped<Parts, Functor, To, cuda>& then,
                 const Launch& launch) {
  static_assert(Parts == 1 || Parts == 2, "lightnet: a kernel goes on with one or two numbers of a row");
  const std::int64_t width = then.to.extent(1);
  const bool halves = 2 * width == c.extent(1) && c.extent(1) % row_product<T>::rows == 0;
  if (then.to.stride(1) != 1 || (Parts == 2 && !halves)) return false;
  launch(then_mapped_row<T, Parts, Functor, To>{then.functor, then.to.data(), width});
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
  const made_row<T, Count, Terms, Finish, Functor> row{{a.to.extent(0), a.to.extent(1)}, a.terms, a.finish, a.functor};
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
