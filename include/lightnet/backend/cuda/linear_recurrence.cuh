// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/line_states.cuh>
#include <lightnet/backend/cuda/line_walk.cuh>
#include <lightnet/backend/cuda/sweep.cuh>
#include <lightnet/backend/cuda/weigh.cuh>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// The forward call: U <- a U + khat v^T, o = U^T qhat.
template <class Job, class Outputs>
struct forward_sweep {
  using A = typename Job::A;
  static constexpr bool keeps_rows = true, backwards = false;

  Job job;
  Outputs out;

  __device__ line_of_head line(std::int64_t item) const { return job.line(item); }
  __device__ A begin(const line_of_head& at, std::int64_t r, std::int64_t j) const { return job.begin(at, r, j); }
  __device__ auto in(const line_of_head& at, std::int64_t token) const { return job.keys_of(at, token); }
  __device__ auto out_row(const line_of_head& at, std::int64_t token) const { return job.queries_of(at, token); }
  __device__ auto column(const line_of_head& at, std::int64_t token) const { return job.values_of(at, token); }
  __device__ auto keep(const line_of_head& at, std::int64_t token) const { return job.factors_of(at, token); }
  __device__ auto write(const line_of_head& at, std::int64_t i, std::int64_t token) const {
    return [to = job.store(out.o, at, token, out.accumulate), bad = job.reached(at, i)](std::int64_t j, A y) {
      to(j, bad[j], y);
    };
  }
  __device__ void end(const line_of_head& at, std::int64_t r, std::int64_t j, A x) const {
    if (!out.state) return;
    out.state.sum(at.line.sequence, at.head, r, j) = ends_bad(job, at, j) ? limits<A>::not_a_number : x;
  }
};

/// The sum of the inputs without a weight, X <- X + kappa v^T.
template <class Job>
struct input_sweep {
  using A = typename Job::A;
  static constexpr bool keeps_rows = true, backwards = false;

  Job job;
  dynamic_view<4, A, cuda> to;

  __device__ line_of_head line(std::int64_t item) const { return job.line(item); }
  __device__ A begin(const line_of_head& at, std::int64_t r, std::int64_t j) const {
    const auto& first = job.from.state.input;
    return first ? first(at.line.sequence, at.head, r, j) : A(0);
  }
  __device__ auto in(const line_of_head& at, std::int64_t token) const { return job.inputs_of(at, token); }
  __device__ auto out_row(const line_of_head&, std::int64_t) const {
    return row_of_elements([](std::int64_t) { return A(0); });
  }
  __device__ auto column(const line_of_head& at, std::int64_t token) const { return job.values_of(at, token); }
  __device__ auto keep(const line_of_head&, std::int64_t) const {
    return row_of_elements([](std::int64_t) { return A(1); });
  }
  __device__ auto write(const line_of_head&, std::int64_t, std::int64_t) const {
    return [](std::int64_t, A) {};
  }
  __device__ void end(const line_of_head& at, std::int64_t r, std::int64_t j, A x) const {
    to(at.line.sequence, at.head, r, j) = ends_bad(job, at, j) ? limits<A>::not_a_number : x;
  }
};

/// The weights of the final state, and X where it is asked for.
template <class Job>
void store_state(execution<cuda>& on, const char* operation, const Job& job, const typename Job::state_type& to) {
  if (!to) return;
  for_each(on, operation, job.from.items() * job.width, store_weights_of_state<Job>{job, to});
}

template <class Recurrence, class Position, int Dims, class T, class Outputs>
void forward_pass(execution<cuda>& on, const recurrence_arguments<Recurrence, Dims, T, cuda>& arguments,
                  const Outputs& outputs, const char* operation) {
  check_rows_of_sweep<accumulator<T>>(operation, "k", arguments.stored_keys);
  execution<cuda>::scope scratch{on};
  const auto job = weigh<Recurrence, Position>(on, scratch, arguments, false, operation);
  using job_type = std::remove_cv_t<decltype(job)>;
  const std::int64_t items = arguments.items(), rows = arguments.stored_keys, columns = arguments.values;
  if constexpr (Recurrence::weight == weight_of::running_sum) {
    if (outputs.state.input)
      sweep(on, operation, input_sweep<job_type>{job, outputs.state.input}, items, rows, columns);
  }
  sweep(on, operation, forward_sweep<job_type, Outputs>{job, outputs}, items, rows, columns);
  store_state(on, operation, job, outputs.state);
}

/// The outputs o and the final state of one pass of an ordered traversal.
template <class Recurrence, class Position, int Dims, class T, class Outputs>
void linear_recurrence_forward(execution<cuda>& on, const recurrence_arguments<Recurrence, Dims, T, cuda>& arguments,
                               const Outputs& outputs) {
  constexpr const char* operation = "scan";
  if constexpr (takes_causal_tiles<Recurrence, Position, T>) {
    execution<cuda>::scope scratch{on};
    const auto job = job_of<Recurrence, Position>(on, scratch, arguments, operation);
    if (fits_causal_tiles(job)) return run_lines(on, scratch, operation, job, outputs);
  }
  if constexpr (takes_encoding_walks<Recurrence, Position, T>) {
    execution<cuda>::scope scratch{on};
    auto job = job_of<Recurrence, Position>(on, scratch, arguments, operation);
    if (fits_encoding_walks(on, job)) {
      take_packed_angles(on, scratch, operation, job);
      return run_lines(on, scratch, operation, job, outputs);
    }
    if constexpr (decltype(job)::keys_are_weights) {
      if (fits_walks_in_parts(on, job)) return run_lines_in_parts(on, scratch, operation, job, outputs);
    }
  }
  forward_pass<Recurrence, Position>(on, arguments, outputs, operation);
}

/// o of both ways along the lines, in the type of o: one is rounded before the other is added. Whether matrix units take them:
/// one walk there and back, or two passes where there are no such walks or they cut a line.
template <class Recurrence, class Position, int Dims, class T>
bool linear_recurrence_both_ways(execution<cuda>& on, const recurrence_arguments<Recurrence, Dims, T, cuda>& arguments,
                                 const head_sequence<Dims, T, cuda>& o) {
  constexpr const char* operation = "scan";
  if constexpr (takes_causal_tiles<Recurrence, Position, T>) {
    execution<cuda>::scope scratch{on};
    auto job = job_of<Recurrence, Position>(on, scratch, arguments, operation);
    if (!fits_causal_tiles(job)) return false;
    recurrence_outputs<Recurrence, Dims, T, cuda> outputs{o, {}, false};
    const bool walks = on.takes_hopper();
    if (walks) run_both_ways(on, operation, job, outputs);
    if (!walks || arguments.lines.longest() > uncut_tokens) {
      for (const bool back : {false, true}) {
        job.from.lines.reversed = outputs.accumulate = back;
        run_lines(on, scratch, operation, job, outputs, walks ? uncut_tokens + 1 : 0);
      }
    }
    return true;
  }
  return false;
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
