// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/walk_spaced_products.cuh>

#include <climits>
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
/// Where all channels of a token decay alike, the products are those of walk_spaced_products. Of both ways the second is that
/// from the end of the line to its beginning, added to what the first has written.
template <walk_for What, class Job, class Outputs, int D>
class walk_readers : walk_spaced_products<What, Job, Outputs, D> {
 public:
  using part = walk_part<What, Job, Outputs, D>;
  using base = walk_spaced_products<What, Job, Outputs, D>;
  using typename part::plan, typename part::memory, typename part::tile, typename part::message;
  using part::rows, part::job_, part::out_, part::kept_, part::line_, part::shared_;
  using base::state_, base::group_, base::thread_, base::rows_;
  using typename base::four_pairs;
  using base::pairs_of, base::each_register, base::each_of_state, base::keep_state, base::pack_state, base::pack_rest,
      base::uniform;
  using base::in, base::read, base::column, base::first_column, base::in_sines, base::read_sines, base::clear,
      base::end_products;

  __device__ explicit walk_readers(const part& given) : base{given} {}

  __device__ void run() {
    each_register([](float& x, int, int) { x = 0; });
    if constexpr (What == walk_for::outputs || What == walk_for::queries) {
      if (job_.initial(line_.at)) load_state();
    }
    part::begin_in_bulk();
    bool back = false;
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
      if constexpr (plan::both_ways) {
        const bool goes_back = uniform(part::goes_back(turn));
        if (goes_back && !back) turn_back();
        back = goes_back;
      }
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
          if (out_.accumulate) rows_.template ask_for_rows<float>(0, part::first_of(turn));
        }
        if constexpr (adds_fetched) {
          if (plan::both_ways ? back : out_.accumulate) fetch_rows(turn);
        }
        const bool bad = multiply_tile(turn, stage, again, back, y);
        if constexpr (adds_fetched) {
          if (plan::both_ways ? back : out_.accumulate) rows_.add_fetched(y);
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
        const bool early = What == walk_for::values || (plan::gives_outputs && !run.odd);
        if (early) let_go();
        write(stage, turn, run, y);
        if (!early) let_go();
        if (bad) memory::reading().meet();  // before anybody looks for more
      } else {
        base::clean_values_and_meet(column(stage), part::first_of(turn));
        keep_state();
        if constexpr (plan::of_heads) {
          base::decay_state(stage);
          base::add_tile(stage);
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
    if constexpr (plan::forward_call && !plan::both_ways) store_state();
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
  /// Rows of bfloat16 are added to as they are made, not as they are stored.
  static constexpr bool adds_fetched = plan::fetches_rows && !sums_passes;

  /// Begins the way back: with no state, and with columns that are bad all along.
  __device__ void turn_back() {
    each_register([](float& x, int, int) { x = 0; });
    memory::reading().meet();  // the last rows are stored
    const int column = group_ * 128 + thread_;
    if (column < D) shared_.bad_column[column] = part::everywhere(shared_.bad_column[column]);
    memory::reading().meet();
  }
  /// Has what was written before come, and what is to come next brought nearer.
  __device__ void fetch_rows(int turn) const {
    const int first = part::first_of(turn);
    const auto& to = [&]() -> const auto& {
      if constexpr (What == walk_for::values) {
        return out_.v;
      } else {
        return out_.o;
      }
    }
    ();
    rows_.fetch(to, 0, job_.from.values, first, part::count_of(first));
    if (turn + 1 < part::turns()) rows_.template ask_for_rows<bfloat16>(0, part::first_of(turn + 1));
  }

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

  /// y^T of the tile of a turn, and X after it, in the way of the walk. Whether any column of v is bad.
  __device__ __forceinline__ bool multiply_tile(int turn, int stage, bool again, bool back, float (&y)[32]) {
    if constexpr (!plan::of_heads) {
      return multiply(turn, again, y);
    } else {
      if constexpr (plan::scores_both_ways) {
        if (back) return base::read_alone(stage, part::first_of(turn), y);
      }
      return base::multiply_as_they_are(stage, part::first_of(turn), y);
    }
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
      const bool later = plan::backwards || part::goes_back(turn);
      const int apart = later ? t_of_warp - s_of_warp : s_of_warp - t_of_warp;
      if (plan::splits_state || apart == 0) {  // no branches where there are no registers for them
        pack([&](int s, int t) { return apart + (later ? t - s : s - t) <= 0; });
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

  // --- What comes out, as walk_rows has it

  __device__ void write(int stage, int turn, const run_of_rows& run, float (&y)[32]) {
    if constexpr (plan::joins_halves) {
      if (!base::template join_halves<true>(y)) return;
    }
    if constexpr (plan::adds_halves) {
      if (!add_halves(stage, y)) return;
    }
    if constexpr (plan::sums_terms) base::sum_terms(stage, turn, y);
    if constexpr (plan::gives_outputs) {
      rows_.store(out_.o, 0, job_.from.values, run, y, run.odd, !adds_fetched && out_.accumulate);
    } else if constexpr (plan::of_heads && What == walk_for::queries) {
      rows_.store(out_.q, 0, job_.from.keys, run, y, false, out_.accumulate);
    } else if constexpr (plan::of_heads && What == walk_for::keys) {
      rows_.store(out_.k, 0, job_.from.keys, run, y, false, out_.accumulate);
    } else if constexpr (What == walk_for::values) {
      rows_.store(out_.v, 0, job_.from.values, run, y, false, !adds_fetched && out_.accumulate);
    } else if constexpr (What == walk_for::queries) {
      write_queries(stage, run, y);
    } else {
      write_keys(stage, run, y);
    }
  }

  /// The gradient by what is doubled: what came out for the cosines, in the first four warps, and for the sines, in the others,
  /// each times these, and for queries times 1 / Z. Whether this thread is one of those that have it.
  __device__ __forceinline__ bool add_halves(int stage, float (&y)[32]) {
    const float* const by = extra_of(stage);
#pragma unroll
    for (int n = 0; n < 32; ++n) y[n] *= by[in_extra(n / 8 * 16, n % 8)];
    auto* const halves = reinterpret_cast<float4*>(shared_.outputs.data) + anew(thread_);
    if (group_ != 0) {
#pragma unroll
      for (int n = 0; n < 32; n += 4) halves[n / 4 * 128] = float4{y[n], y[n + 1], y[n + 2], y[n + 3]};
    }
    memory::reading().meet();
    if (group_ != 0) return false;
#pragma unroll
    for (int n = 0; n < 32; n += 4) {
      const float4 other = halves[n / 4 * 128];
      y[n] += other.x;
      y[n + 1] += other.y;
      y[n + 2] += other.z;
      y[n + 3] += other.w;
    }
    memory::group(0).meet();  // rows are made ready in the same place
    return true;
  }

  /// Where this thread has 1 / Z, or the weights, of a tile; from there to place n of the eight from token t on.
  __device__ const float* extra_of(int stage) const {
    return &shared_.extra(stage).at(base::lane() % 4 * 2, base::row());
  }
  __device__ static int in_extra(int t, int n) { return (t + n / 4 * 8 + n % 2) * plan::extra_stride + n / 2 % 2 * 8; }
  /// Has R of a tile, if there is one, brought nearer: memory is far.
  __device__ void ask_for_reads(int index) const {
    constexpr int bytes = terms * rows * static_cast<int>(sizeof(float));
    if (threadIdx.x == 0 && index >= 0) prefetch_bytes(reads_of(index), bytes);
    __syncwarp();
  }
  /// Where R of a tile is for this thread: that of y[4 n .. 4 n + 3] in the nth of places that are so far apart.
  static constexpr int terms = plan::terms_of_token, next_reads = 2 * terms;
  __device__ float4* reads_of(int index) const {
    float* const of_tile = shared_.kept.reads + static_cast<std::int64_t>(index) * (terms * rows);
    return reinterpret_cast<float4*>(of_tile) + group_ * 128 + thread_;
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
          const float inverse = plan::adds_halves ? 1.0F : inverses[in_extra(t, n + e)];  // both halves are times it
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
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
