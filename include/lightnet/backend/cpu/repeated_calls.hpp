// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/execution.hpp>

#include <array>
#include <cstdint>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// What tells one repeated call from another: all that its kernels were given, addresses among it.
using call_key = std::array<std::int64_t, 8>;

/// Calls that come again and again, which a backend may make in a shorter way.
template <class Device>
class repeated_calls;

template <>
class repeated_calls<cpu> {
 public:
  /// Makes the call.
  template <class Call>
  void run(execution<cpu>&, const call_key&, const Call& call) {
    call();
  }
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
