// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/execution.hpp>
#include <lightnet/core/tensor.hpp>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Numbers that the host writes again and again, and calls of an execution read: `send` is one of these calls, and they
/// have been done before the host writes again.
template <class T, class Device>
class letter;

template <class T>
class letter<T, cpu> {
 public:
  /// Room for `count` numbers, never less than before.
  void resize(std::int64_t count) {
    if (count > numbers_.extent(0)) numbers_.resize({{count}});
  }
  /// Where the host writes.
  T* data() noexcept { return numbers_.data(); }
  /// Takes `count` of them to where calls of the execution read them.
  const T* send(execution<cpu>&, std::int64_t) noexcept { return numbers_.data(); }

 private:
  tensor<rank<1>, T> numbers_;
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
