// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/tile_exponential.cuh>
#include <lightnet/backend/cuda/tile_rows.cuh>

#include <climits>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Which recurrences the matrix instructions take: those whose key is a key or a weight, in bfloat16.
template <class Recurrence, class T>
inline constexpr bool takes_matrix_units =
    std::is_same_v<T, bfloat16>&& Recurrence::weight != weight_of::running_sum && !Recurrence::with_sign;
/// Without an encoding, and, on Hopper alone (walk_encoder), with one that doubles the channels.
template <class Recurrence, class Position, class T>
inline constexpr bool takes_causal_tiles = takes_matrix_units<Recurrence, T> && !Position::encodes;
template <class Recurrence, class Position, class T>
inline constexpr bool takes_encoding_walks =
    takes_matrix_units<Recurrence, T>&& Position::encodes && !Position::mixes_channels;

/// The factors of 64 tokens of a line and head in the frame of the last of them, and what is carried from there to the next.
/// A thread has two neighbouring channels and some neighbouring tokens, a part; the lanes of a warp lie along the channels.
/// The tokens [start, last] of the 64 count: those whose frame climbs too far from the first are taken in several runs.
template <class Job, int D>
class tile_weights {
 public:
  using recurrence = typename Job::recurrence;
  static constexpr int rows = 64, threads = 256, own = 2;
  static constexpr int parts = threads / 32 * 64 / D, rows_of_part = rows / parts;
  static constexpr int exchange_bytes = 2 * parts * D * 4;
  static constexpr bool reads_keys = recurrence::kappa == kappa_of::key || Job::tied;

  /// Memory that threads share: the operands, the weights [rows, D], what parts tell each other, and which tokens are on.
  struct memory {
    bfloat16_tile q, k;
    float *weights, *exchange;
    unsigned* on_bits;  // [2]
    int *bad_token, *run_end;
  };

  std::int32_t m[own];                    // the frame of what is carried
  float z[own], gain[own], product[own];  // its normaliser; 1 / Z of a decay, which goes on in the frame 0; all decays
  int channel, part, first_row;           // the first channel, and the first token of the part

  /// From the initial state, or from nothing.
  __device__ tile_weights(const Job& job, const line_of_head& at, const memory& shared, bool from_state)
      : job_{job}, at_{at}, shared_{shared} {
    const int warp = static_cast<int>(threadIdx.x) / 32;
    channel = (warp % (D / 64) * 32 + static_cast<int>(threadIdx.x) % 32) * own;
    part = warp / (D / 64);
    first_row = part * rows_of_part;
    begin_channels(job, at, from_state, *this);
  }

  __device__ bool has(int e) const { return channel + e < job_.from.keys; }
  __device__ std::int64_t own_weight(int e) const { return Job::per_channel ? channel + e : 0; }

  /// Says which of the next tokens are on; before the threads meet.
  __device__ void tell_on(std::int64_t first, int count) const {
    if (threadIdx.x >= rows) return;
    const int r = static_cast<int>(threadIdx.x);
    const unsigned bits = __ballot_sync(~0U, r < count && job_.on(at_, at_.line.token(first + r)));
    if (r % 32 == 0) shared_.on_bits[r / 32] = bits;
  }
  __device__ bool is_on(int r) const { return (shared_.on_bits[r / 32] >> r % 32 & 1U) != 0; }

  /// Goes to the tokens from `first` on, of which rows [start, last] count. Returns whether they climb too far. All threads
  /// of the block come here, and to what follows, together.
  __device__ bool begin(std::int64_t first, int start, int last) {
    first_ = first;
    start_ = start;
    set_last(last);
    return top_of_run() > widest_run;
  }

  /// The last row of the run that begins at the first row.
  __device__ int cut() {
    const int before = last_;
    if (threadIdx.x == 0) *shared_.run_end = before + 1;
    __syncthreads();
    if (part == 0) {
      std::int32_t frame[own], low[own] = {empty_exponent, empty_exponent};
      float decayed[own] = {};
      for (int e = 0; e < own; ++e) frame[e] = Job::sums ? m[e] : 0;
      for (int r = start_; r <= before; ++r) {
        float x[own];
        logits(r, is_on(r), x);
        bool wide = false;
        for (int e = 0; e < own; ++e) {
          const std::int32_t n = exponential_of(x[e], decayed[e]).exponent();
          frame[e] = n > frame[e] ? n : frame[e];
          low[e] = low[e] == empty_exponent ? frame[e] : low[e];
          wide = wide || frame[e] - low[e] > widest_run;
        }
        if (wide) {
          atomicMin(shared_.run_end, r);
          break;
        }
      }
    }
    __syncthreads();
    set_last(*shared_.run_end - 1);
    top_of_run();
    return last_;
  }

  /// Works the factors out: khat takes the place of the keys and, with Reads, qhat that of the queries; `keep(i, e, w, 1 / Z)`
  /// is told of every row i of this part and channel e. Carries m and Z on. `by` takes what was carried to this frame.
  template <bool Reads, class Keep>
  __device__ void enter(float (&by)[own], const Keep& keep) {
    float decayed[own], sum[own] = {}, before[own] = {}, total[own] = {}, carried[own], prefix[own] = {};
    decayed_before(decayed);
#pragma unroll 4
    for (int i = 0; i < rows_of_part; ++i) {
      float x[own], w[own];
      logits(first_row + i, counts(i), x);
      for (int e = 0; e < own; ++e) {
        w[e] = exponential_of(x[e], decayed[e]).in_frame<false>(top_[e]);
        sum[e] += w[e];
      }
      *reinterpret_cast<float2*>(weights_of(first_row + i)) = float2{w[0], w[1]};
    }
    exchange(sum, [&](int p, int e, float other) {
      before[e] += p < part ? other : 0.0F;
      total[e] += other;
    });
    for (int e = 0; e < own; ++e) {
      const std::int32_t shift = m[e] - top_[e];
      by[e] = gain[e] * lower_by_power_of_two(1.0F, shift < -1000000 ? -1000000 : shift);
      carried[e] = Job::sums ? z[e] * by[e] : 0.0F;
    }
#pragma unroll 4
    for (int i = 0; i < rows_of_part; ++i) {
      const int r = first_row + i;
      const bool inside = counts(i);
      const float2 w = *reinterpret_cast<const float2*>(weights_of(r));
      const float weight[own] = {w.x, w.y};
      float read[own] = {}, write[own];
      two_of(shared_.k, r, write);
      if constexpr (Reads) two_of(shared_.q, r, read);
      for (int e = 0; e < own; ++e) {
        prefix[e] += weight[e];
        if constexpr (Reads) {
          const float normaliser = Job::sums ? carried[e] + (before[e] + prefix[e]) : weight[e];
          const float inverse = normaliser != 0 ? tile_reciprocal(normaliser) : 0.0F;
          read[e] = inside ? read[e] * inverse : 0.0F;
          keep(i, e, weight[e], inverse);
        }
        float kappa = 1.0F;
        if constexpr (recurrence::kappa == kappa_of::key) kappa = write[e];
        if constexpr (recurrence::kappa == kappa_of::complement) {
          kappa = inside && has(e) ? job_.kappa(at_, at_.line.token(first_ + r), channel + e) : 0.0F;
        }
        write[e] = inside ? kappa * weight[e] : 0.0F;
      }
      if constexpr (Reads) set_two(shared_.q, r, read);
      set_two(shared_.k, r, write);
    }
    for (int e = 0; e < own; ++e) {
      if constexpr (Job::sums) {
        m[e] = top_[e];
        z[e] = carried[e] + total[e];
      } else {
        const float end = weights_of(last_)[e];
        gain[e] = end != 0 ? 1.0F / end : 0.0F;
        product[e] *= gain[e] * lower_by_power_of_two(1.0F, -top_[e]);
      }
    }
  }

  /// Calls add(part, e, number) with what every part has, in their order.
  template <class Add>
  __device__ void exchange(const float (&mine)[own], const Add& add) const {
    __syncthreads();  // what was told before has been read
    *reinterpret_cast<float2*>(shared_.exchange + part * D + channel) = float2{mine[0], mine[1]};
    __syncthreads();
#pragma unroll
    for (int p = 0; p < parts; ++p) {
      const float2 other = *reinterpret_cast<const float2*>(shared_.exchange + p * D + channel);
      add(p, 0, other.x);
      add(p, 1, other.y);
    }
  }

  /// The two channels of a row of an operand.
  __device__ void two_of(const bfloat16_tile& from, int r, float (&x)[own]) const {
    const std::uint32_t packed = *reinterpret_cast<const std::uint32_t*>(from.at(r, channel));
    x[0] = lower_bfloat16(packed);
    x[1] = upper_bfloat16(packed);
  }

 private:
  __device__ void set_two(const bfloat16_tile& to, int r, const float (&x)[own]) const {
    *reinterpret_cast<std::uint32_t*>(to.at(r, channel)) = pack_bfloat16(x[0], x[1]);
  }
  __device__ float* weights_of(int r) const { return shared_.weights + r * D + channel; }

  /// Whether row i of this part counts.
  __device__ bool counts(int i) const { return (counted_ >> i & 1U) != 0; }
  __device__ void set_last(int last) {
    last_ = last;
    const std::uint64_t on = shared_.on_bits[0] | static_cast<std::uint64_t>(shared_.on_bits[1]) << 32;
    const std::uint64_t run = (~0ULL >> (63 - last)) & (~0ULL << start_);
    counted_ = static_cast<unsigned>((on & run) >> first_row);
  }

  /// The logits of a row; neutral where it does not count. A bad one is remembered, and neutral.
  __device__ void logits(int r, bool counted, float (&x)[own]) const {
    const float neutral = Job::neutral_logit();
    if constexpr (Job::tied) {
      two_of(shared_.k, r, x);
    } else {
      for (int e = 0; e < own; ++e) {
        if (e > 0 && !Job::per_channel) {
          x[e] = x[0];
        } else {
          x[e] = counted && has(e) ? job_.logit(at_, at_.line.token(first_ + r), own_weight(e)) : neutral;
        }
      }
    }
    for (int e = 0; e < own; ++e) {
      if (!counted || !has(e)) {
        x[e] = neutral;
      } else if (Job::bad_logit(x[e])) {
        atomicMin(shared_.bad_token, static_cast<int>(first_ + r));
        if (recurrence::logits == logits_from::head) atomicOr(job_.bad_content, 1U);
        x[e] = neutral;
      } else if (!Job::sums && x[e] < Job::least_logit) {
        x[e] = Job::least_logit;
      }
    }
  }

  /// The weight: e^x, or for a decay 1 / (a_start ... a_t).
  __device__ static tile_exponential exponential_of(float x, float& decayed) {
    if constexpr (Job::sums) {
      return tile_exponential::of<false>(x);
    } else {
      decayed -= x;
      return tile_exponential::of<false>(decayed);
    }
  }

  /// What the parts before this one have of the logarithm of a decay.
  __device__ void decayed_before(float (&before)[own]) const {
    before[0] = before[1] = 0;
    if constexpr (!Job::sums) {
      float sum[own] = {};
#pragma unroll 4
      for (int i = 0; i < rows_of_part; ++i) {
        float x[own];
        logits(first_row + i, counts(i), x);
        for (int e = 0; e < own; ++e) sum[e] -= x[e];
      }
      exchange(sum, [&](int p, int e, float other) { before[e] += p < part ? other : 0.0F; });
    }
  }

  /// Finds the frame of the run's end; returns how far that is from the first that is not empty, or from what was carried:
  /// the larger of both channels.
  __device__ std::int32_t top_of_run() {
    std::int32_t top[own] = {empty_exponent, empty_exponent}, low[own] = {empty_exponent, empty_exponent};
    float decayed[own];
    decayed_before(decayed);
#pragma unroll 4
    for (int i = 0; i < rows_of_part; ++i) {
      float x[own];
      logits(first_row + i, counts(i), x);
      for (int e = 0; e < own; ++e) {
        const std::int32_t n = exponential_of(x[e], decayed[e]).exponent();
        low[e] = low[e] == empty_exponent ? n : low[e];
        top[e] = n > top[e] ? n : top[e];
      }
    }
    const float tops[own] = {__int_as_float(top[0]), __int_as_float(top[1])};
    const float lows[own] = {__int_as_float(low[0]), __int_as_float(low[1])};
    exchange(tops, [&](int, int e, float other) {
      const std::int32_t n = __float_as_int(other);
      top[e] = n > top[e] ? n : top[e];
    });
    std::int32_t first_low[own] = {empty_exponent, empty_exponent};
    if constexpr (Job::sums) {
      exchange(lows, [&](int, int e, float other) {
        first_low[e] = first_low[e] == empty_exponent ? __float_as_int(other) : first_low[e];
      });
    }
    std::int32_t most = 0;
    for (int e = 0; e < own; ++e) {
      if (Job::sums && m[e] != empty_exponent) first_low[e] = m[e];
      top_[e] = Job::sums && m[e] > top[e] ? m[e] : top[e];
      const std::int32_t climb = top_[e] - (Job::sums ? first_low[e] : 0);
      most = climb > most ? climb : most;
    }
    return most;
  }

  const Job& job_;
  const line_of_head& at_;
  const memory shared_;
  std::int64_t first_ = 0;
  int start_ = 0, last_ = 0;
  unsigned counted_ = 0;
  std::int32_t top_[own] = {};
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
