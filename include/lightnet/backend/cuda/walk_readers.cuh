// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/walk_state.cuh>

#include <concepts>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// The warps of a walk that multiply: four for 64 rows of X, which lies in their registers. Of a tile they take
///   y^T = X read^T + column^T tri(read in^T)^T,   X <- by X + column^T in,
/// with (X, read, in, column) and the half that `tri` keeps
///   outputs:  (U^T, qhat, khat, v), the past;       queries:  (U, do, v, khat), the past;
///   keys:     (D, v, do, qhat), the future;         values:   (D^T, khat, qhat, do), the future,
/// D being the gradient by U. From y of the queries, dqhat, and of the keys, dkhat, follow dq = dqhat / Z, dkappa = w dkhat
/// and, with R = qhat * dqhat and A = khat * dkhat, the gradients of the logits: A_t - w_t sum_{u >= t} R_u / Z_u or, for
/// a decay, sum_{u >= t} (R_u - A_u). Operands are rounded to bfloat16, sums are float. The scores are read in two parts of
/// bfloat16, and X, where such differences are made of what comes out: most of the error would be theirs.
///
/// Where all channels of a token decay alike, khat = k and qhat = q, and how far tokens are apart comes in afterwards (see
/// walk_spacers): with d_ts what decays from s to t, d_t0 and d_Tt from the tile's beginning to t, and from t to its end,
///   y^T_t = d_t0 X read^T_t + column^T (d_ts tri(read in^T))^T,   X <- d_T0 X + sum_s d_Ts column^T_s in_s,
/// backwards with both ends exchanged.
template <walk_for What, class Job, class Outputs, int D>
class walk_readers : walk_state<What, Job, Outputs, D> {
 public:
  using part = walk_part<What, Job, Outputs, D>;
  using base = walk_state<What, Job, Outputs, D>;
  using typename part::plan, typename part::memory, typename part::tile, typename part::message;
  using part::rows, part::job_, part::out_, part::kept_, part::line_, part::shared_;
  using base::state_, base::group_, base::thread_, base::rows_;
  using typename base::four_pairs;
  using base::pairs_of, base::each_register, base::each_of_state, base::keep_state, base::pack_state, base::pack_rest,
      base::uniform;

  __device__ explicit walk_readers(const part& given) : base{given} {}

  __device__ void run() {
    each_register([](float& x, int, int) { x = 0; });
    if constexpr (What == walk_for::outputs || What == walk_for::queries) {
      if (job_.initial(line_.at)) load_state();
    }
    part::begin_in_bulk();
    if (plan::encodes && line_.tiles() > 0) fetch_angles(0);
    // One message a tile, or more where a forward call takes it in several runs: a bit a stage says of how many it has read.
    unsigned rounds = 0;
    for (int turn = 0;;) {
      int stage = turn % plan::stages;
      if constexpr (plan::forward_call) {
        shared_.full[stage].wait(rounds >> stage);
        rounds ^= 1U << stage;
      } else {
        shared_.full[stage].wait(turn / plan::stages);
      }
      const auto said = [&]() -> const message& { return shared_.messages[stage]; };
      if constexpr (!plan::of_heads) {
        if (uniform(said().rescales != 0)) rescale(said());
      }
      if (uniform(said().ends)) break;
      const bool again = plan::forward_call && uniform(said().again);
      const auto let_go = [&] {
        if (again) {
          shared_.again.pass();
        } else {
          shared_.emptied[stage].pass();
        }
      };
      if constexpr (plan::encodes) {
        if constexpr (plan::adds_up) memory::reading().meet();  // nobody multiplies the last tile any more
        base::encode(angles_, stage);
      }
      if constexpr (plan::reads) {
        float y[32];
        if constexpr (What == walk_for::keys && !plan::of_heads) ask_for_reads(part::first_of(turn) / rows - 1);
        if constexpr (What == walk_for::outputs && sums_passes) {
          if (out_.accumulate) rows_.ask_for_rows(0, part::first_of(turn));
        }
        if constexpr (plan::takes_half) ask_for_halves(part::first_of(turn) / rows + (plan::backwards ? -1 : 1));
        bool bad;
        if constexpr (plan::of_heads) {
          bad = multiply_as_they_are(stage, part::first_of(turn), y);
        } else {
          bad = multiply(turn, again, y);
        }
        if constexpr (plan::keeps) {  // worked out anew, for lack of registers
          turn = anew(turn);
          stage = turn % plan::stages;
        }
        const message& from = said();
        const int first = part::first_of(turn);
        const run_of_rows run{first,
                              from.start,
                              from.last,
                              from.on,
                              bad || uniform(from.bad_token != INT_MAX || from.on != ~std::uint64_t{0} ||
                                             from.last + 1 != rows || from.start != 0),
                              from.bad_token};
        // What a store needs of the tile is read before the weighers get it back.
        const bool early = What == walk_for::values || (What == walk_for::outputs && !run.odd);
        if (early) let_go();
        write(stage, turn, run, y);
        if (!early) let_go();
        if (bad) memory::reading().meet();  // before anybody looks for more
      } else {
        base::clean_values_and_meet(column(stage), part::first_of(turn));
        keep_state();
        if constexpr (plan::of_heads) {
          decay_state(stage);
          add_tile(stage);
        } else {
          begin_products();
          base::add_to_state(column(stage), first_column(), in(stage), in_sines());
        }
        commit_products();
        if constexpr (plan::encodes) fetch_angles(again ? turn : turn + 1);
        wait_for_products<0>();
        keep_state();
        let_go();
      }
      if (again) continue;
      part::go_on_in_bulk(turn);
      ++turn;
    }
    if constexpr (plan::forward_call) store_state();
    if constexpr (What == walk_for::queries) {  // what is no number stays in the state
      bool odd = false;
      each_register([&](float x, int, int) { odd = odd || !finite(x); });
      if (odd && !kept_.known) part::leave_to_others();
    }
  }

 private:
  /// Outputs may be sums of several passes, which are float until the last.
  static constexpr bool sums_passes = requires(const Outputs& out) {
    { out.o.token(0, 0, 0) } -> std::same_as<float*>;
  };

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

  // --- The state

  __device__ void load_state() {
    const auto& from = job_.initial(line_.at);
    const std::int64_t sequence = job_.sequence_of(line_.at), head = line_.at.head;
    each_of_state([&](float& x, std::int64_t i, int j) {
      if constexpr (Job::recurrence::framed) {  // what an empty channel holds does not count
        if (from.exponent(sequence, head, job_.weight_of_row(i)) <= empty_exponent) return;
      }
      x = from.sum(sequence, head, i, j);
    });
  }

  /// Takes X, and what is carried of the logits' gradients, to the frame of a tile.
  __device__ void rescale(const message& from) {
    if constexpr (plan::scales_rows) {
      const float* const of_row = from.rescale + base::row();
      const float by[2] = {of_row[0], of_row[8]};
      each_register([&](float& x, int, int n) { x *= by[n / 2 % 2]; });
      later_[0] *= by[0];
      later_[1] *= by[1];
    } else {
      base::scale_columns(from.rescale);
    }
  }

  /// The final state, or what a stretch adds up to.
  __device__ void store_state() {
    if constexpr (What == walk_for::outputs) {
      if (!out_.state || !line_.ends) return;
      each_of_state([&](float& x, std::int64_t i, int j) {
        const bool bad = shared_.bad_token < line_.length || shared_.bad_column[j] < line_.length;
        out_.state.sum(line_.at.line.sequence, line_.at.head, i, j) = bad ? limits<float>::not_a_number : x;
      });
    } else {
      base::store_sum();
      base::tell_bad_columns();
    }
  }

  // --- Products

  template <int Count>
  __device__ __forceinline__ static void clear(float (&sums)[Count]) {
#pragma unroll
    for (float& sum : sums) sum = 0;
    keep_order(sums);
  }

  /// y^T of the tile of a turn, or of a run of it that has more of them `again`, and X after it. Whether any column of v is
  /// bad.
  __device__ __forceinline__ bool multiply(int turn, bool again, float (&y)[32]) {
    const int stage = turn % plan::stages, first = part::first_of(turn);
    if constexpr (plan::cleans_values) base::clean_values(column(stage), first);
    const tile reads = read(stage), columns_of = column(stage), scores{shared_.scores.data},
               rest_of_scores{shared_.rest_of_scores()};
    constexpr int columns = rows / plan::groups;  // of the scores, which the groups share
    if constexpr (plan::encodes) publish_to_products();
    if constexpr (plan::outputs_for_scores) memory::reading().meet();  // outputs of the last tile are stored
    constexpr bool reads_early = !plan::splits_state && plan::columns_of_x == 64;  // else later, for lack of registers
    typename base::packed_state x;
    if constexpr (reads_early) pack_state(x);
    float p[columns / 2];
    clear(p);
    if constexpr (reads_early) clear(y);
    begin_products();
#pragma unroll
    for (int i = 0; i < D; i += 16) {
      multiply_add_group(p, reads.along_columns(0, i), in(stage).along_columns(group_ * columns, i));
    }
    if constexpr (plan::encodes && !plan::scales_rows) {
#pragma unroll
      for (int i = 0; i < D; i += 16) {
        multiply_add_group(p, read_sines().along_columns(0, i), in_sines().along_columns(0, i));
      }
    }
    commit_products();
    const auto read_state = [&] { base::multiply_state(x, reads, read_sines(), y); };
    if constexpr (reads_early) {
      read_state();
      commit_products();
    }
    wait_for_products<reads_early ? 1 : 0>();
    keep_order(p);
    // What `tri` leaves out is zero by selection.
    const int thread = anew(thread_), lane = thread % 32, t_of_warp = thread / 32 * 16;
#pragma unroll
    for (int n = 0; n < columns / 2; n += 8) {
      const int s_of_warp = group_ * columns + n * 2;
      std::uint32_t packed[4] = {}, rest[4] = {};
      const auto pack = [&](const auto& kept) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int t = i % 2 * 8 + lane / 4, s = i / 2 * 8 + lane % 4 * 2;
          const float first = kept(s, t) ? p[n + 2 * i] : 0.0F, second = kept(s + 1, t) ? p[n + 2 * i + 1] : 0.0F;
          packed[i] = pack_bfloat16(first, second);
          rest[i] = pack_bfloat16(first - lower_bfloat16(packed[i]), second - upper_bfloat16(packed[i]));
        }
      };
      const int apart = plan::backwards ? t_of_warp - s_of_warp : s_of_warp - t_of_warp;
      if (plan::splits_state || apart == 0) {  // no branches where there are no registers for them
        pack([&](int s, int t) { return apart + (plan::backwards ? t - s : s - t) <= 0; });
      } else if (apart < 0) {
        pack([](int, int) { return true; });
      }
      const int row = t_of_warp + lane / 8 % 2 * 8 + lane % 8, column = s_of_warp + lane / 16 * 8;
      store_matrices(scores.part(row, column), packed);
      store_matrices(rest_of_scores.part(row, column), rest);
    }
    if constexpr (!reads_early) clear(y);
    if constexpr (plan::splits_state) {
      pack_state(x);
      begin_products();
      read_state();
      commit_products();
      wait_for_products<0>();
      keep_order(y);
      pack_rest(x);
    }
    publish_to_products();
    memory::reading().meet();
    if constexpr (!reads_early && !plan::splits_state) pack_state(x);
    keep_state();
    begin_products();
    if constexpr (!reads_early) read_state();
#pragma unroll
    for (int s = 0; s < rows; s += 16) {
      multiply_add_group(y, columns_of.along_rows(s, first_column()), rest_of_scores.along_columns(0, s));
      multiply_add_group(y, columns_of.along_rows(s, first_column()), scores.along_columns(0, s));
    }
    base::add_to_state(columns_of, first_column(), in(stage), in_sines());
    commit_products();
    if constexpr (What == walk_for::keys && fetches_early) fetch_reads(first / rows);
    if constexpr (plan::encodes) fetch_angles(again ? turn : turn + 1);
    return end_products(y);
  }

  // --- The same for tiles whose channels decay alike

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

  /// Waits until y and X are there, and nobody reads the scores any more, nor the operands. Whether any column of v is bad.
  __device__ __forceinline__ bool end_products(float (&y)[32]) {
    const bool bad = plan::cleans_values && uniform(shared_.bad_values != 0);
    wait_for_products<0>();
    keep_order(y);
    keep_state();
    memory::reading().meet();
    return bad;
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

  /// Weighs scores by how far tokens are apart, and leaves out what `tri` does, by selection.
  template <int Count>
  __device__ __forceinline__ void store_scores(int stage, const float (&p)[Count]) const {
    const tile scores{shared_.scores.data}, rest_of_scores{shared_.rest_of_scores()};
    const int thread = anew(thread_), lane = thread % 32, t_of_warp = thread / 32 * 16;
    const float2* const logs = shared_.apart[plan::spaced ? stage : 0].logs;
    float2 of_rows[2] = {};
    if constexpr (plan::spaced) {
      of_rows[0] = logs[t_of_warp + lane / 4];
      of_rows[1] = logs[t_of_warp + lane / 4 + 8];
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
          const float apart[2] = {(of_row.x - of_columns.x) + (of_row.y - of_columns.y),
                                  (of_row.x - of_columns.z) + (of_row.y - of_columns.w)};
#pragma unroll
          for (int e = 0; e < 2; ++e) both[e] *= tile_power_of_two(plan::backwards ? -apart[e] : apart[e]);
        }
#pragma unroll
        for (int e = 0; e < 2; ++e) both[e] = (plan::backwards ? s + e >= t : s + e <= t) ? both[e] : 0.0F;
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

  // --- What comes out, as walk_rows has it

  __device__ void write(int stage, int turn, const run_of_rows& run, float (&y)[32]) {
    if constexpr (plan::joins_halves) {
      if (!base::template join_halves<true>(y)) return;
    }
    if constexpr (plan::takes_half) {
      if (!add_halves(stage, run, y)) return;
    }
    if constexpr (plan::sums_terms) sum_terms(stage, turn, y);
    if constexpr (What == walk_for::outputs) {
      rows_.store(out_.o, 0, job_.from.values, run, y, run.odd, out_.accumulate);
    } else if constexpr (plan::of_heads && What == walk_for::queries) {
      rows_.store(out_.q, 0, job_.from.keys, run, y, false, out_.accumulate);
    } else if constexpr (plan::of_heads && What == walk_for::keys) {
      rows_.store(out_.k, 0, job_.from.keys, run, y, false, out_.accumulate);
    } else if constexpr (What == walk_for::values) {
      rows_.store(out_.v, 0, job_.from.values, run, y, false, out_.accumulate);
    } else if constexpr (What == walk_for::queries) {
      write_queries(stage, run, y);
    } else {
      write_keys(stage, run, y);
    }
  }

  // --- Halves of an encoding

  /// Where what came out for the cosines of a tile is for this thread, as R is.
  __device__ float4* halves_of(int index) const { return of_tile(shared_.kept.halves, index); }
  __device__ void ask_for_halves(int index) const {
    if (job_.taken_half != 0 && index >= 0 && index * rows < line_.length) ask_for(halves_of(index));
  }
  /// Keeps y of the first half, turned where it is a gradient, or adds it to that of the second. Whether this is the whole.
  __device__ __forceinline__ bool add_halves(int stage, const run_of_rows& run, float (&y)[32]) const {
    if constexpr (plan::turns_gradients) {
      const float* const turns = extra_of(stage);
#pragma unroll
      for (int t = 0; t < rows; t += 16) {
#pragma unroll
        for (int n = 0; n < 8; ++n) y[t / 2 + n] *= turns[in_extra(t, n)];
      }
    }
    float4* const kept = halves_of(run.first / rows);
    if (job_.taken_half != 0) {
#pragma unroll
      for (int n = 0; n < rows / 8; ++n) {
        const float4 first = kept[n * next_reads];
        y[4 * n] += first.x;
        y[4 * n + 1] += first.y;
        y[4 * n + 2] += first.z;
        y[4 * n + 3] += first.w;
      }
      return true;
    }
    if (!plan::forward_call || run.start == 0) {
#pragma unroll
      for (int n = 0; n < rows / 8; ++n) {
        kept[n * next_reads] = float4{y[4 * n], y[4 * n + 1], y[4 * n + 2], y[4 * n + 3]};
      }
    } else {  // the rows before are there
#pragma unroll
      for (int n = 0; n < 32; ++n) {
        const int r = n / 4 * 8 + base::lane() % 4 * 2 + n % 2;
        if (r >= run.start) reinterpret_cast<float*>(kept + n / 4 * next_reads)[n % 4] = y[n];
      }
    }
    return false;
  }

  /// Where this thread has 1 / Z, or the weights, of a tile; from there to place n of the eight from token t on.
  __device__ const float* extra_of(int stage) const {
    return &shared_.extra(stage).at(base::lane() % 4 * 2, base::row());
  }
  __device__ static int in_extra(int t, int n) { return (t + n / 4 * 8 + n % 2) * plan::extra_stride + n / 2 % 2 * 8; }
  /// Has R of a tile, if there is one, brought nearer: memory is far.
  __device__ void ask_for_reads(int index) const {
    if (index >= 0) ask_for(reads_of(index));
  }
  /// Has such a tile, of which this thread has the first part, brought nearer.
  __device__ static void ask_for(const float4* of_thread) {
    if (threadIdx.x == 0) prefetch_bytes(of_thread, D * rows * static_cast<int>(sizeof(float)));
    __syncwarp();
  }
  /// Where R of a tile is for this thread: that of y[4 n .. 4 n + 3] in the nth of places that are so far apart.
  static constexpr int next_reads = 2 * D;
  __device__ float4* reads_of(int index) const { return of_tile(shared_.kept.reads, index); }
  __device__ float4* of_tile(float* of_line, int index) const {
    float* const first = of_line + static_cast<std::int64_t>(index) * (D * rows);
    return reinterpret_cast<float4*>(first) + group_ * 128 + thread_;
  }

  __device__ void write_queries(int stage, const run_of_rows& run, float (&y)[32]) {
    float4* const terms = reads_of(run.first / rows);
    const float* const inverses = extra_of(stage);
#pragma unroll
    for (int t = 0; t < rows; t += 16) {
      const four_pairs q = pairs_of(shared_.q(stage), t);
#pragma unroll
      for (int n = 0; n < 8; n += 4) {
        float r[4];
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          float& dq = y[t / 2 + n + e];
          const float inverse =
              plan::takes_half ? 1.0F : inverses[in_extra(t, n + e)];  // that both halves are times already
          r[e] = q[n + e] * dq * (Job::sums ? inverse : 1.0F);
          dq *= inverse;
        }
        terms[(t / 8 + n / 4) * next_reads] = float4{r[0], r[1], r[2], r[3]};
      }
    }
    rows_.store(out_.q, 0, job_.from.keys, run, y, false, out_.accumulate);
  }

  __device__ void write_keys(int stage, const run_of_rows& run, float (&y)[32]) {
    if constexpr (!fetches_early) fetch_reads(run.first / rows);
    const float* const weights = plan::has_weights ? extra_of(stage) : nullptr;
    float dkappa[plan::keyed ? 32 : 1];
    float sum[2] = {};
    // From the last tokens to the first: the sums of R, or of R - A.
#pragma unroll
    for (int t = rows - 16; t >= 0; t -= 16) {
      const four_pairs key = pairs_of(shared_.k(stage), t);
      float term[8], own[8], weight[8], from_key[8], both[4], after[4];
#pragma unroll
      for (int n = 0; n < 8; ++n) {
        const float4 r = reads_[t / 8 + n / 4];
        const float dkhat = y[t / 2 + n];
        float khat = key[n];
        weight[n] = khat;
        if constexpr (plan::keyed) {
          weight[n] = weights[in_extra(t, n)];
          dkappa[t / 2 + n] = weight[n] * dkhat;
          khat = lower_bfloat16(pack_bfloat16(khat * weight[n], 0.0F));  // as the other products had it
        }
        if constexpr (Job::complement) from_key[n] = weights[in_extra(t, n)] * dkhat;  // of 1 - a
        own[n] = khat * dkhat;
        term[n] = (n % 4 == 0 ? r.x : n % 4 == 1 ? r.y : n % 4 == 2 ? r.z : r.w) - (Job::sums ? 0.0F : own[n]);
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) both[i] = term[2 * i] + term[2 * i + 1];
      after_quad(both, after);
#pragma unroll
      for (int i = 3; i >= 0; --i) {  // tokens t + 8 .. first
        const int side = i % 2;
        const float of_later = sum[side] + after[i], until[2] = {of_later + both[i], of_later + term[2 * i + 1]};
        sum[side] += first_of_quad(both[i] + after[i]);
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          float& gradient = y[t / 2 + 2 * i + e];
          if constexpr (Job::sums) {
            gradient = own[2 * i + e] - weight[2 * i + e] * (later_[side] + until[e]);
          } else {
            gradient = static_cast<float>(later_sum_[side] + static_cast<double>(until[e]));
            if constexpr (Job::complement) gradient -= from_key[2 * i + e];
          }
        }
      }
    }
#pragma unroll
    for (int side = 0; side < 2; ++side) {
      later_[side] += sum[side];
      later_sum_[side] += static_cast<double>(sum[side]);
    }
    if constexpr (plan::keyed) {
      rows_.store(out_.k, 0, job_.from.keys, run, dkappa, false, out_.accumulate);
      memory::group(group_).meet();
    }
    if constexpr (Job::tied) {
      rows_.store(out_.k, 0, job_.from.keys, run, y, false, out_.accumulate);
    } else {
      rows_.store(out_.logits, 1, job_.from.keys, run, y, false, out_.accumulate);
    }
  }

  /// The sums over the lanes of four after this one: several at a time, as each takes long.
  __device__ void after_quad(const float (&x)[4], float (&after)[4]) const {
    const int lane = base::lane();
    float next[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) next[i] = __shfl_down_sync(~0U, x[i], 1, 4);
#pragma unroll
    for (int i = 0; i < 4; ++i) next[i] = lane % 4 < 3 ? next[i] : 0.0F;
#pragma unroll
    for (int i = 0; i < 4; ++i) after[i] = __shfl_down_sync(~0U, x[i] + next[i], 2, 4);
#pragma unroll
    for (int i = 0; i < 4; ++i) after[i] = next[i] + (lane % 4 < 2 ? after[i] : 0.0F);
  }
  __device__ static float first_of_quad(float x) { return __shfl_sync(~0U, x, 0, 4); }

  /// Reads R of a tile, all at once, for it takes long; while products are under way, where there are registers for it.
  static constexpr bool fetches_early = plan::stored == 64;
  __device__ void fetch_reads(int index) {
    const float4* const terms = reads_of(index);
#pragma unroll
    for (int n = 0; n < rows / 8; ++n) reads_[n] = terms[n * next_reads];
  }

  /// Starts to read the angles of the tile of a turn, or of the last one, while products are under way, for memory is far.
  __device__ void fetch_angles(int turn) {
    const int last = line_.tiles() - 1;
    angles_ = base::angles_of(part::first_of(turn < last ? turn : last));
  }

  typename base::angles angles_;
  float4 reads_[What == walk_for::keys && !plan::of_heads ? rows / 8 : 1];
  // Of both rows: what later tokens owe the normaliser, in the frame of the tile; of a decay, the sum of R - A so far.
  float later_[2] = {};
  double later_sum_[2] = {};
  float terms_[plan::sums_terms ? rows / 4 : 1];  // of this thread's tokens, R or A
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
