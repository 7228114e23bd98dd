// SPDX-License-Identifier: Apache-2.0
// What the calls of a question are put on.
#pragma once

#include <lightnet/backend/execution.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "question.hpp"

namespace cases {

template <class Device>
struct runner;

// As many threads as the question says.
template <>
struct runner<ln::cpu> {
  ln::execution<ln::cpu> on;

  explicit runner(const question& x) : on{x.threads} {}
  void finish() {}
};

#if defined(LIGHTNET_HAS_CUDA)
// One stream for all questions, whose workspace stays as large as the largest has made it. It is filled with NaN before
// each question: what reads there before it writes shows. With LIGHTNET_TEST_AMPERE in the environment the kernels of
// Hopper's own instructions are not taken.
template <>
struct runner<ln::cuda> {
  ln::execution<ln::cuda>& on;

  explicit runner(const question&) : on{shared()} {
    ln::execution<ln::cuda>::scope scratch{on};
    constexpr std::size_t bytes = std::size_t{1} << 20;
    auto* const memory = scratch.take<unsigned char>(static_cast<std::int64_t>(bytes));
    ln::detail::check_cuda("runner", "cudaMemsetAsync", cudaMemsetAsync(memory, 0xff, bytes, on.stream()));
  }
  // Waits; throws what the kernels have found.
  void finish() { on.check(); }

 private:
  static ln::execution<ln::cuda>& shared() {
    static ln::execution<ln::cuda> one;
    one.allow_hopper = std::getenv("LIGHTNET_TEST_AMPERE") == nullptr;
    return one;
  }
};
#endif

}  // namespace cases
