// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/head_sequence.hpp>

#include <string_view>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Throws device_error, with the operation and the argument, for elements in memory that their device does not reach. A
/// pointer to no elements may be any.
template <class Device>
void check_reach(std::string_view operation, std::string_view argument, const void* data, std::int64_t size) {
  if (size > 0 && !Device::reaches(data)) {
    throw device_error(operation, argument, "memory of the device that works on it", "memory of another place");
  }
}
template <class Shape, class T, class Device>
void check_reach(std::string_view operation, std::string_view argument, const view<Shape, T, Device>& views) {
  check_reach<Device>(operation, argument, views.data(), views.size());
}
template <int Dims, class T, class Device>
void check_reach(std::string_view operation, std::string_view argument, const head_sequence<Dims, T, Device>& tokens) {
  const std::int64_t size = tokens.batch() * tokens.tokens() * tokens.heads() * tokens.channels();
  if (size > 0) check_reach<Device>(operation, argument, tokens.token(0, 0, 0), size);
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
