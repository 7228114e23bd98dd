// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/config.hpp>

#include <type_traits>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// The bits of a number as one of another type: std::bit_cast, which device code must not call.
template <class To, class From>
LIGHTNET_HOST_DEVICE constexpr To bits_as(const From& from) noexcept {
  static_assert(sizeof(To) == sizeof(From) && std::is_trivially_copyable_v<To> && std::is_trivially_copyable_v<From>);
  return __builtin_bit_cast(To, from);
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
