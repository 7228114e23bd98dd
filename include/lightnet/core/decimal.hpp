// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/config.hpp>

#include <charconv>
#include <concepts>
#include <string>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// The shortest text that reads back as the same number: 0.1, 1e-08, nan.
template <std::floating_point Number>
std::string decimal(Number value) {
  char text[32];
  return {text, std::to_chars(text, text + sizeof text, value).ptr};
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
