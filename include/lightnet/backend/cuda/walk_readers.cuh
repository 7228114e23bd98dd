// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/walk_state.cuh>

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
template <walk_for What, class Job, class Outputs, int D>
class walk_readers : walk_state<What, Job, Outputs, D> {
 public:
  using part = walk_part<What, Job, Outputs, D>;
  using base = walk_state<What, Job, Outputs, D>;
  using typename part::plan, typename part::memory, typename part::tile, typename part::message;
  using part::rows, part::job_, part::out_, part::kept_, part::line_, part::shared_;
  using base::state_, base::group_, base::thread_, base::lane_, base::row_, base::rows_;
  using typename base::four_pairs;
  using base::pairs_of, base::each_register, base::each_of_state, base::keep_state, base::pack_state, base::pack_rest,
      base::uniform;

  __device__ explicit walk_readers(const part& given) : base{given} {}

  __device__ void run() {
    each_register([](float& x, int, int) { x = 0; });
    if constexpr (What == walk_for::outputs || What == walk_for::queries) {
      if (job_.initial(line_.at)) load_state();
    }
    const int tiles = line_.tiles();
    int turn = 0;
    unsigned rounds = 0;  // a bit a stage: of how many messages there it has read
    typename base::angles angles;
    for (int stage = 0;;) {
      if constexpr (plan::encodes) {
        if (turn < tiles) angles = base::angles_of(part::first_of(turn));
      }
      shared_.full[stage].wait(rounds >> stage);
      rounds ^= 1U << stage;
      const message& from = shared_.messages[stage];
      if (uniform(from.rescales != 0)) rescale(from);
      if (uniform(from.ends)) break;
      const bool again = uniform(from.again);
      const auto let_go = [&] {
        if (again) {
          shared_.again.pass();
        } else {
          shared_.emptied[stage].pass();
        }
      };
      if constexpr (plan::encodes) {
        if constexpr (plan::adds_up) memory::reading().meet();  // nobody multiplies the last tile any more
        base::encode(angles, stage);
      }
      if constexpr (plan::reads) {
        const int index = plan::backwards ? tiles - 1 - turn : turn, first = line_.begin + index * rows;
        float y[32];
        const bool bad = multiply(stage, first, y);
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
        write(stage, run, index, y);
        if (!early) let_go();
        if (bad) memory::reading().meet();  // before anybody looks for more
      } else {
        base::clean_values_and_meet(column(stage), part::first_of(turn));
        keep_state();
        begin_products();
        base::add_to_state(column(stage), first_column(), in(stage), in_sines());
        commit_products();
        wait_for_products<0>();
        keep_state();
        let_go();
      }
      if (again) continue;
      ++turn;
      stage = memory::next(stage);
    }
    if constexpr (plan::forward_call) store_state();
  }

 private:
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
      const float by[2] = {from.rescale[row_], from.rescale[row_ + 8]};
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

  /// y^T of a tile that begins at a position, and X after it. Whether any column of v is bad.
  __device__ __forceinline__ bool multiply(int stage, int first, float (&y)[32]) {
    if constexpr (plan::cleans_values) base::clean_values(column(stage), first);
    const tile reads = read(stage), columns_of = column(stage), scores{shared_.scores.data},
               rest_of_scores{shared_.rest_of_scores()};
    constexpr int columns = rows / plan::groups;  // of the scores, which the groups share
    if constexpr (plan::encodes) publish_to_products();
    if constexpr (plan::outputs_for_scores) memory::reading().meet();  // outputs of the last tile are stored
    float p[columns / 2];
#pragma unroll
    for (int n = 0; n < columns / 2; ++n) p[n] = 0;
    keep_order(p);
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
    constexpr bool reads_early = !plan::splits_state && plan::columns_of_x == D;  // else later, for lack of registers
    typename base::packed_state x;
    if constexpr (reads_early) pack_state(x);
#pragma unroll
    for (int n = 0; n < 32; ++n) y[n] = 0;
    wait_for_products<0>();
    keep_order(p);
    keep_order(y);
    const auto read_state = [&] { base::multiply_state(x, reads, read_sines(), y); };
    if constexpr (reads_early) {
      begin_products();
      read_state();
      commit_products();
    }
    // What `tri` leaves out is zero by selection.
    const int thread = anew(thread_), first_t = thread / 32 * 16 + thread % 32 / 4;
#pragma unroll
    for (int n = 0; n < columns / 2; n += 2) {
      const int t = first_t + n / 2 % 2 * 8, s = group_ * columns + n / 4 * 8 + thread % 4 * 2;
      const float first = (plan::backwards ? s >= t : s <= t) ? p[n] : 0.0F;
      const float second = (plan::backwards ? s + 1 >= t : s + 1 <= t) ? p[n + 1] : 0.0F;
      const std::uint32_t packed = pack_bfloat16(first, second);
      *reinterpret_cast<std::uint32_t*>(scores.at(t, s)) = packed;
      *reinterpret_cast<std::uint32_t*>(rest_of_scores.at(t, s)) =
          pack_bfloat16(first - lower_bfloat16(packed), second - upper_bfloat16(packed));
    }
    if constexpr (plan::splits_state) {  // only now, for lack of registers
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
    if constexpr (plan::columns_of_x > D) pack_state(x);
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
    const bool bad = plan::cleans_values && uniform(shared_.bad_values != 0);
    wait_for_products<0>();
    keep_order(y);
    keep_state();
    memory::reading().meet();  // nobody reads the scores any more, nor the operands
    return bad;
  }

  // --- What comes out, as walk_rows has it

  __device__ void write(int stage, const run_of_rows& run, int index, float (&y)[32]) {
    if constexpr (plan::joins_halves) {
      if (!base::template join_halves<true>(y)) return;
    }
    if constexpr (What == walk_for::outputs) {
      rows_.store(out_.o, 0, job_.from.values, run, y, run.odd, out_.accumulate);
    } else if constexpr (What == walk_for::values) {
      rows_.store(out_.v, 0, job_.from.values, run, y, false, out_.accumulate);
    } else if constexpr (What == walk_for::queries) {
      write_queries(stage, run, index, y);
    } else {
      write_keys(stage, run, index, y);
    }
  }

  /// 1 / Z or the weight of place n of the eight from t on.
  __device__ float extra_of(int stage, int t, int n) const {
    return shared_.extra(stage).at(t + n / 4 * 8 + lane_ % 4 * 2 + n % 2, row_ + n / 2 % 2 * 8);
  }
  /// Where R of the tile is for this thread's first row and token: 64 tokens of a channel follow each other.
  __device__ float* reads_of(int index) const {
    return kept_.reads + kept_.place(line_.at, index, D, row_) * rows + lane_ % 4 * 2;
  }
  /// From there to place n of the eight from token t on.
  __device__ static int in_reads(int t, int n) { return n / 2 % 2 * 8 * rows + t + n / 4 * 8; }

  __device__ void write_queries(int stage, const run_of_rows& run, int index, float (&y)[32]) {
    float* const terms = reads_of(index);
#pragma unroll
    for (int t = 0; t < rows; t += 16) {
      const four_pairs q = pairs_of(shared_.q(stage), t);
#pragma unroll
      for (int n = 0; n < 8; n += 2) {
        float r[2];
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          float& dq = y[t / 2 + n + e];
          const float inverse = extra_of(stage, t, n + e);
          r[e] = q[n + e] * dq * (Job::sums ? inverse : 1.0F);
          dq *= inverse;
        }
        *reinterpret_cast<float2*>(terms + in_reads(t, n)) = float2{r[0], r[1]};
      }
    }
    rows_.store(out_.q, 0, job_.from.keys, run, y, false, out_.accumulate);
  }

  __device__ void write_keys(int stage, const run_of_rows& run, int index, float (&y)[32]) {
    float dkappa[plan::keyed ? 32 : 1];
    float sum[2] = {};
    const float* const terms = reads_of(index);
    float2 read[rows / 4];  // all at once, for it takes long
#pragma unroll
    for (int n = 0; n < rows / 4; ++n) {
      read[n] = *reinterpret_cast<const float2*>(terms + in_reads(n / 4 * 16, n % 4 * 2));
    }
    // From the last tokens to the first: the sums of R, or of R - A.
#pragma unroll
    for (int t = rows - 16; t >= 0; t -= 16) {
      const four_pairs key = pairs_of(shared_.k(stage), t);
#pragma unroll
      for (int n = 6; n >= 0; n -= 2) {  // tokens t + 8 .. first
        const int side = n / 2 % 2;
        const float2 r = read[t / 4 + n / 2];
        float term[2] = {r.x, r.y}, own[2], weight[2];
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const float dkhat = y[t / 2 + n + e];
          float khat = key[n + e];
          weight[e] = khat;
          if constexpr (plan::keyed) {
            weight[e] = extra_of(stage, t, n + e);
            dkappa[t / 2 + n + e] = weight[e] * dkhat;
            khat = lower_bfloat16(pack_bfloat16(khat * weight[e], 0.0F));  // as the other products had it
          }
          own[e] = khat * dkhat;
          if constexpr (!Job::sums) term[e] -= own[e];
        }
        const float both = term[0] + term[1], after = after_quad(both), of_later = sum[side] + after;
        const float until[2] = {of_later + both, of_later + term[1]};
        sum[side] += __shfl_sync(~0U, both + after, lane_ & ~3);
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          float& gradient = y[t / 2 + n + e];
          if constexpr (Job::sums) {
            gradient = own[e] - weight[e] * (later_[side] + until[e]);
          } else {
            gradient = static_cast<float>(later_sum_[side] + static_cast<double>(until[e]));
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

  /// The sum over the lanes of four after this one.
  __device__ float after_quad(float x) const {
    float sum = 0;
#pragma unroll
    for (int ahead = 3; ahead > 0; --ahead) {
      const float other = __shfl_down_sync(~0U, x, static_cast<unsigned>(ahead), 4);
      sum += lane_ % 4 + ahead < 4 ? other : 0.0F;
    }
    return sum;
  }

  // Of both rows: what later tokens owe the normaliser, in the frame of the tile; of a decay, the sum of R - A so far.
  float later_[2] = {};
  double later_sum_[2] = {};
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
