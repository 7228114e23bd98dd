// SPDX-License-Identifier: Apache-2.0
#pragma once

// What tells data from other data.

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <span>
#include <string>

namespace examples {

/// 64 bits of all bytes of some arrays of numbers, one after the other, in hexadecimal (FNV-1a, RFC 9923).
template <class... Arrays>
std::string fingerprint(const Arrays&... arrays) {
  std::uint64_t hash = 0xCBF29CE484222325;
  const auto take = [&hash](std::span<const std::byte> bytes) {
    for (const std::byte each : bytes) hash = (hash ^ std::to_integer<std::uint64_t>(each)) * 0x100000001B3;
  };
  (take(std::as_bytes(std::span{arrays})), ...);
  std::array<char, 17> digits{};
  std::snprintf(digits.data(), digits.size(), "%016llx", static_cast<unsigned long long>(hash));
  return digits.data();
}

}  // namespace examples
