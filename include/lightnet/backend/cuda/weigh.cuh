// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/recurrence_job.cuh>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// The weights of one channel down a line: m and Z are carried from token to token. Reads the logits once and writes
/// three numbers for each; a thread a line, head and channel, eight logits on their way at a time.
template <class Job>
__global__ void __launch_bounds__(128) weigh_kernel(Job job) {
  using A = typename Job::A;
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= job.from.items() * job.width) return;
  const line_of_head at = job.line(index / job.width);
  const std::int64_t w = index % job.width;
  auto [m, z, product] = job.carried(at, w);
  constexpr int ahead = 8;
  A rest = A(0);  // what rounding has taken from Z
  unsigned long long first_bad = ~0ULL;
  for (std::int64_t first = 0; first < at.line.length; first += ahead) {
    A logits[ahead];
    bool on[ahead];
#pragma unroll
    for (int n = 0; n < ahead; ++n) {
      const std::int64_t token = at.line.token(first + n);
      on[n] = first + n < at.line.length && job.on(at, token);
      logits[n] = on[n] ? job.logit(at, token, w) : Job::neutral_logit();
    }
#pragma unroll
    for (int n = 0; n < ahead; ++n) {
      if (first + n >= at.line.length) break;
      A x = logits[n];
      if (on[n] && Job::bad_logit(x)) {
        x = Job::neutral_logit();
        if (first_bad == ~0ULL) first_bad = static_cast<unsigned long long>(first + n);
      }
      const std::int64_t place = job.row(at, at.line.token(first + n)) * job.width + w;
      if constexpr (Job::sums) {
        const scaled<A> power = scaled_exponential(x);
        const std::int32_t frame = power.exponent > m ? power.exponent : m;
        const A a = lower_by_power_of_two(A(1), m - frame);
        const A own = lower_by_power_of_two(power.mantissa, power.exponent - frame);
        m = frame;
        z *= a;
        const A next = multiply_add(a, rest, own), sum = z + next;
        rest = z >= next ? next - (sum - z) : z - (sum - next);
        z = sum;
        job.keep[place] = a;
        job.weight[place] = Job::running ? sum : own;
        if constexpr (Job::running) job.own[place] = own;
        if (!job.global) job.inverse[place] = inverse_of(sum);
      } else {
        const A a = Job::recurrence::with_sign ? x : exponential(x < Job::least_logit ? Job::least_logit : x);
        product *= a;
        job.keep[place] = a;
      }
    }
  }
  if constexpr (Job::sums) {
    job.exponent[index] = m;
    job.normaliser[index] = z;
    if (job.global) job.inverse[index] = inverse_of(z);
  } else {
    job.decay[index] = product;
  }
  if (first_bad != ~0ULL) {
    atomicMin(job.bad_token + at.item, first_bad);
    job.tell_bad_line(at);
    if (Job::recurrence::logits == logits_from::head) atomicOr(job.bad_content, 1U);
  }
}

/// Finds the first bad value of every column. A block a line, head and stretch of its tokens.
template <class Job>
__global__ void __launch_bounds__(256) find_bad_values_kernel(Job job, std::int64_t stretches, std::int64_t stretch) {
  if (job.nothing_wanted()) return;
  const line_of_head at = job.line(blockIdx.x / stretches);
  const std::int64_t first = blockIdx.x % stretches * stretch, values = job.from.values;
  const std::int64_t last = first + stretch < at.line.length ? first + stretch : at.line.length;
  for (std::int64_t n = first * values + threadIdx.x; n < last * values; n += blockDim.x) {
    const std::int64_t i = n / values, j = n % values, token = at.line.token(i);
    if (!job.on(at, token) || finite(Job::element(job.from.v, at, token, j))) continue;
    atomicMin(job.bad_column + at.item * values + j, static_cast<unsigned long long>(i));
    job.tell_bad_line(at);
  }
}

/// The weights of a line in the frame of its end, divided by its Z where they are normalised before they are encoded.
template <class Job>
struct enter_total_frame {
  Job job;

  __device__ void operator()(std::int64_t n) const {
    using A = typename Job::A;
    // From its own frame m_t a weight goes to that of the end by all factors a that follow it.
    const line_of_head at = job.line(n / job.width);
    const std::int64_t w = n % job.width;
    A later = Job::normalise_first ? job.inverse[n] : A(1);
    for (std::int64_t i = at.line.length; i-- > 0;) {
      const std::int64_t place = job.row(at, at.line.token(i)) * job.width + w;
      job.weight[place] *= later;
      later *= job.keep[place];
    }
  }
};

/// A job whose factors are worked out, in scratch memory that lives as long as the scope; of some lines, or of all.
template <class Recurrence, class Position, int Dims, class T>
recurrence_job<Recurrence, Position, Dims, T> weigh(execution<cuda>& on, execution<cuda>::scope& scratch,
                                                    const recurrence_arguments<Recurrence, Dims, T, cuda>& arguments,
                                                    bool global, const char* operation,
                                                    const unsigned* wanted = nullptr) {
  using job_type = recurrence_job<Recurrence, Position, Dims, T>;
  using A = typename job_type::A;
  job_type job = job_of<Recurrence, Position>(on, scratch, arguments, operation);
  job.global = global;
  job.wanted = wanted;
  const std::int64_t items = arguments.items(), weights = items * job.width;
  const std::int64_t all = arguments.lines.batch * arguments.heads * job.tokens * job.width;
  job.keep = scratch.take<A>(all);
  if constexpr (job_type::sums) {
    job.weight = scratch.take<A>(all);
    job.own = job_type::running ? scratch.take<A>(all) : job.weight;
    if (!global) job.inverse = scratch.take<A>(all);
  }
  take_line_memory(on, scratch, operation, job);
  constexpr std::int64_t threads = 128, stretch = 256;
  launch(on, operation, {(weights + threads - 1) / threads, threads}, weigh_kernel<job_type>, job);
  const std::int64_t stretches = (arguments.lines.longest() + stretch - 1) / stretch;
  launch(on, operation, {items * stretches, 256}, find_bad_values_kernel<job_type>, job, stretches, stretch);
  if constexpr (job_type::sums) {
    if (global) for_each(on, operation, weights, enter_total_frame<job_type>{job});
  }
  return job;
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
