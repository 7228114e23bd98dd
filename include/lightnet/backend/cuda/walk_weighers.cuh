// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/walk_loaders.cuh>

#include <climits>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// The warps that feed a walk (walk_loaders) and make the factors of its tiles, too: a thread those of two channels and a
/// part of the tokens.
template <walk_for What, class Job, class Outputs, int D>
class walk_weighers : walk_loaders<What, Job, Outputs, D> {
 public:
  using part = walk_part<What, Job, Outputs, D>;
  using base = walk_loaders<What, Job, Outputs, D>;
  using typename part::plan, typename part::memory, typename part::tile, typename part::message;
  using part::rows, part::job_, part::out_, part::kept_, part::line_, part::shared_;
  using base::thread_;
  template <bool Back>
  using weights_of = channel_weights<Job, plan::has_logits, Back, plan::doubles>;

  __device__ explicit walk_weighers(const part& given) : base{given} {}

  __device__ void run() {
    for (int turn = 0; turn < ahead; ++turn) base::load_ahead(turn, [] {});
    walk<false>(0, line_.tiles());
    if constexpr (plan::both_ways) walk<true>(line_.tiles(), part::turns());
  }

 private:
  static constexpr int stages = plan::stages, ahead = stages - 1;

  /// The turns [first, end), of one way.
  template <bool Back>
  __device__ __forceinline__ void walk(int first, int end) {
    weights_of<Back> weights(job_, line_.at, thread_, shared_.between_parts(), &shared_.bad_token,
                             What != walk_for::totals);
    if constexpr (plan::keeps) {
      if (!finds_out()) read_carried(weights, 0);
    }
    for (int turn = first; turn < end; ++turn) {
      base::wait_for_tile(turn);
      weigh(weights, turn);
      // The place of the tile before is for the one that many ahead.
      base::load_ahead(turn + ahead, [&] { base::wait_until_emptied(turn - 1); });
    }
    if (plan::both_ways && !Back) return;
    wait_for_copies();
    if constexpr (plan::multiplies) {
      const int stage = end % stages;
      base::wait_until_emptied(end - stages);
      message& to = shared_.messages[stage];
      if (thread_ == 0) to.rescales = 0;
      memory::feeding().meet();
      send_rescale(to, weights, weights.gain);
      if (thread_ == 0) to.ends = true;
      shared_.full[stage].pass();
      if constexpr (plan::forward_call && !plan::both_ways) store(weights);
    }
  }

  /// A tile, of which this warp's copies are there: its factors, and word to the readers.
  template <bool Back>
  __device__ void weigh(weights_of<Back>& weights, int turn) {
    const int stage = turn % plan::stages, first = part::first_of(turn);
    const int count = part::count_of(first);
    const std::uint64_t on = part::tokens_on(first);
    message& to = shared_.messages[stage];
    if (thread_ == 0) {
      to.on = on;
      to.rescales = 0;
      to.ends = false;
    }
    if constexpr (!plan::forward_call) {
      if (finds_out()) {
        keep_carried(weights, first / rows);
        if constexpr (!plan::multiplies)
          part::clean_values(shared_.v(stage), first, thread_);  // else the state shows it
      } else {
        carry(weights);
      }
    }
    const auto load_again = [&](int number, const auto& sequence) {
      part::load_rows(sequence, line_, {shared_.operands[stage][number]}, first, on, thread_,
                      part::channels_of(number));
      wait_for_copies();
      __syncwarp();
    };
    // In the order in which the tokens are walked.
    const int begin = Back ? rows - count : 0, end = begin + count;
    const std::uint64_t on_in_order = Back ? __brevll(on) : on;
    for (int start = begin, last = 0; start < end; start = last + 1) {
      if (start > begin) {  // the keys and queries once more
        shared_.again.wait(runs_again_++);
        if constexpr (plan::loads_k) load_again(memory::k_at, part::keys_of(job_));
        if constexpr (plan::loads_q) load_again(memory::q_at, job_.from.q);
      }
      last = end - 1;
      float by[2];
      for (bool cut = false;; cut = true) {
        constexpr auto watched = plan::backwards      ? watched_by::nobody
                                 : plan::forward_call ? watched_by::all
                                                      : watched_by::itself;
        const std::uint64_t counted = on_in_order & ~std::uint64_t{0} >> (63 - last) & ~std::uint64_t{0} << start;
        const bool narrow = weights.template enter<plan::factors, watched>(
            {shared_.k(stage), shared_.q(stage), shared_.rest(stage), shared_.extra(stage), shared_.logits(stage)},
            first, counted, cut, by, [&] {
              if constexpr (plan::extras == 1) base::wait_until_emptied(turn - 1);
            });
        if constexpr (!plan::forward_call && !plan::backwards) {  // a gradient leaves such lines to others
          const bool bad = thread_ == 0 && (shared_.bad_values != 0 || shared_.bad_token != INT_MAX);
          if (finds_out() && (!narrow || bad)) part::leave_to_others();
        }
        if (!plan::forward_call || narrow) break;
        if constexpr (plan::loads_k) load_again(memory::k_at, part::keys_of(job_));
        if (thread_ == 0) shared_.run_end = end;
        memory::feeding().meet();
        atomicMin(&shared_.run_end, weights.first_wide(start, end, counted));
        memory::feeding().meet();
        last = shared_.run_end - 1;
      }
      if constexpr (!plan::multiplies) continue;
      send_rescale(to, weights, plan::backwards ? later_by_ : by);
      later_by_[0] = by[0];
      later_by_[1] = by[1];
      if (thread_ == 0) {
        to.start = weights.row_of(Back ? last : start);
        to.last = weights.row_of(Back ? start : last);
        to.bad_token = shared_.bad_token;  // all have met since they looked
        if constexpr (Back) to.bad_token = part::everywhere(to.bad_token);
        to.again = last + 1 < end;
      }
      publish_to_products();
      shared_.full[stage].pass();
    }
    if constexpr (plan::keeps) {  // already now, as it takes long
      if (!finds_out()) read_carried(weights, turn + 1);
    }
  }

  /// What takes the state to the frame of a tile.
  template <class Weights>
  __device__ static void send_rescale(message& to, const Weights& weights, const float (&by)[2]) {
    if (weights.part != 0) return;
#pragma unroll
    for (int half = 0; half < plan::stored; half += D) {
      *reinterpret_cast<float2*>(to.rescale + half + weights.channel) = float2{by[0], by[1]};
    }
    if (by[0] != 1.0F || by[1] != 1.0F) atomicOr(&to.rescales, 1U);
  }

  /// Whether this walk of a gradient is the one that finds out what is carried to every tile, and which lines are odd.
  __device__ bool finds_out() const { return What == walk_for::factors || (What == walk_for::queries && !kept_.known); }
  /// Calls body(e, m, Z or 1 / Z of a decay) for where these are kept, of a tile, for the weights of this thread.
  template <class Weights, class Body>
  __device__ void each_carried(const Weights& weights, int index, const Body& body) const {
    const std::int64_t first = static_cast<std::int64_t>(index) * job_.width + weights.own_weight(0);
    std::int32_t* const exponent = shared_.kept.exponent + first;
    float* const factor = shared_.kept.normaliser + first;
#pragma unroll
    for (int e = 0; e < weights.own; ++e) {
      if (!weights.has(e)) return;
      const int w = Job::per_channel ? e : 0;
      body(e, exponent[w], factor[w]);
    }
  }
  template <class Weights>
  __device__ void keep_carried(const Weights& weights, int index) const {
    if (weights.part != 0 || !weights.comes_first()) return;
    each_carried(weights, index, [&](int e, std::int32_t& exponent, float& factor) {
      exponent = weights.m[e];
      factor = Job::sums ? weights.z[e] : weights.gain[e];
    });
  }
  /// Takes what is carried to a tile.
  template <class Weights>
  __device__ void carry(Weights& weights) const {
#pragma unroll
    for (int e = 0; e < Weights::own; ++e) {
      weights.m[e] = next_[e].exponent;
      (Job::sums ? weights.z : weights.gain)[e] = next_[e].factor;
    }
  }
  /// Starts to read what is carried to the tile of a turn, if there is one.
  template <class Weights>
  __device__ void read_carried(const Weights& weights, int turn) {
    if (turn >= line_.tiles()) return;
    each_carried(weights, part::first_of(turn) / rows, [&](int e, std::int32_t exponent, float factor) {
      next_[e] = {exponent, factor};
    });
  }

  /// The weights of the final state, or of what a stretch adds up to.
  template <class Weights>
  __device__ void store(const Weights& weights) const {
    const line_of_head& at = line_.at;
    const bool bad = shared_.bad_token < line_.length;
    const auto each_weight = [&](const auto& body) {
      if (weights.part != 0 || !weights.comes_first()) return;
      const int first = weights.own_channel();
      for (int e = 0; e < weights.own && first + e < job_.width; ++e) body(e, first + e);
    };
    if constexpr (What == walk_for::outputs) {
      if (!out_.state || !line_.ends) return;
      const float nan = limits<float>::not_a_number;
      each_weight([&](int e, std::int64_t w) {
        if constexpr (Job::recurrence::framed) {
          out_.state.exponent(at.line.sequence, at.head, w) = final_exponent(weights.m[e], bad);
          out_.state.normaliser(at.line.sequence, at.head, w) = bad ? nan : weights.z[e];
        } else if (out_.state.decay) {
          out_.state.decay(at.line.sequence, at.head, w) = bad ? nan : weights.product[e];
        }
      });
    } else {
      each_weight([&](int e, std::int64_t w) {
        const std::int64_t place = line_.place * job_.width + w;
        if constexpr (Job::sums) out_.exponent[place] = weights.m[e];
        out_.normaliser[place] = Job::sums ? weights.z[e] : weights.product[e];
      });
      if (thread_ == 0) tell_bad_token(job_, at, shared_.bad_token);
    }
  }

  /// What is carried to the next tile: m, and Z or 1 / Z of a decay.
  struct carried {
    std::int32_t exponent;
    float factor;
  };
  carried next_[weights_of<false>::own] = {};
  float later_by_[2] = {1.0F, 1.0F};
  unsigned runs_again_ = 0;
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
