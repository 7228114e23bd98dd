// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/tile_exponential.cuh>
#include <lightnet/backend/cuda/walk_loaders.cuh>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// The warps that feed a walk (walk_loaders) whose weights need no other tile: they turn the keys, which are the logits, into
/// khat. The frame is known or, of a sum, that of the first keys, and goes on only where later ones are far above it. A thread
/// has eight channels and some of the tokens.
template <walk_for What, class Job, class Outputs, int D>
class walk_preparers : walk_loaders<What, Job, Outputs, D> {
 public:
  using part = walk_part<What, Job, Outputs, D>;
  using base = walk_loaders<What, Job, Outputs, D>;
  using typename part::plan, typename part::memory, typename part::tile, typename part::message;
  using part::job_, part::out_, part::line_, part::shared_;
  using base::thread_, part::panels;
  static constexpr int own = 8;
  static constexpr std::uint32_t lowest = 0xFF80FF80U;  // - infinity, twice
  // Weights may be 2^8 before the frame goes on; 2^12 of keys so large that bfloat16 has no nearer ones.
  static constexpr float climb = 8;

  __device__ explicit walk_preparers(const part& given)
      : base{given}, channel_{base::column()}, place_{base::place()} {}

  __device__ void run() {
    const int tiles = line_.tiles();
    constexpr int stages = plan::stages, ahead = stages - 1;
    for (int e = 0; e < own; ++e) {
      std::int32_t m = empty_exponent;
      if constexpr (What != walk_for::sums) m = has(e) ? job_.exponent[line_.at.item * job_.width + channel_ + e] : 0;
      frame_[e] = static_cast<float>(m);
    }
    for (int turn = 0; turn < ahead; ++turn) base::load_ahead(turn, [] {});
    for (int turn = 0; turn < tiles; ++turn) {
      const int stage = turn % stages, first = part::first_of(turn);
      base::wait_for_tile(turn);
      prepare(shared_.k(stage), shared_.messages[stage], first, part::tokens_on(first));
      publish_to_products();
      shared_.full[stage].pass();
      // The place of the tile before is for the one that many ahead.
      base::load_ahead(turn + ahead, [&] { base::wait_until_emptied(turn - 1); });
    }
    wait_for_copies();
    if constexpr (What == walk_for::sums) store_weights();
  }

 private:
  __device__ bool has(int e) const { return channel_ + e < job_.from.keys; }

  /// Goes on to the frame of the largest key so far, if these, of tokens four rows apart, or those of another thread lie too far
  /// above it: with all that was summed.
  __device__ __forceinline__ void follow(const uint4 (&keys)[4], std::uint64_t on, message& to) {
    std::uint32_t top[own / 2];
    for (std::uint32_t& pair : top) pair = lowest;
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      if (on != ~std::uint64_t{0} && (on >> (base::first_row() + 4 * n) & 1U) == 0) continue;
      const std::uint32_t pairs[] = {keys[n].x, keys[n].y, keys[n].z, keys[n].w};
#pragma unroll
      for (int i = 0; i < own / 2; ++i) top[i] = larger_bfloat16(top[i], pairs[i]);
    }
    bool above = false;
#pragma unroll
    for (int i = 0; i < own / 2; ++i) above = above || larger_bfloat16(top[i], highest_[i]) != highest_[i];
    above = memory::feeding().any(above);
    if (thread_ == 0) to.rescales = above;
    if (!above) return;
    float largest[own], by[own];
    for (int e = 0; e < own; ++e) largest[e] = e % 2 == 0 ? lower_bfloat16(top[e / 2]) : upper_bfloat16(top[e / 2]);
    combine(largest, [](float a, float b) { return fmaxf(a, b); });
    for (int e = 0; e < own; ++e) {
      const auto before = static_cast<std::int32_t>(frame_[e]);
      const std::int32_t now = max(before, tile_exponential::of<false>(largest[e]).exponent());
      by[e] = lower_by_power_of_two(1.0F, before - now);
      z_[e] *= by[e];
      frame_[e] = static_cast<float>(now);
      largest[e] = now == empty_exponent ? -limits<float>::infinity : (frame_[e] + climb) * 0.69314718F;
    }
    for (int i = 0; i < own / 2; ++i) highest_[i] = pack_bfloat16(largest[2 * i], largest[2 * i + 1]);
    if (thread_ % 32 < 8 && thread_ / 32 < panels) {
      for (int e = 0; e < own; ++e) to.rescale[channel_ + e] = by[e];
    }
  }

  /// khat in the place of the keys; zero where a token does not count.
  __device__ __forceinline__ void prepare(const tile& keys, message& to, int first, std::uint64_t on) {
    uint4 x[4];
    std::uint32_t largest = 0;
#pragma unroll
    for (int n = 0; n < 4; ++n) x[n] = *reinterpret_cast<const uint4*>(base::eight_of(keys, n, place_));
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      for (const std::uint32_t pair : {x[n].x, x[n].y, x[n].z, x[n].w}) largest = larger_magnitudes(largest, pair);
    }
    if constexpr (What == walk_for::sums) follow(x, on, to);
    if (!reach(largest, wide_bfloat16) && on == ~std::uint64_t{0}) {
#pragma unroll
      for (int n = 0; n < 4; ++n) *reinterpret_cast<uint4*>(base::eight_of(keys, n, place_)) = weigh<true>(x[n]);
      return;
    }
#pragma unroll 1
    for (int n = 0; n < 4; ++n) {
      auto* const place = reinterpret_cast<uint4*>(base::eight_of(keys, n, place_));
      const int row = base::first_row() + 4 * n;
      *place = (on >> row & 1U) == 0 ? uint4{} : weigh<false>(*place, first + row);
    }
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
      y[e] = exponential_in_frame<Plain>(x, frame_[e]);
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
      out_.exponent[line_.place * job_.width + channel_ + e] = static_cast<std::int32_t>(frame_[e]);
      out_.normaliser[line_.place * job_.width + channel_ + e] = z_[e];
    }
    if (thread_ == 0) tell_bad_token(job_, line_.at, shared_.bad_token);
  }

  const int channel_;                                                  // the first of its channels
  const int place_;                                                    // where it has them in a tile
  float frame_[own];                                                   // m, a whole number
  float z_[own] = {};                                                  // Z of this thread's tokens
  std::uint32_t highest_[own / 2] = {lowest, lowest, lowest, lowest};  // keys of a sum that lie no higher than that
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
