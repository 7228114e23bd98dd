// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/recurrence_job.cuh>

// The states of the lines of a job.

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Writes the weights of the final state. A thread a weight.
template <class Job>
struct store_weights_of_state {
  Job job;
  typename Job::state_type to;

  __device__ void operator()(std::int64_t n) const {
    using A = typename Job::A;
    const line_of_head at = job.line(n / job.width);
    const std::int64_t w = n % job.width, sequence = at.line.sequence;
    const bool bad = job.bad_token[at.item] < static_cast<unsigned long long>(at.line.length);
    const A nan = limits<A>::not_a_number;
    if constexpr (Job::recurrence::framed) {
      to.exponent(sequence, at.head, w) = job.exponent[n];
      to.normaliser(sequence, at.head, w) = bad ? nan : job.normaliser[n];
    } else if (to.decay) {
      to.decay(sequence, at.head, w) = bad ? nan : job.decay[n];
    }
  }
};

/// body(at, i) for every row of the states of all lines that are worked on: a warp a row.
template <class Job, class Body>
__global__ void __launch_bounds__(256) each_row_of_states_kernel(Job job, Body body) {
  if (job.nothing_wanted()) return;
  const std::int64_t rows = job.from.items() * job.from.stored_keys, step = std::int64_t{8} * gridDim.x;
  for (std::int64_t row = std::int64_t{8} * blockIdx.x + threadIdx.x / 32; row < rows; row += step) {
    const std::int64_t item = row / job.from.stored_keys;
    const line_of_head at = job.line(item);
    if (!at.left_alone) body(at, row - item * job.from.stored_keys);
  }
}
template <class Job, class Body>
void each_row_of_states(execution<cuda>& on, const char* operation, const Job& job, const Body& body) {
  const std::int64_t blocks = (job.from.items() * job.from.stored_keys + 7) / 8;
  launch(on, operation, {job.blocks_of(on, blocks), 256}, each_row_of_states_kernel<Job, Body>, job, body);
}

/// The elements of a row of up to 128 that a lane has, each 32 after the one before: body(n, j) for the nth, element j.
inline constexpr int elements_of_lane = 4;
template <class Body>
__device__ void each_of_lane(std::int64_t count, const Body& body) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int n = 0; n < elements_of_lane; ++n) {
    if (lane + 32 * n < count) body(n, lane + 32 * n);
  }
}

/// Whether the state at the end of a line holds NaN in column j.
template <class Job>
__device__ bool ends_bad(const Job& job, const line_of_head& at, std::int64_t j) {
  const auto length = static_cast<unsigned long long>(at.line.length);
  return job.bad_token[at.item] < length || job.bad_column[at.item * job.from.values + j] < length;
}

/// The factor from the frame of the initial state to that of the total.
template <class Job>
__device__ typename Job::A from_initial_frame(const Job& job, const line_of_head& at, std::int64_t w) {
  using A = typename Job::A;
  if constexpr (!Job::sums) {
    return A(1);
  } else {
    std::int32_t m = Job::recurrence::sink ? 0 : empty_exponent;
    if (job.from.state) m = job.from.state.exponent(at.line.sequence, at.head, w);
    if (m <= empty_exponent) return A(0);
    return lower_by_power_of_two(A(1), m - job.exponent[at.item * job.width + w]);
  }
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
