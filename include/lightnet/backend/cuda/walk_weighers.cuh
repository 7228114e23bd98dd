// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/walk_memory.cuh>

#include <climits>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// The warps of a walk that make the factors, a thread a channel of the key.
template <walk_for What, class Job, class Outputs, int D>
class walk_weighers : walk_part<What, Job, Outputs, D> {
 public:
  using part = walk_part<What, Job, Outputs, D>;
  using typename part::plan, typename part::memory, typename part::tile, typename part::message;
  using part::rows, part::job_, part::out_, part::kept_, part::line_, part::shared_;
  static constexpr int threads = plan::weighers;

  __device__ explicit walk_weighers(const part& given)
      : part{given}, thread_{static_cast<int>(threadIdx.x) - plan::readers} {}

  __device__ void run() {
    shared_.bad_column[thread_] = INT_MAX;
    if (thread_ == 0) {
      shared_.bad_token = INT_MAX;
      shared_.bad_values = 0;
    }
    memory::weighing().meet();
    channel_weights<Job> weights(job_, line_.at, thread_, &shared_.bad_token, What != walk_for::totals);
    const std::int64_t tiles = line_.tiles();
    int stage = 0;
    unsigned round = 0;
    for (std::int64_t turn = 0; turn < tiles; ++turn) {
      weigh(weights, turn, stage, round);
      if constexpr (!plan::multiplies) shared_.emptied[stage].pass();
      stage = memory::next(stage);
      round += stage == 0;
    }
    if constexpr (plan::multiplies) {
      shared_.loaded[stage].wait(round);  // nothing, but who had this place before is done
      message& to = shared_.messages[stage];
      to.rescale[thread_] = weights.gain;
      memory::weighing().meet();
      send_bad(to);
      if (thread_ == 0) to.ends = true;
      shared_.full[stage].pass();
      if constexpr (plan::forward_call) store(weights);
    }
  }

 private:
  /// Makes entries of v that are no numbers zero, and keeps where they were.
  __device__ void clean_values(const tile& v, std::int64_t first) const {
    constexpr int parts = D / 8, step = threads / parts;
    const int r0 = thread_ / parts, c = thread_ % parts * 8;
    const auto odd = [](std::uint32_t pair) { return ((pair & 0x7FFF7FFFU) + 0x00800080U) & 0x80008000U; };
    std::uint32_t any = 0;
#pragma unroll
    for (int r = 0; r < rows; r += step) {
      const uint4 x = *reinterpret_cast<const uint4*>(v.part(r0 + r, c));
      any |= odd(x.x) | odd(x.y) | odd(x.z) | odd(x.w);
    }
    if (any == 0) return;
    atomicOr(&shared_.bad_values, 1U);
    for (int r = r0; r < rows; r += step) {
      for (int e = 0; e < 8; ++e) {
        std::uint16_t& x = *v.at(r, c + e);
        if ((x & 0x7F80U) != 0x7F80U) continue;
        x = 0;
        atomicMin(shared_.bad_column + c + e, static_cast<int>(first + r));
      }
    }
  }

  /// A tile: its factors, and word to the readers.
  __device__ void weigh(channel_weights<Job>& weights, std::int64_t turn, int stage, unsigned round) {
    const std::int64_t first = part::first_of(turn);
    const int count = part::count_of(first);
    const std::uint64_t on = part::tokens_on(first);
    if constexpr (!plan::forward_call) carry_from(weights, first / rows);
    for (int start = 0, last = 0; start < count; start = last + 1) {
      if (start == 0) {
        shared_.loaded[stage].wait(round);
        // A gradient has no lines with such entries.
        if constexpr (plan::loads_v && !plan::goes_back) clean_values(shared_.v(stage), first);
      } else {  // the keys and queries once more
        shared_.again.wait(runs_again_++);
        if constexpr (plan::loads_k) part::load_rows(job_.from.k, shared_.k(stage), first, on, thread_);
        if constexpr (plan::loads_q) part::load_rows(job_.from.q, shared_.q(stage), first, on, thread_);
        wait_for_copies();
      }
      memory::weighing().meet();
      last = count - 1;
      const auto counted = [&] { return on & ~std::uint64_t{0} >> (63 - last) & ~std::uint64_t{0} << start; };
      const bool wide = memory::weighing().any(weights.begin(shared_.k(stage), first, counted()) > widest_run);
      if constexpr (What == walk_for::factors) {
        if (thread_ == 0 && (wide || shared_.bad_values != 0 || shared_.bad_token != INT_MAX)) {
          kept_.redo[line_.at.item] = 1;
        }
      } else if constexpr (plan::forward_call) {  // a gradient has no such lines
        if (wide) {
          if (thread_ == 0) shared_.run_end = count;
          memory::weighing().meet();
          atomicMin(&shared_.run_end, weights.first_wide(start, count));
          memory::weighing().meet();
          last = shared_.run_end - 1;
          weights.begin(shared_.k(stage), first, counted());
        }
      }
      const float by = weights.template enter<plan::factors>(shared_.q(stage), shared_.extra(stage));
      if constexpr (!plan::multiplies) continue;
      message& to = shared_.messages[stage];
      to.rescale[thread_] = plan::backwards ? later_by_ : by;
      later_by_ = by;
      send_bad(to);
      if (thread_ == 0) {
        to.on = on;
        to.start = start;
        to.last = last;
        to.again = last + 1 < count;
        to.ends = false;
      }
      publish_to_products();
      shared_.full[stage].pass();
    }
  }

  /// What is bad so far. All weighers have met since they looked.
  __device__ void send_bad(message& to) const {
    to.bad_column[thread_] = shared_.bad_column[thread_];
    if (thread_ != 0) return;
    to.bad_token = shared_.bad_token;
    to.bad = shared_.bad_values != 0 || shared_.bad_token != INT_MAX;
  }

  /// What is carried to a tile: kept by the walk for the factors, known to the others.
  __device__ void carry_from(channel_weights<Job>& weights, std::int64_t index) const {
    if (!weights.has()) return;
    const std::int64_t place = kept_.place(line_.at, index, job_.width, weights.own_weight());
    float& factor = Job::sums ? weights.z : weights.gain;
    if constexpr (What == walk_for::factors) {
      kept_.exponent[place] = weights.m;
      kept_.normaliser[place] = factor;
    } else {
      weights.m = kept_.exponent[place];
      factor = kept_.normaliser[place];
    }
  }

  /// The weights of the final state, or of what a stretch adds up to.
  __device__ void store(const channel_weights<Job>& weights) const {
    const line_of_head& at = line_.at;
    const std::int64_t w = weights.channel;
    if constexpr (What == walk_for::outputs) {
      if (!out_.state || w >= job_.width) return;
      const bool bad = shared_.bad_token < line_.length;
      const float nan = limits<float>::not_a_number;
      if constexpr (Job::recurrence::framed) {
        out_.state.exponent(at.line.sequence, at.head, w) = weights.m;
        out_.state.normaliser(at.line.sequence, at.head, w) = bad ? nan : weights.z;
      } else if (out_.state.decay) {
        out_.state.decay(at.line.sequence, at.head, w) = bad ? nan : weights.product;
      }
    } else {
      if constexpr (Job::sums) {
        if (w < job_.width) {
          out_.exponent[blockIdx.x * job_.width + w] = weights.m;
          out_.normaliser[blockIdx.x * job_.width + w] = weights.z;
        }
      }
      if (thread_ == 0 && shared_.bad_token != INT_MAX) {
        atomicMin(job_.bad_token + at.item, static_cast<unsigned long long>(shared_.bad_token));
      }
      if (w < job_.from.values && shared_.bad_column[w] != INT_MAX) {
        atomicMin(job_.bad_column + at.item * job_.from.values + w,
                  static_cast<unsigned long long>(shared_.bad_column[w]));
      }
    }
  }

  const int thread_;
  float later_by_ = 1.0F;
  unsigned runs_again_ = 0;
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
