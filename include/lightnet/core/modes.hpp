// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/tensor.hpp>

#include <optional>

LIGHTNET_BEGIN_NAMESPACE

/// The ways to run a layer: `train` keeps in its context what the backward call needs, `infer` keeps nothing, and `decode`
/// keeps what the tokens so far amount to, so that the next call goes on after them.
struct train {};
struct infer {};
struct decode {};

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

/// One activation of a context, [rows, columns]: kept in train, in the workspace only in infer and decode.
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

template <class T, class Device>
class kept<decode, T, Device> : public kept<infer, T, Device> {};

/// What a layer hands from call to call: a State in decode, empty before the first; nothing in the other modes.
template <class Mode, class State>
struct carried {};
template <class State>
struct carried<decode, State> {
  std::optional<State> state{};
};

LIGHTNET_END_NAMESPACE
