// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/launch.cuh>
#include <lightnet/backend/token_lines.hpp>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Copies cumulative lengths so that they start at 0, end at `tokens` and do not fall, whatever they held: each becomes
/// the largest so far. One block; a thread first finds the largest of its part, then writes the part.
template <int Threads>
__global__ void __launch_bounds__(Threads)
    accept_lengths_kernel(dynamic_view<1, const std::int64_t, cuda> from, std::int64_t* to, std::int64_t tokens,
                          unsigned* bad_content) {
  __shared__ std::int64_t largest[Threads];
  const std::int64_t count = from.extent(0), part = (count + Threads - 1) / Threads;
  const std::int64_t first = threadIdx.x * part, last = first + part < count ? first + part : count;
  const auto accepted = [&](std::int64_t i, std::int64_t before) {
    const std::int64_t given = i == 0 ? 0 : i == count - 1 ? tokens : from(i) < tokens ? from(i) : tokens;
    return given > before ? given : before;
  };
  std::int64_t so_far = 0;
  for (std::int64_t i = first; i < last; ++i) so_far = accepted(i, so_far);
  largest[threadIdx.x] = so_far;
  __syncthreads();
  so_far = 0;
  for (unsigned i = 0; i < threadIdx.x; ++i) so_far = largest[i] > so_far ? largest[i] : so_far;
  for (std::int64_t i = first; i < last; ++i) {
    so_far = accepted(i, so_far);
    to[i] = so_far;
    if (so_far != from(i)) atomicOr(bad_content, 1U);
  }
}

/// The same lines with cumulative lengths that are in order, in memory of the scope: a kernel that trusts them writes
/// nothing outside and waits for nothing that does not come. Lengths that were not in order are bad content.
template <int Dims>
token_lines<Dims, cuda> accept_lengths(execution<cuda>& on, execution<cuda>::scope& scratch, const char* operation,
                                       token_lines<Dims, cuda> lines) {
  constexpr int threads = 256;
  const auto given = lines.cumulative_lengths;
  if (!given) return lines;
  std::int64_t* const accepted = scratch.take<std::int64_t>(given.extent(0));
  launch(on, operation, {1, threads}, accept_lengths_kernel<threads>, given, accepted, lines.tokens.size(),
         on.bad_content());
  lines.cumulative_lengths = {accepted, {{given.extent(0)}}};
  return lines;
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
