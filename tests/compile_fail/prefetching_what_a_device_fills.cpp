// expect: nothing is left to read ahead
// SPDX-License-Identifier: Apache-2.0
// Images in memory are made into a batch by the device itself.
#include <lightnet/train/image_batches.hpp>
#include <lightnet/train/prefetching_batches.hpp>

namespace ln = lightnet;

std::int64_t misuse(const ln::image_batches<>& images) { return ln::prefetching_batches{images}.size(); }
