// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/operands.hpp>

#include <tuple>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

// What a product may do beside multiplying: make its left rows, and go on with what it gives.

/// What reduce_map would write to `to`, all of whose rows are equal parts of the rows of a left factor, [rows, columns]. A
/// product that makes it by itself leaves `to` as it is. `finish` writes nothing.
template <class T, class Device, int Count, class Terms, class Finish, class Functor, class... Operand>
struct reduced_rows {
  dynamic_view<2, T, Device> rows;  // of the left factor, where they are written
  dynamic_view<2, T, Device> to;    // the same memory, by parts
  Terms terms;
  Finish finish;
  Functor functor;
  std::tuple<Operand...> operands;  // after `to`
};

template <int Count, class T, class Device, class Terms, class Finish, class Functor, class... Operand>
reduced_rows<T, Device, Count, Terms, Finish, Functor, Operand...> made_rows(const dynamic_view<2, T, Device>& rows,
                                                                             const dynamic_view<2, T, Device>& to,
                                                                             const Terms& terms, const Finish& finish,
                                                                             const Functor& functor,
                                                                             const Operand&... operands) {
  return {rows, to, terms, finish, functor, {operands...}};
}

/// A matrix that is added to the product, or none.
template <class T, class Device>
struct plus_matrix {
  dynamic_view<2, const T, Device> matrix = {};
};

/// What map does with the first columns of the product, side by side: functor(to, x, ...) with Parts arguments x from as many
/// equal parts, each as wide as `to`.
template <int Parts, class Functor, class T, class Device>
struct then_mapped {
  Functor functor;
  dynamic_view<2, T, Device> to;
};

template <int Parts, class Functor, class T, class Device>
then_mapped<Parts, Functor, T, Device> then_map(const Functor& functor, const dynamic_view<2, T, Device>& to) {
  return {functor, to};
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
