// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/even_rows.cuh>
#include <lightnet/backend/cuda/walk_memory.cuh>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// The warps of a walk that read the operands from memory, as many tiles ahead as there are places for.
template <walk_for What, class Job, class Outputs, int D>
class walk_loaders : walk_part<What, Job, Outputs, D> {
 public:
  using part = walk_part<What, Job, Outputs, D>;
  using typename part::plan, typename part::memory, typename part::tile;
  using part::rows, part::job_, part::out_, part::line_, part::shared_;

  __device__ explicit walk_loaders(const part& given)
      : part{given},
        thread_{static_cast<int>(threadIdx.x) - plan::readers - plan::weighers},
        row_{thread_ / parts},
        column_{thread_ % parts * 8} {}

  __device__ void run() {
    even_rows<const bfloat16> k{}, v{}, q{}, incoming{};
    if constexpr (plan::loads_k) k = even_rows<const bfloat16>::of(job_.from.k, line_.at, D);
    if constexpr (plan::loads_v) v = even_rows<const bfloat16>::of(job_.from.v, line_.at, D);
    if constexpr (plan::loads_q) q = even_rows<const bfloat16>::of(job_.from.q, line_.at, D);
    if constexpr (plan::loads_incoming) incoming = even_rows<const bfloat16>::of(out_.o, line_.at, D);
    const std::int64_t tiles = line_.tiles();
    int stage = 0;
    unsigned round = 0;
    // A turn more than there are tiles, for the last word of the weighers.
    for (std::int64_t turn = 0; turn <= tiles; ++turn) {
      if (round > 0) shared_.emptied[stage].wait(round - 1);
      bool odd = false;
      if (turn < tiles) {
        const std::int64_t first = part::first_of(turn);
        const std::uint64_t on = part::tokens_on(first);
        if constexpr (plan::loads_k) odd |= load(job_.from.k, k, shared_.k(stage), first, on);
        if constexpr (plan::loads_v) odd |= load(job_.from.v, v, shared_.v(stage), first, on);
        if constexpr (plan::loads_q) odd |= load(job_.from.q, q, shared_.q(stage), first, on);
        if constexpr (plan::loads_incoming) odd |= load(out_.o, incoming, shared_.incoming(stage), first, on);
      }
      if (odd) {  // not all of it was copied: the barrier would not wait for what was stored
        wait_for_copies();
        shared_.loaded[stage].pass();
      } else {
        shared_.loaded[stage].pass_after_copies();
      }
      stage = memory::next(stage);
      round += stage == 0;
    }
    wait_for_copies();
  }

 private:
  static constexpr int parts = D / 8, step = plan::loaders / parts;  // of 16 bytes, of a row; rows at a time
  static_assert(step == 8);                                          // so that a thread's place in a row stays

  /// Starts to read the rows of a tile; whether they did not all lie as they should.
  template <class Sequence>
  __device__ __forceinline__ bool load(const Sequence& sequence, const even_rows<const bfloat16>& even, const tile& to,
                                       std::int64_t first, std::uint64_t on) const {
    if (!even || on != ~std::uint64_t{0}) {
      part::load_rows(sequence, to, first, on, thread_);
      return true;
    }
    const bfloat16* from = even.first + (first + row_) * even.step + column_;
    unsigned char* const place = to.part(row_, column_);
#pragma unroll
    for (int r = 0; r < rows; r += step, from += step * even.step) copy_to_shared(place + r * 128, from);
    return false;
  }

  const int thread_, row_, column_;
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
