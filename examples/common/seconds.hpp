// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>

namespace examples {

using steady_clock = std::chrono::steady_clock;

inline double seconds_since(steady_clock::time_point start) {
  return std::chrono::duration<double>(steady_clock::now() - start).count();
}

}  // namespace examples
