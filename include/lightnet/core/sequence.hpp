// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/grid.hpp>

LIGHTNET_BEGIN_NAMESPACE

/// What layers hand each other: the tokens of B sequences, densely [B, N, width], where they lie, and which count. `origin`
/// is added to the grid's offset where the work is done: calls that are repeated as a CUDA graph go on from place to place.
template <int Dims, class T, class Device = cpu>
struct sequence {
  dynamic_view<3, T, Device> tokens{};                   // [B, N, width], dense
  lightnet::grid<Dims> grid{};                           // of N tokens
  dynamic_view<2, const bool, Device> mask{};            // [B, N]; false deletes a token; empty keeps all
  dynamic_view<1, const std::int64_t, Device> origin{};  // [Dims], or empty

  sequence() noexcept = default;

  sequence(const dynamic_view<3, T, Device>& values, const lightnet::grid<Dims>& where,
           const dynamic_view<2, const bool, Device>& keep = {},
           const dynamic_view<1, const std::int64_t, Device>& from = {})
      : tokens{values}, grid{where}, mask{keep}, origin{from} {
    if (!tokens.contiguous() || tokens.extent(1) != grid.size()) {
      throw shape_error("sequence", "tokens", "a dense view [B, " + std::to_string(grid.size()) + ", width]",
                        tokens.describe());
    }
    if (mask && mask.extents() != std::array<std::int64_t, 2>{tokens.extent(0), tokens.extent(1)}) {
      throw shape_error("sequence", "mask", "the batch and tokens of " + tokens.describe(), mask.describe());
    }
  }

  /// A dense view [B, n_1, ..., n_M, width].
  template <class Shape, class U>
    requires(Shape::rank == Dims + 2 && std::is_convertible_v<U (*)[], T (*)[]>)
  sequence(const view<Shape, U, Device>& values)  // NOLINT(google-explicit-constructor): an argument type
      : sequence(flattened(values), grid_of(values)) {}

  template <class U>
    requires(std::is_same_v<U, const T> && !std::is_const_v<T>)
  operator sequence<Dims, U, Device>() const {  // NOLINT(google-explicit-constructor): as a view
    return {tokens, grid, mask, origin};
  }

  LIGHTNET_HOST_DEVICE std::int64_t batch() const noexcept { return tokens.extent(0); }
  LIGHTNET_HOST_DEVICE std::int64_t width() const noexcept { return tokens.extent(2); }

  /// The tokens of all sequences as rows, [B N, width].
  dynamic_view<2, T, Device> rows() const {
    return {tokens.data(), {{tokens.extent(0) * tokens.extent(1), tokens.extent(2)}}};
  }

  /// Other values [B N, width'] at the same places.
  template <class U>
  sequence<Dims, U, Device> with_rows(const dynamic_view<2, U, Device>& rows) const {
    return {{rows.data(), {{tokens.extent(0), tokens.extent(1), rows.extent(1)}}}, grid, mask, origin};
  }

 private:
  template <class Shape, class U>
  static dynamic_view<3, T, Device> flattened(const view<Shape, U, Device>& values) {
    std::int64_t count = 1;
    for (std::size_t axis = 1; axis + 1 < Shape::rank; ++axis) count *= values.extent(axis);
    return values.reshape(std::array<std::int64_t, 3>{values.extent(0), count, values.extent(Shape::rank - 1)});
  }
  template <class Shape, class U>
  static lightnet::grid<Dims> grid_of(const view<Shape, U, Device>& values) {
    lightnet::grid<Dims> where;
    for (std::size_t axis = 0; axis < Dims; ++axis) where.extents[axis] = values.extent(axis + 1);
    return where;
  }
};

LIGHTNET_END_NAMESPACE
