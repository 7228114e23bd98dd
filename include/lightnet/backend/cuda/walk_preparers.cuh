// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/tile_exponential.cuh>
#include <lightnet/backend/cuda/walk_loaders.cuh>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// The warps that feed a walk (walk_loaders) whose weights need no other tile: they turn the keys, which are the logits, into
/// khat. The frame is known or, of a sum, that of the largest key, which they look for first: the keys are read twice, soon
/// enough for a cache to have them. A thread has eight channels and some of the tokens.
template <walk_for What, class Job, class Outputs, int D>
class walk_preparers : walk_loaders<What, Job, Outputs, D> {
 public:
  using part = walk_part<What, Job, Outputs, D>;
  using base = walk_loaders<What, Job, Outputs, D>;
  using typename part::plan, typename part::memory, typename part::tile;
  using part::rows, part::job_, part::out_, part::line_, part::shared_;
  using base::thread_;
  static constexpr int own = 8, panels = D / 64;

  __device__ explicit walk_preparers(const part& given)
      : base{given}, channel_{thread_ / 32 % panels * 64 + thread_ % 8 * own} {}

  __device__ void run() {
    const int tiles = line_.tiles();
    constexpr int stages = plan::stages, ahead = stages - 1;
    if constexpr (What == walk_for::sums) {
      find_frame(tiles);
    } else {
      for (int e = 0; e < own; ++e) m_[e] = has(e) ? job_.exponent[line_.at.item * job_.width + channel_ + e] : 0;
    }
    for (int turn = 0; turn < ahead; ++turn) base::load_ahead(turn, tiles);
    for (int turn = 0; turn < tiles; ++turn) {
      const int stage = turn % stages, first = part::first_of(turn);
      wait_for_copies_but<ahead - 1>();
      if constexpr (plan::cleans_values) base::clean_values(shared_.v(stage), first);
      prepare(shared_.k(stage), first, part::tokens_on(first));
      publish_to_products();
      shared_.full[stage].pass();
      // The place of the tile before is for the one that many ahead.
      if (turn > 0) shared_.emptied[(turn - 1) % stages].wait((turn - 1) / stages);
      base::load_ahead(turn + ahead, tiles);
    }
    wait_for_copies();
    if constexpr (What == walk_for::sums) store_weights();
  }

 private:
  __device__ bool has(int e) const { return channel_ + e < job_.from.keys; }

  /// The frame of the largest key of each channel; where that is infinite, all that comes of it is NaN anyhow. A thread
  /// reads what it has loaded itself.
  __device__ void find_frame(int tiles) {
    constexpr int stages = plan::stages, ahead = stages - 1;
    const auto load_keys = [&](int turn) {
      if (turn < tiles) {
        const int first = part::first_of(turn);
        base::load(job_.from.k, memory::k_at, turn % stages, first, part::tokens_on(first));
      }
      commit_copies();
    };
    std::uint32_t top[own / 2];
    for (std::uint32_t& pair : top) pair = 0xFF80FF80U;  // - infinity
    for (int turn = 0; turn < ahead; ++turn) load_keys(turn);
    for (int turn = 0; turn < tiles; ++turn) {
      wait_for_copies_but<ahead - 1>();
      const tile keys = shared_.k(turn % stages);
      const std::uint64_t on = part::tokens_on(part::first_of(turn));
      part::each_eight(anew(thread_), [&](int row, int column) {
#pragma unroll
        for (int r = row; r < row + 16; r += 4) {
          const uint4 x = *reinterpret_cast<const uint4*>(keys.part(r, column));
          if (on != ~std::uint64_t{0} && (on >> r & 1U) == 0) continue;
          const std::uint32_t pairs[] = {x.x, x.y, x.z, x.w};
#pragma unroll
          for (int n = 0; n < own / 2; ++n) top[n] = larger_bfloat16(top[n], pairs[n]);
        }
      });
      load_keys(turn + ahead);
    }
    wait_for_copies();
    float largest[own];
    for (int e = 0; e < own; ++e) largest[e] = e % 2 == 0 ? lower_bfloat16(top[e / 2]) : upper_bfloat16(top[e / 2]);
    combine(largest, [](float a, float b) { return fmaxf(a, b); });
    for (int e = 0; e < own; ++e) m_[e] = has(e) ? tile_exponential::of<false>(largest[e]).exponent() : 0;
  }

  /// khat in the place of the keys; zero where a token does not count.
  __device__ __forceinline__ void prepare(const tile& keys, int first, std::uint64_t on) {
    constexpr std::uint32_t wide = 0x49744974U;  // 1e6
    part::each_eight(anew(thread_), [&](int row, int column) {
      uint4 x[4];
      std::uint32_t largest = 0;  // of pairs, without the signs
#pragma unroll
      for (int n = 0; n < 4; ++n) x[n] = *reinterpret_cast<const uint4*>(keys.part(row + 4 * n, column));
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        for (const std::uint32_t pair : {x[n].x, x[n].y, x[n].z, x[n].w}) {
          largest = __vmaxu2(largest, pair & 0x7FFF7FFFU);
        }
      }
      if (__vcmpgeu2(largest, wide) == 0 && on == ~std::uint64_t{0}) {
#pragma unroll
        for (int n = 0; n < 4; ++n) {
          *reinterpret_cast<uint4*>(keys.part(row + 4 * n, column)) = weigh<true>(x[n]);
        }
        return;
      }
#pragma unroll 1
      for (int r = row; r < row + 16; r += 4) {
        auto* const place = reinterpret_cast<uint4*>(keys.part(r, column));
        if ((on >> r & 1U) == 0) {
          *place = uint4{};
        } else {
          *place = weigh<false>(*place, first + r);
        }
      }
    });
  }

  /// The weights of the eight keys of a token; without Plain none where any of them is bad, which is remembered.
  template <bool Plain>
  __device__ __forceinline__ uint4 weigh(const uint4& keys, int position = 0) {
    const std::uint32_t pairs[] = {keys.x, keys.y, keys.z, keys.w};
    float y[own];
    bool bad = false;
#pragma unroll
    for (int e = 0; e < own; ++e) {
      const float x = e % 2 == 0 ? lower_bfloat16(pairs[e / 2]) : upper_bfloat16(pairs[e / 2]);
      bad = bad || (!Plain && Job::bad_logit(x));
      y[e] = tile_exponential::of<Plain>(x).template in_frame<Plain>(m_[e]);
    }
    if (!Plain && bad) {
      atomicMin(&shared_.bad_token, position);
      return uint4{};
    }
#pragma unroll
    for (int e = 0; e < own; ++e) z_[e] += y[e];
    return {pack_bfloat16(y[0], y[1]), pack_bfloat16(y[2], y[3]), pack_bfloat16(y[4], y[5]), pack_bfloat16(y[6], y[7])};
  }

  /// The same combination of what all threads of a channel have, in each of them.
  template <class Combine>
  __device__ void combine(float (&mine)[own], const Combine& with) const {
    memory::feeding().meet();  // who still reads what was here
    for (int e = 0; e < own; ++e) shared_.of_parts[thread_][e] = mine[e];
    memory::feeding().meet();
    const int same = thread_ / 32 % panels * 32 + thread_ % 8;
    for (int n = 0; n < plan::feeders / (8 * panels); ++n) {
      const float* const other = shared_.of_parts[n / 4 * (32 * panels) + n % 4 * 8 + same];
      for (int e = 0; e < own; ++e) mine[e] = n == 0 ? other[e] : with(mine[e], other[e]);
    }
  }

  /// The weights of the sum, and what was bad.
  __device__ void store_weights() {
    combine(z_, [](float a, float b) { return a + b; });
    for (int e = 0; e < own && thread_ % 32 < 8 && thread_ / 32 < panels; ++e) {
      if (!has(e)) continue;
      out_.exponent[line_.place * job_.width + channel_ + e] = m_[e];
      out_.normaliser[line_.place * job_.width + channel_ + e] = z_[e];
    }
    if (thread_ == 0) tell_bad_token(job_, line_.at, shared_.bad_token);
    if (thread_ < D) tell_bad_column(job_, line_.at, thread_, shared_.bad_column[thread_]);
  }

  const int channel_;  // the first of its channels
  std::int32_t m_[own];
  float z_[own] = {};  // Z of this thread's tokens
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
