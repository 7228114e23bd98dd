// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/map.cuh>
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
      to.exponent(sequence, at.head, w) = final_exponent(job.exponent[n], bad);
      to.normaliser(sequence, at.head, w) = bad ? nan : job.normaliser[n];
    } else if (to.decay) {
      to.decay(sequence, at.head, w) = bad ? nan : job.decay[n];
    }
  }
};

/// body(at, i) for every row of the states of all lines that are worked on, by eight lanes.
inline constexpr int lanes_of_row = 8;
template <class Job, class Body>
__global__ void __launch_bounds__(256) each_row_of_states_kernel(Job job, Body body, std::int64_t blocks_of_item) {
  if (job.nothing_wanted()) return;
  for (std::int64_t block = blockIdx.x; block < job.from.items() * blocks_of_item; block += gridDim.x) {
    const divided of{block, blocks_of_item};
    const line_of_head at = job.line(of.quotient);
    const std::int64_t i = (of.rest * 256 + threadIdx.x) / lanes_of_row;
    if (i < job.from.stored_keys && !at.left_alone) body(at, i);
  }
}
template <class Job, class Body>
void each_row_of_states(execution<cuda>& on, const char* operation, const Job& job, const Body& body) {
  const std::int64_t blocks = (job.from.stored_keys * lanes_of_row + 255) / 256;
  launch(on, operation, {job.blocks_of(on, job.from.items() * blocks), 256}, each_row_of_states_kernel<Job, Body>, job,
         body, blocks);
}
__device__ inline int lane_of_row() { return static_cast<int>(threadIdx.x) % lanes_of_row; }
/// The sum over the lanes of a row.
template <class A>
__device__ A sum_of_row(A x) {
  const unsigned lanes = 0xFFU << (threadIdx.x % 32 / lanes_of_row * lanes_of_row);
#pragma unroll
  for (int offset = lanes_of_row / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(lanes, x, offset);
  return x;
}

/// The elements of a row of up to 128 that a lane has: body(n, j) for the nth, element j.
inline constexpr int elements_of_lane = 128 / lanes_of_row;
template <class Body>
__device__ void each_of_lane(std::int64_t count, const Body& body) {
#pragma unroll
  for (int n = 0; n < elements_of_lane; ++n) {
    const int j = lane_of_row() + n * lanes_of_row;
    if (j < count) body(n, j);
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
