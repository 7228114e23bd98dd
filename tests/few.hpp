// SPDX-License-Identifier: Apache-2.0
// How often a test does the same once more. A tool that slows a program down a hundred times wants every kernel once, not a
// hundred times: it runs tests with LIGHTNET_TEST_FEW=1.
#pragma once

#include <algorithm>
#include <cstdlib>

inline bool few_will_do() { return std::getenv("LIGHTNET_TEST_FEW") != nullptr; }

// So many times, or at most twice.
template <class Count>
Count often(Count times) {
  return few_will_do() ? std::min(times, Count{2}) : times;
}
