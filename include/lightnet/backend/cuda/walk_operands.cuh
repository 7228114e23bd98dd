// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/walk_state.cuh>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Which tiles the warps of a walk multiply, and how products begin and end (see walk_readers).
template <walk_for What, class Job, class Outputs, int D>
class walk_operands : protected walk_state<What, Job, Outputs, D> {
 protected:
  using part = walk_part<What, Job, Outputs, D>;
  using base = walk_state<What, Job, Outputs, D>;
  using typename part::plan, typename part::memory, typename part::tile;
  using part::shared_, base::group_, base::keep_state, base::uniform;

  __device__ explicit walk_operands(const part& given) : base{given} {}

  /// `in`, `read` and `column` of walk_readers; what goes with the cosines, where there are sines, too.
  __device__ tile in(int stage) const {
    if constexpr (What == walk_for::queries) return shared_.v(stage);
    if constexpr (What == walk_for::keys) return shared_.incoming(stage);
    if constexpr (What == walk_for::values) return shared_.q(stage);
    return shared_.k(stage);
  }
  __device__ tile read(int stage) const {
    if constexpr (What == walk_for::queries) return shared_.incoming(stage);
    if constexpr (What == walk_for::keys) return shared_.v(stage);
    if constexpr (What == walk_for::values) return shared_.k(stage);
    return shared_.q(stage);
  }
  __device__ tile column(int stage) const {
    // Of halves, each group has one.
    if constexpr (What == walk_for::queries) return joins_sines() ? shared_.sines_of_k() : shared_.k(stage);
    if constexpr (What == walk_for::keys) return joins_sines() ? shared_.sines_of_q() : shared_.q(stage);
    if constexpr (What == walk_for::values) return shared_.incoming(stage);
    return shared_.v(stage);
  }

  __device__ bool joins_sines() const { return plan::joins_halves && group_ != 0; }
  __device__ int first_column() const { return plan::joins_halves ? 0 : group_ * 64; }
  // What goes with the sines in `in` and `read`.
  __device__ tile in_sines() const { return What == walk_for::values ? shared_.sines_of_q() : shared_.sines_of_k(); }
  __device__ tile read_sines() const { return What == walk_for::values ? shared_.sines_of_k() : shared_.sines_of_q(); }

  template <int Count>
  __device__ __forceinline__ static void clear(float (&sums)[Count]) {
#pragma unroll
    for (float& sum : sums) sum = 0;
    keep_order(sums);
  }
  /// Waits until y and X are there, and nobody reads the scores any more, nor the operands. Whether any column of v is bad.
  __device__ __forceinline__ bool end_products(float (&y)[32]) {
    const bool bad = plan::cleans_values && uniform(shared_.bad_values != 0);
    wait_for_products<0>();
    keep_order(y);
    keep_state();
    if constexpr (plan::fetches_rows) wait_for_copies();  // of what is added to
    memory::reading().meet();
    return bad;
  }
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
