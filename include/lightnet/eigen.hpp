// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/eigen.hpp>
#include <lightnet/core/tensor.hpp>

// Eigen's matrices and vectors as views, and views as Eigen::Map, without a copy either way.

LIGHTNET_BEGIN_NAMESPACE

/// What map_of gives: a row-major map with strides; Rows and Columns are those of the view where it knows them.
template <class T, std::int64_t Rows, std::int64_t Columns>
using eigen_matrix_map = Eigen::Map<
    std::conditional_t<std::is_const_v<T>,
                       const Eigen::Matrix<std::remove_const_t<T>, static_cast<int>(Rows), static_cast<int>(Columns),
                                           Columns == 1 && Rows != 1 ? Eigen::ColMajor : Eigen::RowMajor>,
                       Eigen::Matrix<T, static_cast<int>(Rows), static_cast<int>(Columns),
                                     Columns == 1 && Rows != 1 ? Eigen::ColMajor : Eigen::RowMajor>>,
    Eigen::Unaligned, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>>;

/// A view of rank 2 on the CPU as an Eigen::Map of the same memory, of any strides that are not negative. Throws
/// shape_error for a negative stride, which Eigen has not.
template <class Shape, class T>
  requires(Shape::rank == 2)
auto map_of(const view<Shape, T, cpu>& from) {
  constexpr std::int64_t rows = Shape::static_extent(0), columns = Shape::static_extent(1);
  if (from.stride(0) < 0 || from.stride(1) < 0) {
    throw shape_error("map_of", "view", "no negative stride", from.describe());
  }
  constexpr bool column_vector = columns == 1 && rows != 1;
  const std::int64_t inner = from.stride(column_vector ? 0 : 1), outer = from.stride(column_vector ? 1 : 0);
  return eigen_matrix_map<T, rows, columns>(from.data(), from.extent(0), from.extent(1),
                                            Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>(outer, inner));
}

/// A view of rank 1 on the CPU as an Eigen::Map of a column vector. Throws shape_error for a negative stride.
template <class Shape, class T>
  requires(Shape::rank == 1)
auto map_of(const view<Shape, T, cpu>& from) {
  return map_of(view<extents<Shape::static_extent(0), 1>, T, cpu>{
      from.data(), extents<Shape::static_extent(0), 1>{{from.extent(0), 1}}, {from.stride(0), from.size()}});
}

/// The elements of an Eigen matrix, vector, map or block as a view of rank 2; extents that Eigen knows at compile time
/// stay known. The view is valid as long as Eigen's memory is.
template <class Derived>
auto view_of(Eigen::DenseBase<Derived>& from) {
  Derived& matrix = from.derived();
  using shape = extents<Derived::RowsAtCompileTime, Derived::ColsAtCompileTime>;
  static_assert(Eigen::Dynamic == dynamic, "both libraries write a run-time extent as -1");
  static_assert((Derived::Flags & Eigen::DirectAccessBit) != 0,
                "lightnet: an Eigen expression without memory has no view; evaluate it into a matrix first");
  using element = std::remove_pointer_t<decltype(matrix.data())>;
  return view<shape, element, cpu>{
      matrix.data(), shape{{matrix.rows(), matrix.cols()}}, {matrix.rowStride(), matrix.colStride()}};
}
template <class Derived>
auto view_of(const Eigen::DenseBase<Derived>& from) {
  const Derived& matrix = from.derived();
  static_assert((Derived::Flags & Eigen::DirectAccessBit) != 0,
                "lightnet: an Eigen expression without memory has no view; evaluate it into a matrix first");
  using shape = extents<Derived::RowsAtCompileTime, Derived::ColsAtCompileTime>;
  return view<shape, const typename Derived::Scalar, cpu>{
      matrix.data(), shape{{matrix.rows(), matrix.cols()}}, {matrix.rowStride(), matrix.colStride()}};
}

LIGHTNET_END_NAMESPACE
