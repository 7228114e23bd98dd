// SPDX-License-Identifier: Apache-2.0
#pragma once

// product_of: a matrix product together with what makes its left rows and what goes on with the result.

#include <lightnet/backend/gemm.hpp>
#include <lightnet/backend/product_parts.hpp>
#include <lightnet/backend/reduce.hpp>
#if defined(LIGHTNET_HAS_CUDA)
#include <lightnet/backend/cuda/product_of.cuh>
#endif

#include <utility>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Whether products of so many rows make them, and go on, without kernels of their own for that, where sizes allow it.
inline bool products_do_more(const execution<cpu>&, std::int64_t) noexcept { return false; }

/// Does all of it in one kernel where there is one, or else nothing.
template <class Rows, class T, class Then>
bool one_kernel_product(execution<cpu>&, const Rows&, const dynamic_view<2, const T, cpu>&,
                        const dynamic_view<2, T, cpu>&, const Then&) noexcept {
  return false;
}

/// Left rows in memory.
template <class T, class Device>
dynamic_view<2, T, Device> write_rows(execution<Device>&, const dynamic_view<2, T, Device>& rows) {
  return rows;
}
template <class T, class Device, int Count, class Terms, class Finish, class Functor, class... Operand>
dynamic_view<2, const T, Device> write_rows(
    execution<Device>& on, const reduced_rows<T, Device, Count, Terms, Finish, Functor, Operand...>& made) {
  std::apply(
      [&](const auto&... operands) {
        reduce_map<accumulator<T>, Count>(on, made.to.extent(0), made.to.extent(1), made.terms, made.finish,
                                          made.functor, made.to, operands...);
      },
      made.operands);
  return made.rows;
}

template <class T, class Device>
void go_on(execution<Device>& on, const dynamic_view<2, T, Device>& c, const plus_matrix<T, Device>& then) {
  if (then.matrix) map(on, c.extent(0), c.extent(1), add_number{}, c, then.matrix);
}
template <int Parts, class Functor, class T, class Device>
void go_on(execution<Device>& on, const dynamic_view<2, T, Device>& c,
           const then_mapped<Parts, Functor, T, Device>& then) {
  const dynamic_view<2, const T, Device> from = c;
  const std::int64_t width = then.to.extent(1);
  [&]<int... I>(std::integer_sequence<int, I...>) {
    map(on, c.extent(0), width, then.functor, then.to, from.slice(1, I * width, width)...);
  }
  (std::make_integer_sequence<int, Parts>{});
}

/// C = A B for rows of A in memory or `reduced_rows`, and then `plus_matrix` or `then_mapped`. In parts, the product is rounded
/// before a matrix is added. C overlaps none of what is read.
template <class Rows, class T, class Device, class Then>
void product_of(execution<Device>& on, const Rows& a, const dynamic_view<2, const T, Device>& b,
                const dynamic_view<2, T, Device>& c, const Then& then) {
  if (one_kernel_product(on, a, b, c, then)) return;
  gemm<T>(on, write_rows(on, a), b, c, false);
  go_on(on, c, then);
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
