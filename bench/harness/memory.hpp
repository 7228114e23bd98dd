// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

/// The memory that operator new gives out, which this program counts.
namespace bench {

/// Starts a new peak, and returns the bytes in use.
std::size_t begin_of_peak();
/// The most bytes in use since then, above those.
std::size_t peak_since(std::size_t begin);

/// The most bytes at once during a call, above what was in use before it.
template <class Call>
std::size_t peak_bytes(const Call& call) {
  const std::size_t begin = begin_of_peak();
  call();
  return peak_since(begin);
}

}  // namespace bench
