// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/linear_recurrence.cuh>
#include <lightnet/backend/cuda/pull_tiles.cuh>
#include <lightnet/backend/cuda/recurrence_pullback.cuh>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// dqhat_t = U_t do_t, the state being [e, d'] here.
template <class Pull, class Gradients>
struct query_sweep {
  using A = typename Pull::A;
  static constexpr bool keeps_rows = false, backwards = false;

  Pull pull;
  Gradients from;

  __device__ line_of_head line(std::int64_t item) const { return pull.job.line(item); }
  __device__ A begin(const line_of_head& at, std::int64_t j, std::int64_t i) const { return pull.job.begin(at, i, j); }
  __device__ auto in(const line_of_head& at, std::int64_t token) const { return pull.job.values_of(at, token); }
  __device__ auto column(const line_of_head& at, std::int64_t token) const { return pull.job.keys_of(at, token); }
  __device__ auto out_row(const line_of_head& at, std::int64_t token) const {
    return incoming(pull.job, from, at, token);
  }
  __device__ auto keep(const line_of_head& at, std::int64_t token) const { return pull.job.factors_of(at, token); }
  __device__ auto write(const line_of_head& at, std::int64_t, std::int64_t token) const {
    return [to = pull.dread + pull.place(at, token, 0)](std::int64_t i, A y) { to[i] = y; };
  }
  __device__ void end(const line_of_head& at, std::int64_t j, std::int64_t i, A x) const {
    pull.state[pull.in_state(at, i, j)] = x;
  }
};

/// dkhat_t = D_t v_t, D being [e, d'] here.
template <class Pull, class Gradients>
struct key_sweep {
  using A = typename Pull::A;
  static constexpr bool keeps_rows = false, backwards = true;

  Pull pull;
  Gradients from;

  __device__ line_of_head line(std::int64_t item) const { return pull.job.line(item); }
  __device__ A begin(const line_of_head& at, std::int64_t j, std::int64_t i) const {
    return pull.d[pull.in_state(at, i, j)];
  }
  __device__ auto in(const line_of_head& at, std::int64_t token) const { return incoming(pull.job, from, at, token); }
  __device__ auto column(const line_of_head& at, std::int64_t token) const { return pull.job.queries_of(at, token); }
  __device__ auto out_row(const line_of_head& at, std::int64_t token) const { return pull.job.values_of(at, token); }
  __device__ auto keep(const line_of_head& at, std::int64_t token) const { return pull.job.factors_of(at, token); }
  __device__ auto write(const line_of_head& at, std::int64_t, std::int64_t token) const {
    return [to = pull.dwrite + pull.place(at, token, 0)](std::int64_t i, A y) { to[i] = y; };
  }
  __device__ void end(const line_of_head&, std::int64_t, std::int64_t, A) const {}
};

/// dv_t = D_t^T khat_t, and D at the start of the line, where it takes the place of D at its end.
template <class Pull, class Gradients>
struct value_sweep {
  using A = typename Pull::A;
  static constexpr bool keeps_rows = true, backwards = true;

  Pull pull;
  Gradients to;

  __device__ line_of_head line(std::int64_t item) const { return pull.job.line(item); }
  __device__ A begin(const line_of_head& at, std::int64_t i, std::int64_t j) const {
    return pull.d[pull.in_state(at, i, j)];
  }
  __device__ auto in(const line_of_head& at, std::int64_t token) const { return pull.job.queries_of(at, token); }
  __device__ auto column(const line_of_head& at, std::int64_t token) const { return incoming(pull.job, to, at, token); }
  __device__ auto out_row(const line_of_head& at, std::int64_t token) const { return pull.job.keys_of(at, token); }
  __device__ auto keep(const line_of_head& at, std::int64_t token) const { return pull.job.factors_of(at, token); }
  __device__ auto write(const line_of_head& at, std::int64_t, std::int64_t token) const {
    return store_gradient(pull.job, to.v, at, token, to.accumulate);
  }
  __device__ void end(const line_of_head& at, std::int64_t i, std::int64_t j, A x) const {
    const A first = at.line.length > 0 ? pull.job.factors_of(at, at.line.token(0))[i] : A(1);
    pull.d[pull.in_state(at, i, j)] = first * x;
  }
};

/// The gradients of the logits, from the end of a line to its start, r being what the tokens seen owe the normaliser: for
/// weights that are summed A_t - w_t sum_{u >= t} R_u / Z_u, for plain inputs - w_t sum_{u >= t} (R_u - A_u) / Z_u, for a
/// decay sum_{u >= t} (R_u - A_u), which is made in double: over long lines its terms nearly cancel. A thread a weight,
/// eight tokens on their way at a time.
template <class Pull, class Gradients>
__global__ void __launch_bounds__(128) pull_logits_kernel(Pull pull, Gradients out) {
  using A = typename Pull::A;
  using job_type = std::remove_cvref_t<decltype(pull.job)>;
  const auto& job = pull.job;
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= job.from.items() * job.width) return;
  const line_of_head at = job.line(index / job.width);
  if (at.left_alone) return;
  const std::int64_t w = index % job.width;
  constexpr int ahead = 8;
  A r = pull.r[index], of_head = A(0);
  double sum = static_cast<double>(r);
  for (std::int64_t last = at.line.length; last > 0; last -= ahead) {
    A reads[ahead], keys[ahead], owns[ahead], inverses[ahead], keeps[ahead];
#pragma unroll
    for (int n = 0; n < ahead; ++n) {
      const std::int64_t i = last - 1 - n;
      const std::int64_t place = job.row(at, at.line.token(i < 0 ? 0 : i)) * job.width + w;
      reads[n] = pull.read_term[place];
      keys[n] = pull.key_term[place];
      if constexpr (job_type::sums) {
        owns[n] = job.own[place];
        inverses[n] = job.inverse[place];
        keeps[n] = job.keep[place];
      }
    }
#pragma unroll
    for (int n = 0; n < ahead; ++n) {
      const std::int64_t i = last - 1 - n;
      if (i < 0) break;
      const std::int64_t token = at.line.token(i);
      A gradient;
      if constexpr (job_type::running) {
        r = multiply_add(reads[n] - keys[n], inverses[n], r);
        gradient = -owns[n] * r;
        r *= keeps[n];
      } else if constexpr (job_type::sums) {
        r = multiply_add(reads[n], inverses[n], r);
        gradient = keys[n] - owns[n] * r;
        r *= keeps[n];
      } else {
        sum += static_cast<double>(reads[n]) - static_cast<double>(keys[n]);
        gradient = static_cast<A>(sum);
        // What does not depend on the state before has no gradient.
        if (job.on(at, token) && job.logit(at, token, w) <= job_type::least_logit) gradient = A(0);
        if constexpr (job_type::complement) {
          gradient += pull.complement_term[job.row(at, token) * job.width + w];
        }
      }
      store_logit(job, out, at, token, w, gradient, of_head);
    }
  }
  pull.r[index] = r;
  if (w == 0) store_head_logit(job, out, at, of_head);
}

/// All gradients of one pass but those of the logits, which `pull_logits` puts on the stream while D is that of the end.
template <class Pull, class Gradients, class Logits>
void sweep_factors(execution<cuda>& on, const char* operation, const Pull& pull, const Gradients& gradients,
                   const Logits& pull_logits) {
  const auto& from = pull.job.from;
  const std::int64_t items = from.items(), rows = from.stored_keys, columns = from.values;
  const std::int64_t weights = items * pull.job.width;
  sweep(on, operation, query_sweep<Pull, Gradients>{pull, gradients}, items, columns, rows);
  for_each(on, operation, weights, begin_gradient<Pull, Gradients>{pull, gradients});
  sweep(on, operation, key_sweep<Pull, Gradients>{pull, gradients}, items, columns, rows);
  pull_rows(on, operation, pull, gradients);
  pull_logits();
  sweep(on, operation, value_sweep<Pull, Gradients>{pull, gradients}, items, rows, columns);
  if (gradients.state) for_each(on, operation, weights, end_gradient<Pull, Gradients>{pull, gradients});
}

/// The gradients of one pass of an ordered traversal with respect to everything in `arguments`.
template <class Recurrence, class Position, int Dims, class T>
void linear_recurrence_backward(execution<cuda>& on, const recurrence_arguments<Recurrence, Dims, T, cuda>& arguments,
                                const recurrence_gradients<Dims, T, cuda>& gradients) {
  constexpr const char* operation = "scan_backward";
  check_rows_of_sweep<accumulator<T>>(operation, "k", arguments.stored_keys);
  check_rows_of_sweep<accumulator<T>>(operation, "v", arguments.values);
  execution<cuda>::scope scratch{on};
  const unsigned* left_over = nullptr;
  if constexpr (takes_pull_tiles<Recurrence, Position, T>) {
    const auto job = job_of<Recurrence, Position>(on, scratch, arguments, operation);
    if (fits_causal_tiles(job) && !gradients.state && !gradients.final_state) {
      left_over = on.takes_hopper() ? walk_gradients(on, scratch, operation, job, gradients)
                                    : run_pull_tiles(on, scratch, operation, job, gradients);
    }
  }
  if constexpr (takes_walks_alone<Recurrence, Position, T>) {
    const auto job = job_of<Recurrence, Position>(on, scratch, arguments, operation);
    if (on.takes_hopper() && fits_causal_tiles(job) && !gradients.state && !gradients.final_state) {
      left_over = walk_gradients(on, scratch, operation, job, gradients);
    }
  }
  // The gradient of a decay is made of differences between what queries and keys get. It wants both rounded but once.
  if constexpr (takes_encoding_walks<Recurrence, Position, T> && has_weights_to_pull<Recurrence> &&
                Recurrence::normaliser == normaliser_of::sum) {
    auto job = job_of<Recurrence, Position>(on, scratch, arguments, operation);
    const bool wanted = !gradients.state && !gradients.final_state && !gradients.theta;
    if (wanted && fits_encoding_walks(on, job)) {
      take_packed_angles(on, scratch, operation, job);
      left_over = walk_gradients(on, scratch, operation, job, gradients);
    }
    if constexpr (decltype(job)::keys_are_weights) {
      if (wanted && fits_walks_in_parts(on, job))
        left_over = walk_gradients_in_parts(on, scratch, operation, job, gradients);
    }
  }
  const auto job = weigh<Recurrence, Position>(on, scratch, arguments, false, operation, left_over);
  const auto pull = make_pullback(scratch, job);
  using pull_type = std::remove_cv_t<decltype(pull)>;
  using gradients_type = recurrence_gradients<Dims, T, cuda>;
  constexpr std::int64_t threads = 128;
  sweep_factors(on, operation, pull, gradients, [&] {
    launch(on, operation, {(arguments.items() * job.width + threads - 1) / threads, threads},
           pull_logits_kernel<pull_type, gradients_type>, pull, gradients);
  });
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
