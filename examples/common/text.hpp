// SPDX-License-Identifier: Apache-2.0
#pragma once

// Numbers for people.

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>

namespace examples {

/// 1234567 as "1,234,567".
inline std::string grouped(std::int64_t value) {
  std::string text = std::to_string(value);
  for (auto i = static_cast<std::ptrdiff_t>(text.size()) - 3; i > (value < 0 ? 1 : 0); i -= 3) {
    text.insert(static_cast<std::size_t>(i), 1, ',');
  }
  return text;
}

/// One number as printf writes it.
inline std::string text(const char* format, double value) {
  char digits[64];
  std::snprintf(digits, sizeof digits, format, value);
  return digits;
}

}  // namespace examples
