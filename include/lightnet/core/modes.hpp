// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/tensor.hpp>

LIGHTNET_BEGIN_NAMESPACE

/// The two ways to run a layer: `train` keeps in its context what the backward call needs, `infer` keeps nothing.
struct train {};
struct infer {};

/// Whether a gradient overwrites its output or adds to it.
enum class write { overwrite, add };

/// The context of a layer that needs no more than x and y.
struct no_context {};

namespace detail {
/// A matrix in the workspace, [rows, columns].
template <class T, class Device, class Scope>
dynamic_view<2, T, Device> scratch_matrix(Scope& scratch, std::int64_t rows, std::int64_t columns) {
  return {scratch.template take<T>(rows * columns), {{rows, columns}}};
}
}  // namespace detail

/// One activation of a context, [rows, columns]: kept in train, in the workspace only in infer.
template <class Mode, class T, class Device = cpu>
class kept;

template <class T, class Device>
class kept<train, T, Device> {
 public:
  /// Memory for the activation; it is allocated again only where the extents change.
  template <class Scope>
  dynamic_view<2, T, Device> take(Scope&, std::int64_t rows, std::int64_t columns) {
    const std::array<std::int64_t, 2> wanted{rows, columns};
    if (memory_.extents() != wanted) memory_.resize({wanted});
    return memory_.view();
  }
  /// What the forward call left.
  dynamic_view<2, const T, Device> view() const noexcept { return memory_.view(); }

 private:
  tensor<rank<2>, T, Device> memory_;
};

template <class T, class Device>
class kept<infer, T, Device> {
 public:
  template <class Scope>
  dynamic_view<2, T, Device> take(Scope& scratch, std::int64_t rows, std::int64_t columns) {
    return detail::scratch_matrix<T, Device>(scratch, rows, columns);
  }
};

LIGHTNET_END_NAMESPACE
