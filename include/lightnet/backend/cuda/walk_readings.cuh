// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/walk_state.cuh>

#include <climits>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// The warps that multiply where all queries of a line read the same, X = (U / Z)^T: y^T = X q^T.
template <walk_for What, class Job, class Outputs, int D>
class walk_readings : walk_state<What, Job, Outputs, D> {
 public:
  using part = walk_part<What, Job, Outputs, D>;
  using base = walk_state<What, Job, Outputs, D>;
  using typename part::memory, typename part::message;
  using part::job_, part::out_, part::line_, part::shared_;
  using base::group_, base::thread_, base::rows_;

  __device__ explicit walk_readings(const part& given) : base{given} {}

  __device__ void run() {
    const std::int64_t keys = job_.from.keys, values = job_.from.values, item = line_.at.item;
    base::each_of_state([&](float& x, int i, int j) {
      x = 0;
      if (i >= keys || j >= values) return;
      x = out_.sum[(item * keys + i) * values + j];
      if constexpr (Job::sums) x *= job_.inverse[item * job_.width + (Job::per_channel ? i : 0)];
    });
    std::uint32_t packed[D / 16][4];
    base::pack_state(packed);
    // What is bad anywhere in the line is bad everywhere.
    message& bad = shared_.messages[0];
    const auto whole = static_cast<unsigned long long>(line_.at.line.length);
    const bool all_bad = job_.bad_token[item] < whole;
    bool any_bad = all_bad;
    for (std::int64_t j = thread_; j < values; j += 128) {
      const bool is_bad = all_bad || job_.bad_column[item * values + j] < whole;
      if (group_ == 0) bad.bad_column[j] = is_bad ? 0 : INT_MAX;
      any_bad = any_bad || is_bad;
    }
    if (thread_ == 0 && group_ == 0) bad.bad_token = INT_MAX;
    any_bad = memory::reading().any(any_bad);
    const int tiles = line_.tiles();
    int stage = 0;
    unsigned round = 0;
    for (int turn = 0; turn < tiles; ++turn) {
      const int first = part::first_of(turn);
      const std::uint64_t on = part::tokens_on(first);
      const run_of_rows run{first, 0, part::count_of(first) - 1, on, base::uniform(any_bad || on != ~std::uint64_t{0})};
      shared_.full[stage].wait(round);
      publish_to_products();
      memory::reading().meet();
      float y[32];
#pragma unroll
      for (int n = 0; n < 32; ++n) y[n] = 0;
      keep_order(y);
      begin_products();
#pragma unroll
      for (int i = 0; i < D; i += 16) multiply_add_group(y, packed[i / 16], shared_.q(stage).along_columns(0, i));
      commit_products();
      wait_for_products<0>();
      keep_order(y);
      shared_.emptied[stage].pass();
      rows_.store(out_.o, 0, values, run, y, run.odd ? &bad : nullptr, out_.accumulate);
      stage = memory::next(stage);
      round += stage == 0;
    }
  }
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
