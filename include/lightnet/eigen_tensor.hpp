// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/tensor.hpp>

#include <unsupported/Eigen/CXX11/Tensor>

// Views as Eigen::TensorMap and back, without a copy; apart from eigen.hpp because Eigen's Tensor module is large.

LIGHTNET_BEGIN_NAMESPACE

/// A dense view on the CPU as a row-major Eigen::TensorMap of the same memory. Throws shape_error unless it is dense.
template <class Shape, class T>
auto tensor_map_of(const view<Shape, T, cpu>& from) {
  if (!from.contiguous()) throw shape_error("tensor_map_of", "view", "a dense view", from.describe());
  using eigen_tensor = Eigen::Tensor<std::remove_const_t<T>, static_cast<int>(Shape::rank), Eigen::RowMajor>;
  Eigen::array<Eigen::Index, Shape::rank> shape{};
  for (std::size_t axis = 0; axis < Shape::rank; ++axis) shape[axis] = from.extent(axis);
  return Eigen::TensorMap<std::conditional_t<std::is_const_v<T>, const eigen_tensor, eigen_tensor>>(from.data(), shape);
}

/// The elements of an Eigen::Tensor or TensorMap as a view of its extents; a column-major one has the strides to match.
template <class Tensor>
auto view_of_tensor(Tensor& from) {
  constexpr std::size_t axes = static_cast<std::size_t>(Tensor::NumDimensions);
  std::array<std::int64_t, axes> shape{}, strides{};
  std::int64_t stride = 1;
  for (std::size_t step = 0; step < axes; ++step) {
    const bool row_major = static_cast<int>(Tensor::Layout) == static_cast<int>(Eigen::RowMajor);
    const std::size_t axis = row_major ? axes - 1 - step : step;
    shape[axis] = from.dimensions()[axis];
    strides[axis] = stride;
    stride *= shape[axis];
  }
  using element = std::remove_pointer_t<decltype(from.data())>;
  return dynamic_view<static_cast<int>(axes), element, cpu>{from.data(), {shape}, strides};
}

LIGHTNET_END_NAMESPACE
