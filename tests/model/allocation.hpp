// SPDX-License-Identifier: Apache-2.0
// How often this program called operator new. (Its own is in image_classifier_test.cpp.)
#pragma once

#include <cstdint>

namespace allocation {
extern std::int64_t count;  // of the whole program: read where nothing else runs
}
