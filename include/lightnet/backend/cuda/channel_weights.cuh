// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/recurrence_job.cuh>
#include <lightnet/backend/cuda/tile_exponential.cuh>
#include <lightnet/backend/cuda/warpgroup.cuh>

#include <climits>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Rows of floats in shared memory.
struct float_rows {
  float* data;
  int stride;

  __device__ float& at(int row, int column) const { return data[row * stride + column]; }
};

/// Which factors of a tile are written: khat, qhat, in a tile of its own what rounding leaves of one of them, and in rows of
/// their own 1 / Z or the weights. Which of them are encoded, where columns are doubled (walk_plan), and whether the cosines and
/// sines are in those rows: 1 / Z times these, or these alone.
struct factors_wanted {
  bool keys = false, queries = false, rests_of_keys = false, rests_of_queries = false, inverses = false,
       weights = false, encoded_keys = false, encoded_queries = false, angles = false;
};

/// What the threads of the parts of a tile's tokens tell each other about two channels, in shared memory, [threads] each: the
/// largest logit or, where they are decays, what has decayed; the first logit, of bfloat16 as they all are, where the frame is
/// watched; the sum of the weights; which run was too wide. And the barrier of all those threads.
struct part_exchange {
  float2* of_logits;
  std::uint32_t* first_logits;
  float2* of_weights;
  int* wide_run;
  warps_barrier barrier;
};

/// Who is to know that a frame climbs too far: nobody, as it does not; the threads where it does; all.
enum class watched_by { nobody, itself, all };

/// Where the factors of 64 tokens go: khat in the place of the keys, qhat in that of the queries; and the tile of the logits.
struct factor_tiles {
  swizzled_tile<64> keys, queries, rests;
  float_rows extra;
  swizzled_tile<64> logits;
};

/// The factors of two neighbouring channels for 64 tokens of a line and head, in the frame of the last of them, and what is
/// carried from there to the next. Four threads share the work, a part of the tokens each; all of a warp have the same part.
/// Tokens of the 64 that do not count come out as zero. The frame of decays is halfway to their last token, or from the first
/// one of a run to that, for what they go through may be twice as far: all but nothing is left of what is so far back. Loaded:
/// logits are in a tile, not to be read from memory. Back: the line is walked from its end, and token i is in row 63 - i.
/// Doubled: the columns of a tile are 64 channels for the cosines of an encoding, and the same ones for its sines.
template <class Job, bool Loaded, bool Back = false, bool Doubled = false>
class channel_weights {
 public:
  using recurrence = typename Job::recurrence;
  static constexpr int rows = 64, own = 2, parts = 4, rows_of_part = rows / parts;

  std::int32_t m[own];                    // the frame of what is carried
  float z[own], gain[own], product[own];  // its normaliser; 1 / Z of a decay, which goes on in the frame 0; all decays
  const int part, channel;                // the part of the tokens, the first of the columns

  /// From the initial state, or from nothing. `bad_token`, shared, keeps the first position whose logit is bad.
  __device__ channel_weights(const Job& job, const line_of_head& at, int thread, const part_exchange& shared,
                             int* bad_token, bool from_state)
      : part{in_order(thread / (shared.barrier.threads / parts))},
        channel{thread % (shared.barrier.threads / parts) * own},
        job_{job},
        at_{at},
        thread_{thread},
        shared_{shared},
        bad_token_{bad_token} {
    begin_channels(job, at, from_state, *this);
  }

  /// The row of a token, and the token of a row.
  __device__ static constexpr int row_of(int i) { return Back ? rows - 1 - i : i; }
  /// The first of the channels that the columns are of, and whether they are the first of these.
  __device__ int own_channel() const { return Doubled ? channel % 64 : channel; }
  __device__ bool comes_first() const { return channel == own_channel(); }
  __device__ bool has(int e) const { return own_channel() + e < job_.from.keys; }
  /// The number of the weight of a channel in a state.
  __device__ std::int64_t own_weight(int e) const { return Job::per_channel ? own_channel() + e : 0; }

  /// Works out the factors of the tokens from `first` on, of which those in the bits of `counted` count, and carries m and Z
  /// on: What says which are written, khat and qhat in the place of the keys and the queries. Gives the factors that take what
  /// was carried to this frame. Returns false where the frame climbs too far and the run is not `cut` to go no further: then
  /// khat is of no use, and what is carried stays as it was. Before it writes to `extra` it calls `wait_for_extra`.
  template <factors_wanted What, watched_by Watched, class Wait>
  __device__ __forceinline__ bool enter(const factor_tiles& to, int first, std::uint64_t counted, bool cut,
                                        float (&by)[own], const Wait& wait_for_extra) {
    to_ = to;
    first_ = first;
    counted_of_part_ = anew(static_cast<std::uint32_t>(counted >> (part * rows_of_part)));
    column_ = anew(channel);
    bool plain = counted == ~std::uint64_t{0};
#pragma unroll
    for (int e = 0; e < own; ++e) plain = plain && has(e) && (m[e] == empty_exponent || z[e] > 0);
    float x[rows_of_part][own], of_logits[own], first_logits[own];
    plain = __all_sync(~0U, plain) && read_logits<true>(x, of_logits, first_logits);
    if (!plain) read_logits<false>(x, of_logits, first_logits);
    float before[own];  // what the parts before have decayed
    const bool wide =
        find_frame<Watched>(of_logits, first_logits, before) > (Job::sums ? widest_run : widest_decays) && !cut;
    if (!Job::sums && cut) enter_middle(counted, of_logits);
    ++run_;
    if (Watched == watched_by::all && wide) atomicMax(shared_.wide_run, run_);
    float total[own], carried[own];  // Z at the end of the tokens, and before those of this part
    if constexpr (What.weights || (What.angles && !What.inverses)) wait_for_extra();
    if (plain) {
      weigh<What, true>(x, before);
    } else {
      weigh<What, false>(x, before);
    }
#pragma unroll
    for (int e = 0; e < own; ++e) {
      const std::int32_t shift = m[e] - top_[e];
      by[e] = gain[e] * lower_by_power_of_two(1.0F, shift < -1000000 ? -1000000 : shift);
      total[e] = Job::sums ? z[e] * by[e] : 0.0F;
    }
    shared_.of_weights[thread_] = float2{x[rows_of_part - 1][0], x[rows_of_part - 1][1]};
    shared_.barrier.meet();
    if (Watched == watched_by::all ? *shared_.wide_run == run_ : wide) return false;
#pragma unroll
    for (int p = 0; p < parts; ++p) {
      const float2 other = shared_.of_weights[in_part(p)];
#pragma unroll
      for (int e = 0; e < own; ++e) {
        carried[e] = p == 0 || p == part ? total[e] : carried[e];
        const float number = e == 0 ? other.x : other.y;
        total[e] = Job::sums ? total[e] + number : number;
      }
    }
#pragma unroll
    for (int e = 0; e < own; ++e) {
      if constexpr (Job::sums) {
        m[e] = top_[e];
        z[e] = total[e];
      } else {  // the last weight
        gain[e] = total[e] != 0 ? 1.0F / total[e] : 0.0F;
        product[e] *= gain[e] * lower_by_power_of_two(1.0F, -top_[e]);
      }
    }
    if constexpr (What.queries) {
      if constexpr (What.inverses) wait_for_extra();
      if (plain) {
        divide<What, true>(x, carried);
      } else {
        divide<What, false>(x, carried);
      }
    }
    return true;
  }

  /// The first row after `start` whose frame is too far from that of `start`, or `end`: the run of the tokens that are
  /// `counted` is to be cut there. What was carried may lie further below: next to such a frame it is nothing.
  __device__ int first_wide(int start, int end, std::uint64_t counted) const {
    for (int e = 0; e < own; ++e) {
      std::int32_t frame = Job::sums ? m[e] : 0, low = empty_exponent;
      float decayed = 0;
      for (int r = start; r < end; ++r) {
        const float x = checked(has(e) && (counted >> r & 1U) != 0, [&] { return logit(r, e); });
        decayed -= Job::sums ? 0.0F : x;
        const std::int32_t n = tile_exponential::of<false>(Job::sums ? x : decayed).exponent();
        frame = n > frame ? n : frame;
        low = low == empty_exponent ? frame : low;
        if (frame - low > (Job::sums ? widest_run : widest_decays)) end = r;
      }
    }
    return end;
  }

 private:
  static constexpr int angles_ahead = 4;  // tokens whose angles are on their way at once

  /// The thread of a part with the same channels.
  __device__ int in_part(int p) const {
    const int threads = shared_.barrier.threads / parts;
    return in_order(p) * threads + thread_ % threads;
  }
  /// The part of which a quarter of the threads, or of the rows, is.
  __device__ static constexpr int in_order(int quarter) { return Back ? parts - 1 - quarter : quarter; }
  /// Both channels of token i of the part in a tile.
  __device__ std::uint32_t* pair_of(const swizzled_tile<rows>& tile, int i) const {
    constexpr int eight_rows = (Back ? -8 : 8) * tile.row_bytes;
    unsigned char* const first = tile.part(row_of(part * rows_of_part + i % 8), column_);
    return reinterpret_cast<std::uint32_t*>(first + column_ % 8 * 2 + i / 8 * eight_rows);
  }
  template <bool Plain>
  __device__ bool counts(int i, int e) const {
    return Plain || ((counted_of_part_ >> i & 1U) != 0 && has(e));
  }

  __device__ float logit(int i, int e) const {
    if constexpr (Loaded) {
      const std::uint32_t bits = *to_.logits.at(row_of(i), channel + e);
      return __uint_as_float(bits << 16);
    } else {
      return job_.logit(at_, at_.line.token(first_ + row_of(i)), own_weight(e));
    }
  }
  /// Neutral where it does not count, or is bad.
  template <class Logit>
  __device__ static float checked(bool counts, const Logit& logit, bool* bad = nullptr) {
    if (!counts) return Job::neutral_logit();
    const float x = logit();
    if (!Job::bad_logit(x)) return !Job::sums && x < Job::least_logit ? Job::least_logit : x;
    if (bad != nullptr) *bad = true;
    return Job::neutral_logit();
  }

  /// The logits of token i of the part; with Plain, whether any of them is odd, else a bad one is remembered.
  template <bool Plain>
  __device__ void logits(int i, float (&x)[own], bool& odd) const {
    if constexpr (Loaded) both_of(*pair_of(to_.logits, i), x);
#pragma unroll
    for (int e = 0; e < own; ++e) {
      const auto read = [&] {
        return Loaded ? x[e] : e > 0 && !Job::per_channel ? x[0] : logit(part * rows_of_part + i, e);
      };
      if constexpr (Plain) {
        x[e] = read();
        odd = odd || !(Job::sums ? fabsf(x[e]) < 1e6F : x[e] <= 0 && x[e] >= Job::least_logit);
      } else {
        x[e] = checked(counts<Plain>(i, e), read, &odd);
      }
    }
  }
  __device__ static void both_of(std::uint32_t pair, float (&x)[own]) {
    x[0] = lower_bfloat16(pair);
    x[1] = upper_bfloat16(pair);
  }

  /// The same as `read_logits<true>`, of keys that are the logits.
  __device__ bool read_plain_keys(float (&x)[rows_of_part][own], float (&all)[own], float (&first)[own]) const {
    std::uint32_t largest = 0, magnitudes = 0;
#pragma unroll
    for (int i = 0; i < rows_of_part; ++i) {
      const std::uint32_t pair = *pair_of(to_.keys, i);
      both_of(pair, x[i]);
      largest = i == 0 ? pair : larger_bfloat16(largest, pair);
      magnitudes = larger_magnitudes(magnitudes, pair);
    }
    both_of(largest, all);
    first[0] = x[0][0];
    first[1] = x[0][1];
    return !__any_sync(~0U, reach(magnitudes, wide_bfloat16));
  }

  /// Reads the logits of this part, for a decay the sums of what decays in it; with Plain, gives up where one of the warp's
  /// is odd. A bad one is remembered.
  template <bool Plain>
  __device__ bool read_logits(float (&x)[rows_of_part][own], float (&all)[own], float (&first)[own]) const {
    if constexpr (Plain && Job::tied) return read_plain_keys(x, all, first);
    bool odd = false;
#pragma unroll
    for (int i = 0; i < rows_of_part; ++i) {
      bool bad = false;
      logits<Plain>(i, x[i], Plain ? odd : bad);
      if (!Plain && bad) remember_bad(i);
#pragma unroll
      for (int e = 0; e < own; ++e) {
        if (i == 0 || (!Plain && first[e] == Job::neutral_logit())) first[e] = x[i][e];
        if constexpr (Job::sums) {
          all[e] = i == 0 ? x[i][e] : fmaxf(all[e], x[i][e]);
        } else {
          all[e] = x[i][e] = i == 0 ? -x[i][e] : all[e] - x[i][e];
        }
      }
    }
    return !Plain || !__any_sync(~0U, odd);
  }
  /// Remembers that a logit of token i of the part is bad.
  __device__ void remember_bad(int i) const {
    atomicMin(bad_token_, first_ + row_of(part * rows_of_part + i));
    if (recurrence::logits == logits_from::head) atomicOr(job_.bad_content, 1U);
  }

  /// Finds the frame, from what all parts say of their logits. Returns how far it climbs, the larger of both channels, if
  /// that is watched.
  template <watched_by Watched>
  __device__ std::int32_t find_frame(float (&all)[own], float (&first)[own], float (&before)[own]) {
    constexpr bool looks_at_first = Job::sums && Watched != watched_by::nobody;
    shared_.of_logits[thread_] = float2{all[0], all[1]};
    if constexpr (looks_at_first) shared_.first_logits[thread_] = pack_bfloat16(first[0], first[1]);
    shared_.barrier.meet();
#pragma unroll
    for (int p = 0; p < parts; ++p) {
      const float2 other = shared_.of_logits[in_part(p)];
      std::uint32_t earliest = 0;
      if constexpr (looks_at_first) earliest = shared_.first_logits[in_part(p)];
#pragma unroll
      for (int e = 0; e < own; ++e) {
        const float number = e == 0 ? other.x : other.y,
                    early = e == 0 ? lower_bfloat16(earliest) : upper_bfloat16(earliest);
        if (p == 0 || p == part) before[e] = p == 0 ? 0.0F : all[e];
        if (p == 0) {
          all[e] = number;
          first[e] = early;
        } else if constexpr (Job::sums) {
          all[e] = fmaxf(all[e], number);
          if (first[e] == Job::neutral_logit()) first[e] = early;
        } else {
          all[e] += number;
        }
      }
    }
    std::int32_t most = 0;
#pragma unroll
    for (int e = 0; e < own; ++e) {
      const std::int32_t top = tile_exponential::of<false>(all[e]).exponent();
      top_[e] = !Job::sums ? top / 2 : m[e] > top ? m[e] : top;
      if constexpr (Watched != watched_by::nobody) {
        std::int32_t low = 0;
        if constexpr (Job::sums) low = m[e] != empty_exponent ? m[e] : tile_exponential::of<false>(first[e]).exponent();
        const std::int32_t climb = (Job::sums ? top_[e] : top) - low;
        most = climb > most ? climb : most;
      }
    }
    return most;
  }

  /// Has the frame of a run that is cut, in which so much decays, lie between its first and its last token.
  __device__ void enter_middle(std::uint64_t counted, const float (&decayed)[own]) {
    const int first = counted == 0 ? 0 : __ffsll(static_cast<long long>(counted)) - 1;
#pragma unroll
    for (int e = 0; e < own; ++e) {
      const float x = checked(has(e) && counted != 0, [&] { return logit(first, e); });
      const std::int32_t low = tile_exponential::of<false>(-x).exponent();
      top_[e] = low + (tile_exponential::of<false>(decayed[e]).exponent() - low) / 2;
    }
  }

  /// kappa of a channel, given its key, or the logit that is loaded in the place of it.
  template <bool Plain>
  __device__ float kappa(int i, int e, float key) const {
    if constexpr (recurrence::kappa == kappa_of::key) return key;
    if constexpr (recurrence::kappa == kappa_of::complement && Loaded) {
      return !Plain && Job::bad_logit(key) ? 0.0F : tile_complement(key);
    } else if constexpr (recurrence::kappa == kappa_of::complement) {
      const int position = first_ + row_of(part * rows_of_part + i);
      return counts<Plain>(i, e) ? job_.kappa(at_, at_.line.token(position), channel + e) : 0.0F;
    }
    return 1.0F;
  }

  template <bool Plain, bool Rests>
  __device__ void write(const swizzled_tile<rows>& to, int i, const float (&y)[own]) const {
    const float first = counts<Plain>(i, 0) ? y[0] : 0.0F, second = counts<Plain>(i, 1) ? y[1] : 0.0F;
    const std::uint32_t packed = pack_bfloat16(first, second);
    *pair_of(to, i) = packed;
    if constexpr (Rests) {
      *pair_of(to_.rests, i) = pack_bfloat16(first - lower_bfloat16(packed), second - upper_bfloat16(packed));
    }
  }
  template <bool Plain>
  __device__ void write(const float_rows& to, int i, const float (&y)[own]) const {
    *reinterpret_cast<float2*>(&to.at(row_of(part * rows_of_part + i), channel)) =
        float2{counts<Plain>(i, 0) ? y[0] : 0.0F, counts<Plain>(i, 1) ? y[1] : 0.0F};
  }

  /// The packed cosines, or sines, of both channels of `Count` tokens of the part, from the ith on; beyond the line those of its
  /// last token.
  template <int Count>
  __device__ __forceinline__ void read_angles(int i, std::uint32_t (&angles)[Count]) const {
    const int first = part * rows_of_part + i, last = static_cast<int>(at_.line.length) - 1 - first_;
    const std::uint32_t* const of_first = job_.packed(at_, at_.line.token(first_)) + column_ / own;
    const std::int64_t step = at_.line.step * Job::packed_words;
#pragma unroll
    for (int n = 0; n < Count; ++n) angles[n] = of_first[(first + n < last ? first + n : last) * step];
  }
  __device__ static void encode(std::uint32_t angles, float (&y)[own]) {
    const float2 by = both_float16(angles);
    y[0] *= by.x;
    y[1] *= by.y;
  }

  /// khat, in the place of the keys, and the weights. x: the logits, then the sums of the weights, for a decay the weights.
  template <factors_wanted What, bool Plain>
  __device__ void weigh(float (&x)[rows_of_part][own], const float (&before)[own]) const {
    // A few are read before any of these is written: there are no registers for more.
    constexpr bool reads_keys = What.keys && (recurrence::kappa == kappa_of::key || (Job::complement && Loaded));
    constexpr int ahead = Job::complement ? 2 : 4;
    constexpr bool reads_angles = What.encoded_keys || (What.angles && !What.inverses);
    std::uint32_t keys[ahead] = {}, angles[angles_ahead] = {};
#pragma unroll
    for (int i = 0; i < rows_of_part; ++i) {
      if (reads_keys && i % ahead == 0) {
#pragma unroll
        for (int n = 0; n < ahead; ++n) keys[n] = *pair_of(to_.keys, i + n);
      }
      if (reads_angles && i % angles_ahead == 0) read_angles(i, angles);
      float weight[own], key[own], before_token[own];
#pragma unroll
      for (int e = 0; e < own; ++e) {
        if constexpr (What.weights && Job::complement) {  // that of the token before: without its own decay
          before_token[e] =
              i > 0 ? x[i - 1][e] : tile_exponential::of<Plain>(before[e]).template in_frame<Plain>(top_[e]);
        }
        weight[e] =
            tile_exponential::of<Plain>(Job::sums ? x[i][e] : before[e] + x[i][e]).template in_frame<Plain>(top_[e]);
        x[i][e] = Job::sums && i > 0 ? x[i - 1][e] + weight[e] : weight[e];
        if constexpr (What.keys) {
          const std::uint32_t pair = keys[i % ahead];
          key[e] = weight[e] * kappa<Plain>(i, e, e == 0 ? lower_bfloat16(pair) : upper_bfloat16(pair));
        }
      }
      if constexpr (What.encoded_keys) encode(angles[i % angles_ahead], key);
      if constexpr (What.keys) write<Plain, What.rests_of_keys>(to_.keys, i, key);
      if constexpr (What.angles && !What.inverses) {
        const float2 by = both_float16(angles[i % angles_ahead]);
        write<Plain>(to_.extra, i, {by.x, by.y});
      }
      if constexpr (What.weights) write<Plain>(to_.extra, i, Job::complement ? before_token : weight);
    }
  }

  /// qhat, in the place of the queries, and 1 / Z. x: the sums of the weights, for a decay the weights.
  template <factors_wanted What, bool Plain>
  __device__ void divide(const float (&x)[rows_of_part][own], const float (&carried)[own]) const {
    constexpr int ahead = 8;  // rows that are read before any of them is written
    constexpr bool reads_angles = What.encoded_queries || (What.angles && What.inverses);
    std::uint32_t read[ahead], angles[angles_ahead] = {};
#pragma unroll
    for (int i = 0; i < rows_of_part; ++i) {
      if (i % ahead == 0) {
#pragma unroll
        for (int n = 0; n < ahead; ++n) read[n] = *pair_of(to_.queries, i + n);
      }
      if (reads_angles && i % angles_ahead == 0) read_angles(i, angles);
      float query[own] = {lower_bfloat16(read[i % ahead]), upper_bfloat16(read[i % ahead])}, inverse[own];
#pragma unroll
      for (int e = 0; e < own; ++e) {
        const float normaliser = Job::sums ? carried[e] + x[i][e] : x[i][e];
        inverse[e] = Plain || normaliser != 0 ? tile_reciprocal(normaliser) : 0.0F;
        query[e] *= inverse[e];
      }
      if constexpr (What.encoded_queries) encode(angles[i % angles_ahead], query);
      write<Plain, What.rests_of_queries>(to_.queries, i, query);
      if constexpr (What.angles && What.inverses) encode(angles[i % angles_ahead], inverse);
      if constexpr (What.inverses) write<Plain>(to_.extra, i, inverse);
    }
  }

  const Job& job_;
  const line_of_head& at_;
  const int thread_;
  const part_exchange shared_;
  int* const bad_token_;
  factor_tiles to_{};
  int column_ = 0;                     // the channel
  std::uint32_t counted_of_part_ = 0;  // the bits of its tokens
  int first_ = 0;
  std::int32_t top_[own] = {};
  int run_ = Back ? INT_MAX / 2 : 0;  // those of a way back are above those before it
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
