// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/tile_exponential.cuh>
#include <lightnet/backend/cuda/walk_loaders.cuh>

#include <climits>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// The warps that feed a walk whose decays are of heads or of tokens, not of channels (walk_loaders). Its tiles stay as they
/// are: the first warp works out how far their tokens are apart, by differences of logarithms that are never above zero, so
/// that nothing overflows and no tile is cut. The second makes the gradients of the decays of what the readers have summed:
/// sum_{u >= t} (R_u - A_u) of token t, in double, as its terms nearly cancel over long lines.
template <walk_for What, class Job, class Outputs, int D>
class walk_spacers : walk_loaders<What, Job, Outputs, D> {
 public:
  using part = walk_part<What, Job, Outputs, D>;
  using base = walk_loaders<What, Job, Outputs, D>;
  using typename part::plan, typename part::memory, typename part::message;
  using part::rows, part::job_, part::out_, part::kept_, part::line_, part::shared_;
  using base::thread_;

  __device__ explicit walk_spacers(const part& given)
      : base{given},
        warp_{__shfl_sync(~0U, static_cast<int>(threadIdx.x) / 32, 0) - plan::readers / 32},
        lane_{static_cast<int>(threadIdx.x) % 32} {}

  __device__ void run() {
    constexpr int ahead = plan::stages - 1;
    const int turns = part::turns();
    for (int turn = 0; turn < ahead; ++turn) base::load_ahead(turn, [] {});
    if (warp_ == 0) read_logits(0);
    for (int turn = 0; turn < turns; ++turn) {
      base::wait_for_tile(turn);
      if (warp_ == 0) space(turn);
      if constexpr (plan::multiplies) {
        publish_to_products();
        shared_.full[turn % plan::stages].pass();
        if constexpr (plan::sums_terms) {
          if (warp_ == 1) take_terms(turn - 1);
        }
      } else {
        part::clean_values(shared_.v(turn % plan::stages), part::first_of(turn), thread_);
      }
      // The place of the tile before is for the one that many ahead.
      base::load_ahead(turn + ahead, [&] { base::wait_until_emptied(turn - 1); });
    }
    wait_for_copies();
    if constexpr (plan::multiplies) {
      base::wait_until_emptied(turns - plan::stages);
      message& to = shared_.messages[turns % plan::stages];
      if (thread_ == 0) to.ends = true;
      shared_.full[turns % plan::stages].pass();
    }
    if constexpr (plan::sums_terms) {
      if (warp_ == 1) {
        take_terms(turns - 1);
        store_head();
      }
    }
    if constexpr (plan::forward_call && !plan::both_ways) store();
    if constexpr (!plan::forward_call && !plan::backwards) {
      memory::feeding().meet();
      const bool bad = shared_.bad_values != 0 || shared_.bad_token != INT_MAX;
      if (thread_ == 0 && finds_out() && bad) part::leave_to_others();
    }
  }

 private:
  /// Whether this walk of a gradient is the one that finds out which lines are odd.
  __device__ bool finds_out() const { return What == walk_for::factors || !kept_.known; }

  // --- The first warp: a lane has two neighbouring tokens

  /// Starts to read the logits of the tile of a turn, if there is one.
  __device__ void read_logits(int turn) {
    if (turn >= part::turns()) return;
    const int first = part::first_of(turn), count = part::count_of(first);
#pragma unroll
    for (int e = 0; e < 2; ++e) logits_[e] = logit(first, count, lane_ * 2 + e);
  }
  __device__ float logit(int first, int count, int r) const {
    return job_.logit(line_.at, line_.at.line.token(first + (r < count ? r : 0)), 0);
  }

  __device__ static float2 two_floats(double x) {
    const auto high = static_cast<float>(x);
    return {high, static_cast<float>(x - static_cast<double>(high))};
  }
  /// Says what there is to know of a tile. On the way back a token sees later ones through the decays before theirs, its own
  /// among them, and what is bad anywhere, known by then, is bad everywhere.
  __device__ void space(int turn) {
    constexpr double binary = 1.4426950408889634074;  // log2(e)
    const int stage = turn % plan::stages, first = part::first_of(turn);
    const std::uint64_t on = part::tokens_on(first);
    double decayed[2] = {}, all = 0;
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const int r = lane_ * 2 + e;
      float x = (on >> r & 1U) != 0 ? logits_[e] : 0.0F;
      if (Job::bad_logit(x)) {
        atomicMin(&shared_.bad_token, first + r);
        if (Job::recurrence::logits == logits_from::head) atomicOr(job_.bad_content, 1U);
        x = 0;
      }
      all += binary * static_cast<double>(x < Job::least_logit ? Job::least_logit : x);
      decayed[e] = all;
    }
    read_logits(turn + 1);
    // What has decayed since the beginning of the tile.
    for (int offset = 1; offset < 32; offset *= 2) {
      const double before = __shfl_up_sync(~0U, all, offset);
      if (lane_ >= offset) all += before;
    }
    const double before = all - decayed[1], total = __shfl_sync(~0U, all, 31);
    if constexpr (plan::spaced) {
      auto& apart = shared_.apart[stage];
      const bool back = part::goes_back(turn), later = plan::backwards || back;
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const double before_token = e == 0 ? before : before + decayed[0];
        const double since = back ? before_token : before + decayed[e];
        const float of_earlier = tile_power_of_two(static_cast<float>(since)),
                    of_later = tile_power_of_two(static_cast<float>(total - since));
        apart.logs[lane_ * 2 + e] = two_floats(since);
        if constexpr (plan::scores_both_ways) apart.logs_before[lane_ * 2 + e] = two_floats(before_token);
        apart.reading[lane_ * 2 + e] = later ? of_later : of_earlier;
        apart.adding[lane_ * 2 + e] = later ? of_earlier : of_later;
      }
    }
    line_decayed_ += total;
    __syncwarp();
    if (lane_ != 0) return;
    message& to = shared_.messages[stage];
    to.rescale[0] = tile_power_of_two(static_cast<float>(total));
    to.on = on;
    to.start = 0;
    to.last = part::count_of(first) - 1;
    to.bad_token = part::goes_back(turn) ? part::everywhere(shared_.bad_token) : shared_.bad_token;
    to.rescales = 0;
    to.again = to.ends = false;
  }

  /// The product of the decays.
  __device__ void store() const {
    if (thread_ != 0) return;
    const line_of_head& at = line_.at;
    const float product =
        job_.carried(at, 0, What == walk_for::outputs).product * tile_power_of_two(static_cast<float>(line_decayed_));
    if constexpr (What == walk_for::outputs) {
      if (!out_.state || !line_.ends || !out_.state.decay) return;
      const bool bad = shared_.bad_token < line_.length;
      out_.state.decay(at.line.sequence, at.head, 0) = bad ? limits<float>::not_a_number : product;
    } else {
      out_.normaliser[line_.place] = product;
      tell_bad_token(job_, at, shared_.bad_token);
    }
  }

  // --- The second warp: what the readers have summed

  /// Takes the terms of the tokens of a turn, once they are there: for the queries R, which it keeps, for the keys A.
  __device__ void take_terms(int turn) {
    if (turn < 0) return;
    const int first = part::first_of(turn), count = part::count_of(first);
    auto* const reads = reinterpret_cast<float2*>(shared_.kept.reads + first / rows * rows) + lane_;
    float2 read{};
    std::uint64_t counted = 0;
    if constexpr (What == walk_for::keys) {
      read = *reads;
      counted = part::tokens_on(first);
#pragma unroll
      for (int e = 0; e < 2; ++e) {  // what does not depend on the state before has no gradient
        if (logit(first, count, lane_ * 2 + e) <= Job::least_logit) counted &= ~(std::uint64_t{1} << (lane_ * 2 + e));
      }
    }
    base::wait_until_emptied(turn);
    float2 sum{};
#pragma unroll
    for (int part_of = 0; part_of < memory::term_parts; ++part_of) {
      const float2 own = *reinterpret_cast<const float2*>(&shared_.terms[turn % 2][part_of][lane_ * 2]);
      sum = {sum.x + own.x, sum.y + own.y};
    }
    if constexpr (What == walk_for::queries) {
      *reads = sum;
    } else {
      const double own[2] = {static_cast<double>(read.x) - static_cast<double>(sum.x),
                             static_cast<double>(read.y) - static_cast<double>(sum.y)};
      double since = own[0] + own[1];  // and of later lanes
      for (int offset = 1; offset < 32; offset *= 2) {
        const double later = __shfl_down_sync(~0U, since, offset);
        if (lane_ + offset < 32) since += later;
      }
      const double gradient[2] = {later_ + since, later_ + since - own[0]};
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int r = lane_ * 2 + e;
        if (r < count) store_gradient(line_.at.line.token(first + r), (counted >> r & 1U) != 0 ? gradient[e] : 0.0);
      }
      later_ += __shfl_sync(~0U, since, 0);
    }
  }
  __device__ void store_gradient(std::int64_t token, double x) {
    if constexpr (Job::recurrence::logits == logits_from::head) {
      of_head_ += x;
    } else if (out_.logits) {
      auto& to = *out_.logits.token(line_.at.line.batch, line_.at.head, token);
      const auto y = static_cast<float>(x);
      to = static_cast<std::remove_reference_t<decltype(to)>>(out_.accumulate ? static_cast<float>(to) + y : y);
    }
  }
  __device__ void store_head() {
    if constexpr (What == walk_for::keys && Job::recurrence::logits == logits_from::head) {
      double sum = of_head_;
      for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(~0U, sum, offset);
      if (lane_ == 0 && out_.head_logits) {
        out_.head_logits(line_.at.item / job_.from.heads, line_.at.head) = static_cast<float>(sum);
      }
    }
  }

  const int warp_, lane_;
  float logits_[2] = {};     // of the next tile
  double line_decayed_ = 0;  // the binary logarithm of all decays
  double later_ = 0, of_head_ = 0;
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
