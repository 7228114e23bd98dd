// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/line_states.cuh>
#include <lightnet/backend/cuda/product.cuh>
#include <lightnet/backend/cuda/recurrence_pullback.cuh>
#include <lightnet/backend/cuda/reduction_gradients.cuh>
#include <lightnet/backend/cuda/weigh.cuh>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Tokens of a line whose sum is made by itself, before all sums are added in their order.
inline constexpr std::int64_t tokens_of_sum = 1024;

/// The parts of U = khat^T V or, where Reads, of D = qhat^T do: [items, segments, d', e].
template <class Pull, class Gradients, bool Reads>
struct total_product {
  using A = typename Pull::A;
  static constexpr bool a_along_terms = false, b_along_terms = false;

  Pull pull;
  Gradients from;
  A* parts;
  std::int64_t segments;

  __device__ void extents(const line_of_head& at, std::int64_t& m, std::int64_t& n, std::int64_t& k) const {
    m = pull.job.from.stored_keys;
    n = pull.job.from.values;
    k = at.line.length;
  }
  __device__ auto a(const line_of_head& at, std::int64_t i) const {
    if constexpr (Reads) {
      return pull.job.queries_of(at, at.line.token(i));
    } else {
      return pull.job.keys_of(at, at.line.token(i));
    }
  }
  __device__ auto b(const line_of_head& at, std::int64_t i) const {
    if constexpr (Reads) {
      return incoming(pull.job, from, at, at.line.token(i));
    } else {
      return pull.job.values_of(at, at.line.token(i));
    }
  }
  __device__ void store(const line_of_head& at, std::int64_t part, std::int64_t r, std::int64_t j, A x) const {
    parts[((at.item * segments + part) * pull.job.from.stored_keys + r) * pull.job.from.values + j] = x;
  }
};

/// o = qhat U.
template <class Pull, class Outputs>
struct output_product {
  using A = typename Pull::A;
  static constexpr bool a_along_terms = true, b_along_terms = false;

  Pull pull;
  Outputs out;

  __device__ void extents(const line_of_head& at, std::int64_t& m, std::int64_t& n, std::int64_t& k) const {
    m = at.line.length;
    n = pull.job.from.values;
    k = pull.job.from.stored_keys;
  }
  __device__ auto a(const line_of_head& at, std::int64_t i) const { return pull.job.queries_of(at, at.line.token(i)); }
  __device__ auto b(const line_of_head& at, std::int64_t r) const { return pull.row_of_state(pull.state, at, r); }
  __device__ void store(const line_of_head& at, std::int64_t, std::int64_t i, std::int64_t j, A x) const {
    pull.job.store(out.o, at, at.line.token(i), out.accumulate)(j, pull.job.reached(at, i)[j], x);
  }
};

/// dqhat = do U^T or, where Keys, dkhat = V D^T.
template <class Pull, class Gradients, bool Keys>
struct factor_product {
  using A = typename Pull::A;
  static constexpr bool a_along_terms = true, b_along_terms = true;

  Pull pull;
  Gradients from;

  __device__ void extents(const line_of_head& at, std::int64_t& m, std::int64_t& n, std::int64_t& k) const {
    m = at.line.length;
    n = pull.job.from.stored_keys;
    k = pull.job.from.values;
  }
  __device__ auto a(const line_of_head& at, std::int64_t i) const {
    if constexpr (Keys) {
      return pull.job.values_of(at, at.line.token(i));
    } else {
      return incoming(pull.job, from, at, at.line.token(i));
    }
  }
  __device__ auto b(const line_of_head& at, std::int64_t r) const {
    return pull.row_of_state(Keys ? pull.d : pull.state, at, r);
  }
  __device__ void store(const line_of_head& at, std::int64_t, std::int64_t i, std::int64_t r, A x) const {
    (Keys ? pull.dwrite : pull.dread)[pull.place(at, at.line.token(i), r)] = x;
  }
};

/// dv = khat D.
template <class Pull, class Gradients>
struct value_product {
  using A = typename Pull::A;
  static constexpr bool a_along_terms = true, b_along_terms = false;

  Pull pull;
  Gradients to;

  __device__ void extents(const line_of_head& at, std::int64_t& m, std::int64_t& n, std::int64_t& k) const {
    m = at.line.length;
    n = pull.job.from.values;
    k = pull.job.from.stored_keys;
  }
  __device__ auto a(const line_of_head& at, std::int64_t i) const { return pull.job.keys_of(at, at.line.token(i)); }
  __device__ auto b(const line_of_head& at, std::int64_t r) const { return pull.row_of_state(pull.d, at, r); }
  __device__ void store(const line_of_head& at, std::int64_t, std::int64_t i, std::int64_t j, A x) const {
    store_gradient(pull.job, to.v, at, at.line.token(i), to.accumulate)(j, x);
  }
};

/// U, the initial one and all parts, and the final state.
template <class Pull, class State>
struct add_states {
  Pull pull;
  State to;
  const typename Pull::A* parts;
  std::int64_t segments;

  __device__ void operator()(const line_of_head& at, std::int64_t r) const {
    using A = typename Pull::A;
    const auto& job = pull.job;
    const std::int64_t columns = job.from.values, rows = job.from.stored_keys;
    const bool empty = job.begins_empty(at, r);
    const A by = empty ? A(0) : from_initial_frame(job, at, job.weight_of_row(r));
    for (std::int64_t j = lane_of_row(); j < columns; j += lanes_of_row) {
      A sum = A(0);
      for (std::int64_t s = 0; s < segments && s * tokens_of_sum < at.line.length; ++s) {
        sum += parts[((at.item * segments + s) * rows + r) * columns + j];
      }
      if (!empty) sum = multiply_add(by, job.begin(at, r, j), sum);
      pull.state[pull.in_state(at, r, j)] = sum;
      if (to) to.sum(at.line.sequence, at.head, r, j) = ends_bad(job, at, j) ? limits<A>::not_a_number : sum;
    }
  }
};

/// D, what the final state gives and all parts.
template <class Pull>
struct add_gradients {
  Pull pull;
  const typename Pull::A* parts;
  std::int64_t segments;

  __device__ void operator()(const line_of_head& at, std::int64_t r) const {
    const std::int64_t columns = pull.job.from.values, rows = pull.job.from.stored_keys;
    for (std::int64_t j = lane_of_row(); j < columns; j += lanes_of_row) {
      typename Pull::A sum = 0;
      for (std::int64_t s = 0; s < segments && s * tokens_of_sum < at.line.length; ++s) {
        sum += parts[((at.item * segments + s) * rows + r) * columns + j];
      }
      pull.d[pull.in_state(at, r, j)] += sum;
    }
  }
};

/// r, what all tokens owe the normaliser, sum_t R_t / Z or, of weights that were normalised first, sum_t A_t; then the
/// gradients of the logits, A - w r. A warp a weight: lanes take turns with the tokens.
template <class Pull, class Gradients>
__global__ void __launch_bounds__(256) pull_total_logits_kernel(Pull pull, Gradients out) {
  using A = typename Pull::A;
  using job_type = std::remove_cvref_t<decltype(pull.job)>;
  const auto& job = pull.job;
  if (job.nothing_wanted()) return;
  const std::int64_t index = (static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / 32;
  if (index >= job.from.items() * job.width) return;
  const line_of_head at = job.line(index / job.width);
  if (at.left_alone) return;
  const std::int64_t w = index % job.width, lane = threadIdx.x % 32;
  A sum = A(0);
  for (std::int64_t i = lane; i < at.line.length; i += 32) {
    const std::int64_t place = job.row(at, at.line.token(i)) * job.width + w;
    sum += job_type::normalise_first ? pull.key_term[place] : pull.read_term[place] * job.inverse[index];
  }
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(~0U, sum, offset);
  const A r = job_type::normalise_first ? sum : pull.r[index] + sum;
  A of_head = A(0);
  for (std::int64_t i = lane; i < at.line.length; i += 32) {
    const std::int64_t token = at.line.token(i), place = job.row(at, token) * job.width + w;
    store_logit(job, out, at, token, w, pull.key_term[place] - job.own[place] * r, of_head);
  }
  if (lane == 0) pull.r[index] = r;
}

/// D and r as the initial state sees them.
template <class Pull>
struct enter_initial_frame {
  Pull pull;

  __device__ void operator()(std::int64_t n) const {
    const auto& job = pull.job;
    using job_type = std::remove_cvref_t<decltype(job)>;
    const line_of_head at = job.line(n / job.width);
    const std::int64_t w = n % job.width, step = job_type::per_channel ? job.from.keys : 1;
    const auto by = from_initial_frame(job, at, w);
    pull.r[n] *= by;
    for (std::int64_t r = w; r < job.from.stored_keys; r += step) {
      for (std::int64_t j = 0; j < job.from.values; ++j) pull.d[pull.in_state(at, r, j)] *= by;
    }
  }
};

/// The total U of all lines, in the frame of their ends, and the final state where it is asked for.
template <class Pull, class Gradients, class State>
void reduce_states(execution<cuda>& on, const char* operation, typename Pull::A* parts, const Pull& pull,
                   const Gradients& gradients, const State& to) {
  const auto& from = pull.job.from;
  const std::int64_t longest = from.lines.longest(), segments = (longest + tokens_of_sum - 1) / tokens_of_sum;
  if (segments > 0) {
    multiply(on, operation, total_product<Pull, Gradients, false>{pull, gradients, parts, segments}, from.items(),
             from.stored_keys, from.values, longest, tokens_of_sum);
  }
  each_row_of_states(on, operation, pull.job, add_states<Pull, State>{pull, to, parts, segments});
  if (to) {
    for_each(on, operation, from.items() * pull.job.width,
             store_weights_of_state<std::remove_cvref_t<decltype(pull.job)>>{pull.job, to});
  }
}

/// Memory for the parts of a total.
template <class Arguments>
auto* parts_of_total(execution<cuda>::scope& scratch, const Arguments& from) {
  using A = typename Arguments::sum_type;
  const std::int64_t segments = (from.lines.longest() + tokens_of_sum - 1) / tokens_of_sum;
  return scratch.take<A>(segments * from.items() * from.stored_keys * from.values);
}

/// The outputs o and the final state of the global traversal.
template <class Recurrence, class Position, int Dims, class T, class Outputs>
void linear_reduction_forward(execution<cuda>& on, const recurrence_arguments<Recurrence, Dims, T, cuda>& arguments,
                              const Outputs& outputs) {
  constexpr const char* operation = "scan";
  execution<cuda>::scope scratch{on};
  if constexpr (takes_causal_tiles<Recurrence, Position, T>) {
    auto job = job_of<Recurrence, Position>(on, scratch, arguments, operation);
    if (fits_causal_tiles(job)) {
      job.global = true;
      take_line_memory(on, scratch, operation, job);
      return run_reduction_tiles(on, scratch, operation, job, outputs);
    }
  }
  if constexpr (takes_encoding_walks<Recurrence, Position, T>) {
    auto job = job_of<Recurrence, Position>(on, scratch, arguments, operation);
    if (fits_encoding_walks(on, job, false)) {
      job.global = true;
      take_line_memory(on, scratch, operation, job);
      take_packed_angles(on, scratch, operation, job);
      return run_reduction_tiles(on, scratch, operation, job, outputs);
    }
  }
  const auto job = weigh<Recurrence, Position>(on, scratch, arguments, true, operation);
  using job_type = std::remove_cv_t<decltype(job)>;
  using pull_type = pullback_job<job_type>;
  using gradients_type = recurrence_gradients<Dims, T, cuda>;
  pull_type pull;
  pull.job = job;
  pull.state = scratch.take<typename job_type::A>(arguments.items() * arguments.stored_keys * arguments.values);
  reduce_states(on, operation, parts_of_total(scratch, arguments), pull, gradients_type{}, outputs.state);
  multiply(on, operation, output_product<pull_type, Outputs>{pull, outputs}, arguments.items(),
           arguments.lines.longest(), arguments.values, arguments.stored_keys,
           arguments.stored_keys > 0 ? arguments.stored_keys : 1);
}

/// The gradients of the global traversal with respect to everything in `arguments`.
template <class Recurrence, class Position, int Dims, class T>
void linear_reduction_backward(execution<cuda>& on, const recurrence_arguments<Recurrence, Dims, T, cuda>& arguments,
                               const recurrence_gradients<Dims, T, cuda>& gradients) {
  constexpr const char* operation = "scan_backward";
  execution<cuda>::scope scratch{on};
  const unsigned* left_over = nullptr;
  if constexpr (takes_reduction_gradients<Recurrence, Position, T>) {
    auto job = job_of<Recurrence, Position>(on, scratch, arguments, operation);
    const bool fits =
        Position::encodes ? fits_encoding_walks(on, job, false) : on.takes_hopper() && fits_causal_tiles(job);
    if (fits && !gradients.state && !gradients.final_state && !gradients.theta) {
      if constexpr (Position::encodes) take_packed_angles(on, scratch, operation, job);
      left_over = walk_reduction_gradients(on, scratch, operation, job, gradients);
    }
  }
  const auto job = weigh<Recurrence, Position>(on, scratch, arguments, true, operation, left_over);
  const auto pull = make_pullback(scratch, job);
  using job_type = std::remove_cv_t<decltype(job)>;
  using pull_type = std::remove_cv_t<decltype(pull)>;
  using gradients_type = recurrence_gradients<Dims, T, cuda>;
  const std::int64_t items = arguments.items(), weights = items * job.width, longest = arguments.lines.longest();
  const std::int64_t rows = arguments.stored_keys, columns = arguments.values;
  const std::int64_t segments = (longest + tokens_of_sum - 1) / tokens_of_sum;
  auto* const parts = parts_of_total(scratch, arguments);
  reduce_states(on, operation, parts, pull, gradients, typename job_type::state_type{});
  for_each(on, operation, weights, begin_gradient<pull_type, gradients_type>{pull, gradients});
  if (segments > 0) {
    multiply(on, operation, total_product<pull_type, gradients_type, true>{pull, gradients, parts, segments}, items,
             rows, columns, longest, tokens_of_sum);
  }
  each_row_of_states(on, operation, job, add_gradients<pull_type>{pull, parts, segments});
  const std::int64_t all_values = columns > 0 ? columns : 1, all_rows = rows > 0 ? rows : 1;
  multiply(on, operation, factor_product<pull_type, gradients_type, false>{pull, gradients}, items, longest, rows,
           columns, all_values);
  multiply(on, operation, factor_product<pull_type, gradients_type, true>{pull, gradients}, items, longest, rows,
           columns, all_values);
  multiply(on, operation, value_product<pull_type, gradients_type>{pull, gradients}, items, longest, columns, rows,
           all_rows);
  pull_rows(on, operation, pull, gradients);
  if constexpr (job_type::sums) {
    launch(on, operation, {(weights + 7) / 8, 256}, pull_total_logits_kernel<pull_type, gradients_type>, pull,
           gradients);
  }
  if (gradients.state) {
    for_each(on, operation, weights, enter_initial_frame<pull_type>{pull});
    for_each(on, operation, weights, end_gradient<pull_type, gradients_type>{pull, gradients});
  }
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
