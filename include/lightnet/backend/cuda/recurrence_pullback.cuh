// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/sweep.cuh>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// What the gradients of every traversal share: the gradients of the factors, and the way from there back to q, k and the
/// logits. Written down token by token, D being the gradient by U and A = khat * dkhat, R = qhat * dqhat:
///   dqhat_t = U_t do_t,   D_t = a_{t+1} D_{t+1} + qhat_t do_t^T,   dkhat_t = D_t v_t,   dv_t = D_t^T khat_t.
template <class Job>
struct pullback_job {
  using A = typename Job::A;

  Job job;
  A *dread = nullptr, *dwrite = nullptr;        // [B, H, N, d']: dqhat and dkhat
  A *read_term = nullptr, *key_term = nullptr;  // [B, H, N, width]: R and A, summed over what shares a weight
  A* complement_term = nullptr;                 // [B, H, N, width]: what a key 1 - a adds to its logit
  A *state = nullptr, *d = nullptr;             // [items, d', e]: U and D at the end of a line; D at its start
  A* r = nullptr;  // [items, width]: what D at the end, then at the start, owes the normaliser

  __device__ std::int64_t place(const line_of_head& at, std::int64_t token, std::int64_t r_of) const {
    return job.row(at, token) * job.from.stored_keys + r_of;
  }
  __device__ std::int64_t in_state(const line_of_head& at, std::int64_t r_of, std::int64_t j) const {
    return (at.item * job.from.stored_keys + r_of) * job.from.values + j;
  }
  /// A row of U or D.
  __device__ auto row_of_state(const A* of, const line_of_head& at, std::int64_t r_of) const {
    return row_of_elements([first = of + in_state(at, r_of, 0)](std::int64_t j) { return first[j]; });
  }
};

/// What comes back to a token; zero where that is masked.
template <class Job, class Gradients>
__device__ auto incoming(const Job& job, const Gradients& out, const line_of_head& at, std::int64_t token) {
  const bool counts = job.on(at, token);
  const auto elements = Job::elements_of(out.o, at, token);
  return fetched_row{elements.fetch, [=](auto x) { return counts ? elements.value(x) : typename Job::A(0); }};
}

/// Where a gradient of a token is written, if it is wanted: NaN all along a line and head that saw a bad entry.
template <class Job, class Sequence>
__device__ auto store_gradient(const Job& job, const Sequence& to, const line_of_head& at, std::int64_t token,
                               bool accumulate) {
  const bool wanted = static_cast<bool>(to), bad = job.poisoned[at.item] != 0;
  return [store = job.store(to, at, token, accumulate), wanted, bad](std::int64_t channel, typename Job::A x) {
    if (wanted) store(channel, bad, x);
  };
}

/// D and r at the end of a line, from the gradient of the final state: dU = dS / Z, and dz enters through Z. A thread a
/// weight.
template <class Pull, class Gradients>
struct begin_gradient {
  Pull pull;
  Gradients out;

  __device__ void operator()(std::int64_t n) const {
    using A = typename Pull::A;
    const auto& job = pull.job;
    using job_type = std::remove_cvref_t<decltype(job)>;
    const line_of_head at = job.line(n / job.width);
    if (at.left_alone) return;
    const std::int64_t w = n % job.width, step = job_type::per_channel ? job.from.keys : 1;
    A by = A(1), sum = A(0);
    if constexpr (job_type::sums) by = inverse_of(job.normaliser[n]);
    for (std::int64_t i = w; i < job.from.stored_keys; i += step) {
      for (std::int64_t j = 0; j < job.from.values; ++j) {
        const A ds = out.final_state ? out.final_state.sum(at.line.sequence, at.head, i, j) : A(0);
        const std::int64_t place = pull.in_state(at, i, j);
        if (out.final_state) sum = multiply_add(ds, pull.state[place], sum);
        pull.d[place] = ds * by;
      }
    }
    if constexpr (job_type::sums) {
      const A dz = out.final_state.z ? out.final_state.z(at.line.sequence, at.head, w) : A(0);
      sum = (sum * by - dz) * by;
    }
    pull.r[n] = sum;
  }
};

/// The gradient of the initial state: dS_0 = Z_0 D and dz_0 = rowsum(dS_0 * S_0) - Z_0 r, D and r in its frame.
template <class Pull, class Gradients>
struct end_gradient {
  Pull pull;
  Gradients out;

  __device__ void operator()(std::int64_t n) const {
    using A = typename Pull::A;
    const auto& job = pull.job;
    using job_type = std::remove_cvref_t<decltype(job)>;
    using recurrence = typename job_type::recurrence;
    const line_of_head at = job.line(n / job.width);
    const std::int64_t w = n % job.width, step = job_type::per_channel ? job.from.keys : 1;
    A z = !recurrence::framed || recurrence::sink ? A(1) : A(0), sum = A(0);
    if constexpr (recurrence::framed) {
      if (job.from.state) {
        z = job.begins_empty(at, w) ? A(0) : job.from.state.normaliser(at.line.sequence, at.head, w);
      }
    }
    const bool nan = job.poisoned[at.item] != 0;
    for (std::int64_t i = w; i < job.from.stored_keys; i += step) {
      for (std::int64_t j = 0; j < job.from.values; ++j) {
        const A d = pull.d[pull.in_state(at, i, j)];
        sum = multiply_add(d, job.begin(at, i, j), sum);
        out.state.sum(at.line.sequence, at.head, i, j) = nan ? limits<A>::not_a_number : z * d;
      }
    }
    if (out.state.z) {
      out.state.z(at.line.sequence, at.head, w) = nan ? limits<A>::not_a_number : sum - z * pull.r[n];
    }
  }
};

/// From the gradients of the factors to those of q and of a key that is no logit, and to the terms of the logits' own, of
/// a token; by a warp, its lanes along the channels.
template <class Pull, class Gradients>
__device__ void pull_row(const Pull& pull, const Gradients& out, const line_of_head& at, std::int64_t token) {
  using A = typename Pull::A;
  using job_type = std::remove_cvref_t<decltype(pull.job)>;
  using position = typename job_type::position;
  const auto& job = pull.job;
  const std::int64_t keys = job.from.keys;
  const A *const dread = pull.dread + pull.place(at, token, 0), *const dwrite = pull.dwrite + pull.place(at, token, 0);
  const auto plain_queries = job.plain_queries_of(at, token);
  const auto plain_keys = job.plain_keys_of(at, token);
  const auto store_q = store_gradient(job, out.q, at, token, out.accumulate);
  const auto store_k = store_gradient(job, out.k, at, token, out.accumulate);
  A reads = A(0), writes = A(0), complements = A(0);
  for (std::int64_t c = threadIdx.x % 32; c < keys; c += 32) {
    A dqhat, dkhat;
    if constexpr (position::encodes) {
      const A *const cosine = job.cosine(at, token), *const sine = job.sine(at, token);
      const std::int64_t angles = job.from.cosine.extent(2);
      dqhat = position::decoded(dread, c, cosine, sine, keys, angles);
      dkhat = position::decoded(dwrite, c, cosine, sine, keys, angles);
    } else {
      dqhat = dread[c];
      dkhat = dwrite[c];
    }
    store_q(c, dqhat * job.reciprocal(at, token, c));
    const A dkappa = dkhat * job.key_factor(at, token, c);
    if constexpr (job_type::recurrence::kappa == kappa_of::key) store_k(c, dkappa);
    const A read = plain_queries[c] * dqhat, write = plain_keys[c] * dkhat;
    A complement = A(0);
    if constexpr (job_type::complement) {
      if (job.on(at, token)) complement = (job.kappa(at, token, c) - A(1)) * dkappa;
    }
    if constexpr (job_type::per_channel) {
      const std::int64_t place = job.place(at, token, c);
      pull.read_term[place] = read;
      pull.key_term[place] = write;
      if constexpr (job_type::complement) pull.complement_term[place] = complement;
    } else {
      reads += read;
      writes += write;
      complements += complement;
    }
  }
  if constexpr (!job_type::per_channel) {
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) {
      reads += __shfl_xor_sync(~0U, reads, offset);
      writes += __shfl_xor_sync(~0U, writes, offset);
      complements += __shfl_xor_sync(~0U, complements, offset);
    }
    if (threadIdx.x % 32 == 0) {
      const std::int64_t place = job.place(at, token, 0);
      pull.read_term[place] = reads;
      pull.key_term[place] = writes;
      if constexpr (job_type::complement) pull.complement_term[place] = complements;
    }
  }
}

/// The same for all tokens: a block 64 of a line and head.
inline constexpr std::int64_t rows_of_pull = 64;
template <class Pull, class Gradients>
__global__ void __launch_bounds__(256) pull_rows_kernel(Pull pull, Gradients out, std::int64_t blocks_of_item) {
  if (pull.job.nothing_wanted()) return;
  for (std::int64_t block = blockIdx.x; block < pull.job.from.items() * blocks_of_item; block += gridDim.x) {
    const line_of_head at = pull.job.line(block / blocks_of_item);
    const std::int64_t first = block % blocks_of_item * rows_of_pull;
    for (std::int64_t i = first + threadIdx.x / 32; i < first + rows_of_pull && i < at.line.length; i += 8) {
      pull_row(pull, out, at, at.line.token(i));
    }
  }
}

/// Writes the gradient of a logit, or adds it to that of its head.
template <class Job, class Gradients>
__device__ void store_logit(const Job& job, const Gradients& out, const line_of_head& at, std::int64_t token,
                            std::int64_t w, typename Job::A x, typename Job::A& of_head) {
  if constexpr (Job::tied) store_gradient(job, out.k, at, token, out.accumulate)(w, x);
  if constexpr (Job::recurrence::logits == logits_from::tokens) {
    store_gradient(job, out.logits, at, token, out.accumulate)(w, x);
  }
  if constexpr (Job::recurrence::logits == logits_from::head) {
    if (job.on(at, token)) of_head += x;
  }
}

template <class Job, class Gradients>
__device__ void store_head_logit(const Job& job, const Gradients& out, const line_of_head& at, typename Job::A sum) {
  if constexpr (Job::recurrence::logits == logits_from::head) {
    using A = typename Job::A;
    const A nan = limits<A>::not_a_number;
    if (out.head_logits) out.head_logits(at.item / job.from.heads, at.head) = job.poisoned[at.item] != 0 ? nan : sum;
  }
}

/// The gradients of theta, a share of the angles, from queries and keys: tokens in their order, a thread a line, head and
/// theta.
template <class Pull, class Gradients>
struct pull_angles {
  Pull pull;
  Gradients out;

  __device__ void operator()(std::int64_t n) const {
    using A = typename Pull::A;
    using position = typename std::remove_cvref_t<decltype(pull.job)>::position;
    const auto& job = pull.job;
    const std::int64_t share = out.theta.extent(2), angles = job.from.cosine.extent(2), keys = job.from.keys;
    const line_of_head at = job.line(n / share);
    A sum = A(0);
    for (std::int64_t i = 0; i < at.line.length; ++i) {
      const std::int64_t token = at.line.token(i);
      const A *const cosine = job.cosine(at, token), *const sine = job.sine(at, token);
      const A* const dread = pull.dread + pull.place(at, token, 0);
      const A* const dwrite = pull.dwrite + pull.place(at, token, 0);
      const auto queries = job.plain_queries_of(at, token);
      const auto keys_at = job.plain_keys_of(at, token);
      for (std::int64_t j = n % share; j < angles; j += share) {
        const A dangle = position::angle_gradient(queries, dread, j, cosine, sine, keys, angles) +
                         position::angle_gradient(keys_at, dwrite, j, cosine, sine, keys, angles);
        sum = multiply_add(out.coordinate(token - at.line.origin, j), dangle, sum);
      }
    }
    out.theta(at.item / job.from.heads, at.head, n % share) =
        job.poisoned[at.item] != 0 ? limits<A>::not_a_number : sum;
  }
};

/// A pullback with its memory, in a scope.
template <class Job>
pullback_job<Job> make_pullback(execution<cuda>::scope& scratch, const Job& job) {
  using A = typename Job::A;
  pullback_job<Job> pull;
  pull.job = job;
  const std::int64_t rows = job.from.lines.batch * job.from.heads * job.tokens, items = job.from.items();
  pull.dread = scratch.take<A>(rows * job.from.stored_keys);
  pull.dwrite = scratch.take<A>(rows * job.from.stored_keys);
  pull.read_term = scratch.take<A>(rows * job.width);
  pull.key_term = scratch.take<A>(rows * job.width);
  if constexpr (Job::complement) pull.complement_term = scratch.take<A>(rows * job.width);
  pull.state = scratch.take<A>(items * job.from.stored_keys * job.from.values);
  pull.d = scratch.take<A>(items * job.from.stored_keys * job.from.values);
  pull.r = scratch.take<A>(items * job.width);
  return pull;
}

/// From the gradients of the factors to those of q, k and, as far as that goes without the logits, of theta.
template <class Pull, class Gradients>
void pull_rows(execution<cuda>& on, const char* operation, const Pull& pull, const Gradients& out) {
  using job_type = std::remove_cvref_t<decltype(pull.job)>;
  const std::int64_t blocks = (pull.job.from.lines.longest() + rows_of_pull - 1) / rows_of_pull;
  launch(on, operation, {pull.job.blocks_of(on, pull.job.from.items() * blocks), 256},
         pull_rows_kernel<Pull, Gradients>, pull, out, blocks);
  if constexpr (job_type::position::encodes) {
    if (out.theta) {
      for_each(on, operation, pull.job.from.items() * out.theta.extent(2), pull_angles<Pull, Gradients>{pull, out});
    }
  }
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
