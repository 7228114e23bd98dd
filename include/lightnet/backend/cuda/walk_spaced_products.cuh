// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/walk_operands.cuh>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// The products of a walk whose channels of a token all decay alike: khat = k and qhat = q, and how far tokens are apart comes
/// in afterwards (see walk_spacers). With d_ts what decays from s to t, d_t0 and d_Tt from the tile's beginning to t, and from
/// t to its end, and the matrices of walk_readers,
///   y^T_t = d_t0 X read^T_t + column^T (d_ts tri(read in^T))^T,   X <- d_T0 X + sum_s d_Ts column^T_s in_s,
/// backwards with both ends exchanged. Of both ways the scores of the first keep the future, too, which leaves d_t0 X read^T_t
/// to the second.
template <walk_for What, class Job, class Outputs, int D>
class walk_spaced_products : protected walk_operands<What, Job, Outputs, D> {
 protected:
  using part = walk_part<What, Job, Outputs, D>;
  using base = walk_operands<What, Job, Outputs, D>;
  using typename part::plan, typename part::memory, typename part::tile;
  using part::rows, part::shared_, base::state_, base::group_, base::thread_;
  using typename base::four_pairs;
  using base::pairs_of, base::each_register, base::keep_state, base::pack_state, base::pack_rest, base::uniform;
  using base::in, base::read, base::column, base::first_column, base::in_sines, base::clear, base::end_products;

  __device__ explicit walk_spaced_products(const part& given) : base{given} {}

  /// X as it decays over a tile.
  __device__ __forceinline__ void decay_state(int stage) {
    if constexpr (plan::spaced) {
      const float by = shared_.messages[stage].rescale[0];
      each_register([&](float& x, int, int) { x *= by; });
    }
  }
  /// X += column^T in of a tile, whose tokens are weighed by how far they are from where X is next.
  __device__ __forceinline__ void add_tile(int stage) {
    if constexpr (!plan::spaced) {
      begin_products();
      base::add_to_state(column(stage), first_column(), in(stage), in_sines());
    } else {
      std::uint32_t scaled[rows / 16][4];
#pragma unroll
      for (int s = 0; s < rows; s += 16) {
        const four_pairs all = pairs_of(column(stage), s);
        const pairs_of_tokens by = tokens_of(shared_.apart[stage].adding, s);
#pragma unroll
        for (int n = 0; n < 8; n += 2) scaled[s / 16][n / 2] = pack_bfloat16(all[n] * by[n], all[n + 1] * by[n + 1]);
      }
      begin_products();
#pragma unroll
      for (int s = 0; s < rows; s += 16) {
        if constexpr (D == 128) {
          multiply_add_group(state_, scaled[s / 16], in(stage).along_rows_of_panels(s));
        } else {
          multiply_add_group(state_[0], scaled[s / 16], in(stage).along_rows(s, 0));
        }
      }
    }
  }

  /// y^T of a tile that begins at a position, and X after it. Whether any column of v is bad.
  __device__ __forceinline__ bool multiply_as_they_are(int stage, int first, float (&y)[32]) {
    if constexpr (plan::cleans_values) base::clean_values(column(stage), first);
    const tile reads = read(stage), columns_of = column(stage), scores{shared_.scores.data},
               rest_of_scores{shared_.rest_of_scores()};
    constexpr int columns = rows / plan::groups;                       // of the scores, which the groups share
    if constexpr (plan::outputs_for_scores) memory::reading().meet();  // outputs of the last tile are stored
    typename base::packed_state x;
    pack_state(x);
    float p[columns / 2];
    clear(p);
    clear(y);
    begin_products();
#pragma unroll
    for (int i = 0; i < D; i += 16) {
      multiply_add_group(p, reads.along_columns(0, i), in(stage).along_columns(group_ * columns, i));
    }
    commit_products();
    base::multiply_state(x, reads, reads, y);
    commit_products();
    wait_for_products<1>();
    keep_order(p);
    store_scores(stage, p);
    wait_for_products<0>();
    keep_order(y);
    if constexpr (plan::splits_state) {
      pack_rest(x);
      begin_products();
      base::multiply_state(x, reads, reads, y);
      commit_products();
      wait_for_products<0>();
      keep_order(y);
    }
    if constexpr (plan::spaced) weigh_readings(stage, y);
    decay_state(stage);
    publish_to_products();
    memory::reading().meet();
    keep_state();
    begin_products();
#pragma unroll
    for (int s = 0; s < rows; s += 16) {
      if constexpr (plan::splits_scores) {
        multiply_add_group(y, columns_of.along_rows(s, first_column()), rest_of_scores.along_columns(0, s));
      }
      multiply_add_group(y, columns_of.along_rows(s, first_column()), scores.along_columns(0, s));
    }
    commit_products();
    add_tile(stage);
    commit_products();
    return end_products(y);
  }

  /// The same on the way back, where the scores are done.
  __device__ __forceinline__ bool read_alone(int stage, int first, float (&y)[32]) {
    if (uniform(shared_.bad_values != 0)) base::clean_values_and_meet(column(stage), first);
    typename base::packed_state x;
    pack_state(x);
    clear(y);
    begin_products();
    base::multiply_state(x, read(stage), read(stage), y);
    commit_products();
    decay_state(stage);
    keep_state();
    add_tile(stage);
    commit_products();
    wait_for_products<1>();
    keep_order(y);
    if constexpr (plan::spaced) weigh_readings(stage, y);
    return end_products(y);
  }

  /// The sums R, or A, over the channels of this warp, to where all can read them.
  __device__ __forceinline__ void sum_terms(int stage, int turn, const float (&y)[32]) {
#pragma unroll
    for (int t = 0; t < rows; t += 16) {
      const four_pairs own = pairs_of(own_of_terms(stage), t);
#pragma unroll
      for (int n = 0; n < 8; ++n) {
        float& term = terms_[t / 4 + n / 4 * 2 + n % 2];
        term = fmaf(own[n], y[t / 2 + n], term);
      }
    }
    // Of the eight lanes that have the same tokens, each is left with two of these.
    const int lane = base::lane();
    const auto halve = [&]<int Half>() {
      const bool upper = (lane & Half * 2) != 0;
#pragma unroll
      for (int i = 0; i < Half; ++i) {
        const float other = __shfl_xor_sync(~0U, upper ? terms_[i] : terms_[i + Half], Half * 2);
        terms_[i] = (upper ? terms_[i + Half] : terms_[i]) + other;
      }
    };
    halve.template operator()<8>();
    halve.template operator()<4>();
    halve.template operator()<2>();
    const int first = lane / 16 * 8 + lane / 8 % 2 * 4 + lane / 4 % 2 * 2;
    auto* const to = shared_.terms[turn % 2][group_ * 4 + anew(thread_) / 32] + first * 4 + lane % 4 * 2;
    *reinterpret_cast<float2*>(to) = float2{terms_[0], terms_[1]};
  }

 private:
  /// What this thread's tokens of the 16 from t on have, as y has these.
  struct pairs_of_tokens {
    float2 first, second;
    __device__ float operator[](int n) const {
      const float2& pair = n < 4 ? first : second;
      return n % 2 == 0 ? pair.x : pair.y;
    }
  };
  __device__ pairs_of_tokens tokens_of(const float* numbers, int t) const {
    const auto* const own = reinterpret_cast<const float2*>(numbers + t + base::lane() % 4 * 2);
    return {own[0], own[4]};
  }

  /// Weighs scores by how far tokens are apart, and leaves out what `tri` does, by selection. Of both ways it leaves out
  /// nothing, and a token sees itself twice.
  template <int Count>
  __device__ __forceinline__ void store_scores(int stage, const float (&p)[Count]) const {
    const tile scores{shared_.scores.data}, rest_of_scores{shared_.rest_of_scores()};
    const int thread = anew(thread_), lane = thread % 32, t_of_warp = thread / 32 * 16;
    const auto& apart_of = shared_.apart[plan::spaced ? stage : 0];
    const float2 *const logs = apart_of.logs, *const logs_before = apart_of.logs_before;
    constexpr bool both_ways = plan::scores_both_ways;
    float2 of_rows[2] = {}, before_rows[2] = {};
    if constexpr (plan::spaced) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        of_rows[i] = logs[t_of_warp + lane / 4 + i * 8];
        if constexpr (both_ways) before_rows[i] = logs_before[t_of_warp + lane / 4 + i * 8];
      }
    }
#pragma unroll
    for (int n = 0; n < Count; n += 8) {
      const int s_of_warp = group_ * Count * 2 + n * 2;
      std::uint32_t packed[4], rest[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int t = t_of_warp + i % 2 * 8 + lane / 4, s = s_of_warp + i / 2 * 8 + lane % 4 * 2;
        float both[2] = {p[n + 2 * i], p[n + 2 * i + 1]};
        if constexpr (plan::spaced) {
          const float4 of_columns = *reinterpret_cast<const float4*>(logs + s);
          const float2 of_row = of_rows[i % 2];
          float apart[2] = {(of_row.x - of_columns.x) + (of_row.y - of_columns.y),
                            (of_row.x - of_columns.z) + (of_row.y - of_columns.w)};
          if constexpr (both_ways) {
            const float4 before = *reinterpret_cast<const float4*>(logs_before + s);
            const float2 own = before_rows[i % 2];
            if (s > t) apart[0] = (before.x - own.x) + (before.y - own.y);
            if (s + 1 > t) apart[1] = (before.z - own.x) + (before.w - own.y);
          }
#pragma unroll
          for (int e = 0; e < 2; ++e) both[e] *= tile_power_of_two(plan::backwards ? -apart[e] : apart[e]);
        }
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          if constexpr (both_ways) {
            both[e] = s + e == t ? 2 * both[e] : both[e];
          } else {
            both[e] = (plan::backwards ? s + e >= t : s + e <= t) ? both[e] : 0.0F;
          }
        }
        packed[i] = pack_bfloat16(both[0], both[1]);
        if constexpr (plan::splits_scores) {
          rest[i] = pack_bfloat16(both[0] - lower_bfloat16(packed[i]), both[1] - upper_bfloat16(packed[i]));
        }
      }
      const int row = t_of_warp + lane / 8 % 2 * 8 + lane % 8, column = s_of_warp + lane / 16 * 8;
      store_matrices(scores.part(row, column), packed);
      if constexpr (plan::splits_scores) store_matrices(rest_of_scores.part(row, column), rest);
    }
  }

  /// What was read of X, as much of it as is left at each token. R, or A, begins with how much larger it is where a query, or
  /// key, is rounded as it is in the sum X of the other walk: then both are made of the same products, and cancel.
  __device__ __forceinline__ void weigh_readings(int stage, float (&y)[32]) {
#pragma unroll
    for (int t = 0; t < rows; t += 16) {
      const pairs_of_tokens by = tokens_of(shared_.apart[stage].reading, t);
      four_pairs own;
      if constexpr (plan::sums_terms) own = pairs_of(own_of_terms(stage), t);
#pragma unroll
      for (int n = 0; n < 8; n += 2) {
        float* const read = y + t / 2 + n;
        if constexpr (plan::sums_terms) {
          float* const terms = terms_ + t / 4 + n / 4 * 2;
          const float exact[2] = {own[n] * by[n], own[n + 1] * by[n + 1]};
          const std::uint32_t rounded = pack_bfloat16(exact[0], exact[1]);
          const float more[2] = {(lower_bfloat16(rounded) - exact[0]) * read[0],
                                 (upper_bfloat16(rounded) - exact[1]) * read[1]};
#pragma unroll
          for (int e = 0; e < 2; ++e) terms[e] = n / 2 % 2 == 0 ? more[e] : terms[e] + more[e];
        }
        read[0] *= by[n];
        read[1] *= by[n + 1];
      }
    }
  }
  /// What comes out is multiplied with, for R or A.
  __device__ tile own_of_terms(int stage) const {
    return What == walk_for::queries ? shared_.q(stage) : shared_.k(stage);
  }

  float terms_[plan::sums_terms ? rows / 4 : 1];  // of this thread's tokens, R or A
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
