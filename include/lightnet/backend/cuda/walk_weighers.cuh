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

  __device__ explicit walk_weighers(const part& given) : base{given} {}

  __device__ void run() {
    const int tiles = line_.tiles();
    constexpr int stages = plan::stages, ahead = stages - 1;
    for (int turn = 0; turn < ahead; ++turn) base::load_ahead(turn, tiles);
    channel_weights<Job> weights(job_, line_.at, thread_, shared_.between_parts(), &shared_.bad_token,
                                 What != walk_for::totals);
    for (int turn = 0; turn < tiles; ++turn) {
      wait_for_copies_but<ahead - 1>();
      __syncwarp();
      weigh(weights, turn);
      // The place of the tile before is for the one that many ahead.
      if constexpr (plan::multiplies) wait_until_emptied(turn - 1);
      base::load_ahead(turn + ahead, tiles);
    }
    wait_for_copies();
    if constexpr (plan::multiplies) {
      const int stage = tiles % stages;  // who had that place is done: all tiles but the last are
      message& to = shared_.messages[stage];
      if (thread_ == 0) to.rescales = 0;
      memory::feeding().meet();
      send_rescale(to, weights, weights.gain);
      if (thread_ == 0) to.ends = true;
      shared_.full[stage].pass();
      if constexpr (plan::forward_call) store(weights);
    }
  }

 private:
  /// A tile, of which this warp's copies are there: its factors, and word to the readers.
  __device__ void weigh(channel_weights<Job>& weights, int turn) {
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
        part::clean_values(shared_.v(stage), first, thread_);
      } else {
        carry_from(weights, first / rows);
      }
    }
    const auto load_again = [&](const auto& sequence, const tile& rows_of) {
      part::load_rows(sequence, line_, rows_of, first, on, thread_);
      wait_for_copies();
      __syncwarp();
    };
    for (int start = 0, last = 0; start < count; start = last + 1) {
      if (start > 0) {  // the keys and queries once more
        shared_.again.wait(runs_again_++);
        if constexpr (plan::loads_k) load_again(job_.from.k, shared_.k(stage));
        if constexpr (plan::loads_q) load_again(job_.from.q, shared_.q(stage));
      }
      last = count - 1;
      float by[2];
      for (bool cut = false;; cut = true) {
        constexpr auto watched = plan::backwards      ? watched_by::nobody
                                 : plan::forward_call ? watched_by::all
                                                      : watched_by::itself;
        const std::uint64_t counted = on & ~std::uint64_t{0} >> (63 - last) & ~std::uint64_t{0} << start;
        const bool narrow = weights.template enter<plan::factors, watched>(
            {shared_.k(stage), shared_.q(stage), shared_.rest(stage), shared_.extra(stage)}, first, counted, cut, by,
            [&] {
              if constexpr (plan::extras == 1) wait_until_emptied(turn - 1);
            });
        if constexpr (!plan::forward_call && !plan::backwards) {  // a gradient leaves such lines to others
          const bool bad = thread_ == 0 && (shared_.bad_values != 0 || shared_.bad_token != INT_MAX);
          if (finds_out() && (!narrow || bad)) kept_.redo[line_.at.item] = kept_.redo[job_.from.items()] = 1;
        }
        if (!plan::forward_call || narrow) break;
        if constexpr (plan::loads_k) load_again(job_.from.k, shared_.k(stage));
        if (thread_ == 0) shared_.run_end = count;
        memory::feeding().meet();
        atomicMin(&shared_.run_end, weights.first_wide(start, count));
        memory::feeding().meet();
        last = shared_.run_end - 1;
      }
      if constexpr (!plan::multiplies) continue;
      send_rescale(to, weights, plan::backwards ? later_by_ : by);
      later_by_[0] = by[0];
      later_by_[1] = by[1];
      if (thread_ == 0) {
        to.start = start;
        to.last = last;
        to.bad_token = shared_.bad_token;  // all have met since they looked
        to.again = last + 1 < count;
      }
      publish_to_products();
      shared_.full[stage].pass();
    }
  }

  /// Waits until nobody needs the tile of a turn any more, if there is one.
  __device__ void wait_until_emptied(int turn) const {
    if (turn >= 0) shared_.emptied[turn % plan::stages].wait(turn / plan::stages);
  }

  /// What takes the state to the frame of a tile.
  __device__ static void send_rescale(message& to, const channel_weights<Job>& weights, const float (&by)[2]) {
    if (weights.part != 0) return;
#pragma unroll
    for (int half = 0; half < plan::stored; half += D) {
      *reinterpret_cast<float2*>(to.rescale + half + weights.channel) = float2{by[0], by[1]};
    }
    if (by[0] != 1.0F || by[1] != 1.0F) atomicOr(&to.rescales, 1U);
  }

  /// Whether this walk of a gradient is the one that finds out what is carried to every tile, and which lines are odd.
  __device__ bool finds_out() const { return What == walk_for::factors || (What == walk_for::queries && !kept_.known); }
  /// Calls body(place, m, Z or 1 / Z of a decay) for the weights of this thread: of what is kept for a tile, and of its own.
  template <class Weights, class Body>
  __device__ void each_carried(Weights& weights, int index, const Body& body) const {
#pragma unroll
    for (int e = 0; e < weights.own; ++e) {
      if (!weights.has(e)) return;
      body(kept_.place(line_.at, index, job_.width, weights.own_weight(e)), weights.m[e],
           Job::sums ? weights.z[e] : weights.gain[e]);
    }
  }
  __device__ void keep_carried(const channel_weights<Job>& weights, int index) const {
    if (weights.part != 0) return;
    each_carried(weights, index, [&](std::int64_t place, std::int32_t m, float factor) {
      kept_.exponent[place] = m;
      kept_.normaliser[place] = factor;
    });
  }
  __device__ void carry_from(channel_weights<Job>& weights, int index) const {
    each_carried(weights, index, [&](std::int64_t place, std::int32_t& m, float& factor) {
      m = kept_.exponent[place];
      factor = kept_.normaliser[place];
    });
  }

  /// The weights of the final state, or of what a stretch adds up to.
  __device__ void store(const channel_weights<Job>& weights) const {
    const line_of_head& at = line_.at;
    const bool bad = shared_.bad_token < line_.length;
    const auto each_weight = [&](const auto& body) {
      if (weights.part != 0) return;
      for (int e = 0; e < weights.own && weights.channel + e < job_.width; ++e) body(e, weights.channel + e);
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

  float later_by_[2] = {1.0F, 1.0F};
  unsigned runs_again_ = 0;
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
