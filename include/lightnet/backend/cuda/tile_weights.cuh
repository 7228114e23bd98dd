// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/mma.cuh>
#include <lightnet/backend/cuda/recurrence_job.cuh>

#include <climits>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Writes two neighbouring numbers of a row that has `channels`.
template <class U>
__device__ void store_two(U* row, std::int64_t stride, std::int64_t column, std::int64_t channels, bool accumulate,
                          float a, float b) {
  if constexpr (std::is_same_v<U, bfloat16>) {
    if (!accumulate && stride == 1 && column + 1 < channels &&
        reinterpret_cast<std::uintptr_t>(row + column) % 4 == 0) {
      *reinterpret_cast<std::uint32_t*>(row + column) = pack_bfloat16(a, b);
      return;
    }
  }
  for (int e = 0; e < 2 && column + e < channels; ++e) {
    U& to = row[(column + e) * stride];
    const float x = e == 0 ? a : b;
    to = static_cast<U>(accumulate ? static_cast<float>(to) + x : x);
  }
}

/// Frames within one run of rows stay this close, so that nothing overflows: 64 / ln 2.
inline constexpr std::int32_t widest_run = 92;

/// Which recurrences the matrix instructions take: those whose key is a key or a weight, in bfloat16, without an encoding.
template <class Recurrence, class Position, class T>
inline constexpr bool takes_causal_tiles = std::is_same_v<T, bfloat16> && !Position::encodes &&
                                           Recurrence::weight != weight_of::running_sum && !Recurrence::with_sign;

/// Reads rows [first, first + count) of a line into a tile of `rows` rows and Wide columns; what lies beyond them and the
/// channels, and what is masked, is zero. Eight channels at a time where they are aligned to that. Where `bad_column` is
/// given, entries that are no numbers become zero too, and it keeps the first position of each column that has one.
template <int Wide, int Threads, class Job, class Sequence>
__device__ void load_rows(const Job& job, const Sequence& sequence, const line_of_head& at, std::int64_t first,
                          int count, int rows, std::int64_t channels, const bfloat16_tile& to,
                          int* bad_column = nullptr) {
  const std::int64_t stride = sequence.channel_stride();
  for (int n = static_cast<int>(threadIdx.x); n < rows * (Wide / 8); n += Threads) {
    const int r = n / (Wide / 8), c = n % (Wide / 8) * 8;
    std::uint32_t numbers[4] = {};
    const std::int64_t token = at.line.token(first + (r < count ? r : 0));
    if (r < count && c < channels && job.on(at, token)) {
      const bfloat16* const row = sequence.token(at.line.batch, at.head, token);
      if (stride == 1 && c + 8 <= channels && reinterpret_cast<std::uintptr_t>(row + c) % 16 == 0) {
        const uint4 loaded = *reinterpret_cast<const uint4*>(row + c);
        numbers[0] = loaded.x;
        numbers[1] = loaded.y;
        numbers[2] = loaded.z;
        numbers[3] = loaded.w;
      } else {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          const std::uint32_t bits = c + i < channels ? row[(c + i) * stride].bits() : 0U;
          numbers[i / 2] |= bits << (i % 2 * 16);
        }
      }
      if (bad_column != nullptr) {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          const std::uint32_t exponent = 0x7F80U << (i % 2 * 16);
          if ((numbers[i / 2] & exponent) != exponent) continue;  // a number
          numbers[i / 2] &= ~(0xFFFFU << (i % 2 * 16));
          atomicMin(bad_column + c + i, static_cast<int>(first + r));
        }
      }
    }
    *reinterpret_cast<uint4*>(to.at(r, c)) = uint4{numbers[0], numbers[1], numbers[2], numbers[3]};
  }
}

/// The factors of 64 tokens of a line and head in the frame of the last of them, and what is carried from there to the next.
/// The threads of a block share the channels, `parts` of them a channel; a part has neighbouring tokens. The tokens
/// [start, last] of the 64 count: those whose frame climbs too far from the first are taken in several runs.
template <class Job, int D>
class tile_weights {
 public:
  using recurrence = typename Job::recurrence;
  static constexpr int rows = 64, threads = 256;
  static constexpr int parts = threads / D, rows_of_part = rows / parts, channels_of_warp = 32 / parts;
  static constexpr bool reads_keys = recurrence::kappa == kappa_of::key || Job::tied;

  std::int32_t m;          // the frame of what is carried
  float z, gain, product;  // its normaliser; 1 / Z for a decay, whose next run begins in the frame 0; all decays so far
  int channel, part, first_row;

  /// From the initial state, or from nothing.
  __device__ tile_weights(const Job& job, const line_of_head& at, const bfloat16_tile& q, const bfloat16_tile& k,
                          float* weights, int* is_on, int* bad_token, int* run_end, bool from_state)
      : job_{job}, at_{at}, q_{q}, k_{k}, weights_{weights}, is_on_{is_on}, bad_token_{bad_token}, run_end_{run_end} {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    channel = static_cast<int>(threadIdx.x) / 32 * channels_of_warp + lane % channels_of_warp;
    part = lane / channels_of_warp;
    first_row = part * rows_of_part;
    const bool empty = Job::sums && !(from_state && recurrence::sink);
    m = empty ? empty_exponent : 0;
    z = empty ? 0.0F : 1.0F;
    gain = product = 1.0F;
    if (!from_state || !job.from.state || !has_channel()) return;
    if constexpr (recurrence::framed) {
      const std::int32_t given = job.from.state.exponent(at.line.sequence, at.head, own_weight());
      m = given <= empty_exponent ? empty_exponent : given;
      z = m == empty_exponent ? 0.0F : job.from.state.normaliser(at.line.sequence, at.head, own_weight());
    } else if (job.from.state.decay) {
      product = job.from.state.decay(at.line.sequence, at.head, own_weight());
    }
  }

  __device__ bool has_channel() const { return channel < job_.from.keys; }
  __device__ std::int64_t own_weight() const { return Job::per_channel ? channel : 0; }

  /// Goes to the tokens from `first` on, of which rows [start, last] count. Returns whether they climb too far.
  __device__ bool begin(std::int64_t first, int start, int last) {
    first_ = first;
    start_ = start;
    last_ = last;
    return top_of_run() > widest_run;
  }

  /// The last row of the run that begins at the first row; all threads of the block come here together.
  __device__ int cut() {
    if (threadIdx.x == 0) *run_end_ = last_ + 1;
    __syncthreads();
    if (part == 0) {
      std::int32_t frame = Job::sums ? m : 0, low = empty_exponent;
      float decayed = 0;
      for (int r = start_; r <= last_; ++r) {
        const std::int32_t n = weight_of_row(r, decayed).exponent;
        frame = n > frame ? n : frame;
        low = low == empty_exponent ? frame : low;
        if (frame - low > widest_run) {
          atomicMin(run_end_, r);
          break;
        }
      }
    }
    __syncthreads();
    last_ = *run_end_ - 1;
    top_of_run();
    return last_;
  }

  /// Works the factors out: khat takes the place of the keys and, with Reads, qhat that of the queries; `keep(row, w, 1 / Z)`
  /// is told of every row of this part. Carries m and Z on. Returns the factor that takes what was carried to this frame.
  template <bool Reads, class Keep>
  __device__ float enter(const Keep& keep) {
    const std::int32_t shift = m - top_;
    const float by = gain * lower_by_power_of_two(1.0F, shift < -1000000 ? -1000000 : shift);
    float decayed = decayed_before(), sum = 0;
#pragma unroll 4
    for (int r = first_row; r < first_row + rows_of_part; ++r) {
      const scaled<float> w = weight_of_row(r, decayed);
      const float weight = lower_by_power_of_two(w.mantissa, w.exponent - top_);
      weight_at(r, part) = weight;
      sum += weight;
    }
    float before = 0, total = 0;
#pragma unroll
    for (int p = 0; p < parts; ++p) {
      const float other = of_part(sum, p);
      before += p < part ? other : 0.0F;
      total += other;
    }
    __syncwarp();
    const float carried = Job::sums ? z * by : 0.0F;
    float prefix = 0;
#pragma unroll 4
    for (int r = first_row; r < first_row + rows_of_part; ++r) {
      const float weight = weight_at(r, part);
      prefix += weight;
      const bool inside = counts(r);
      if constexpr (Reads) {
        const float normaliser = Job::sums ? carried + (before + prefix) : weight;
        const float inverse = normaliser != 0 ? 1.0F / normaliser : 0.0F;
        const float read = inside ? lower_bfloat16(*q_.at(r, channel)) * inverse : 0.0F;
        *q_.at(r, channel) = static_cast<std::uint16_t>(pack_bfloat16(read, 0.0F));
        keep(r, weight, inverse);
      }
      float kappa = 1.0F;
      if constexpr (recurrence::kappa == kappa_of::key) kappa = lower_bfloat16(*k_.at(r, channel));
      if constexpr (recurrence::kappa == kappa_of::complement) {
        kappa = inside ? one_minus_exponential(logit(r)) : 0.0F;
      }
      *k_.at(r, channel) = static_cast<std::uint16_t>(pack_bfloat16(inside ? kappa * weight : 0.0F, 0.0F));
    }
    if constexpr (Job::sums) {
      m = top_;
      z = carried + total;
    } else {
      const float end = weight_at(last_, last_ / rows_of_part);
      gain = end != 0 ? 1.0F / end : 0.0F;
      product *= gain * lower_by_power_of_two(1.0F, -top_);
    }
    return by;
  }

  /// Whether row r counts for this channel.
  __device__ bool counts(int r) const { return r >= start_ && r <= last_ && has_channel() && is_on_[r] != 0; }

  /// What the thread of part p, of this channel, has.
  __device__ static float of_part(float x, int p) {
    return __shfl_sync(~0U, x, static_cast<int>(threadIdx.x) % channels_of_warp + p * channels_of_warp);
  }

 private:
  // Parts keep apart in the banks of the shared memory.
  __device__ float& weight_at(int r, int p) const { return weights_[r * D + (channel + p * 16) % D]; }

  /// The logit of a row that counts. A bad one is remembered, and neutral.
  __device__ float logit(int r) const {
    float x;
    if constexpr (Job::tied) {
      x = lower_bfloat16(*k_.at(r, channel));
    } else {
      x = job_.logit(at_, at_.line.token(first_ + r), own_weight());
    }
    if (Job::bad_logit(x)) {
      atomicMin(bad_token_, static_cast<int>(first_ + r));
      if (recurrence::logits == logits_from::head) atomicOr(job_.bad_content, 1U);
      x = Job::neutral_logit();
    }
    return !Job::sums && x < Job::least_logit ? Job::least_logit : x;
  }

  /// A decay's weight is 1 / (a_start ... a_t): what the parts before this one have of its logarithm.
  __device__ float decayed_before() const {
    float before = 0;
    if constexpr (!Job::sums) {
      float sum = 0;
#pragma unroll 4
      for (int r = first_row; r < first_row + rows_of_part; ++r) sum -= counts(r) ? logit(r) : 0.0F;
#pragma unroll
      for (int p = 0; p < parts; ++p) {
        const float other = of_part(sum, p);
        before += p < part ? other : 0.0F;
      }
    }
    return before;
  }

  __device__ scaled<float> weight_of_row(int r, float& decayed) const {
    if constexpr (Job::sums) {
      return scaled_exponential(counts(r) ? logit(r) : Job::neutral_logit());
    } else {
      decayed -= counts(r) ? logit(r) : 0.0F;
      return scaled_exponential(decayed);
    }
  }

  /// Finds the frame of the run's end; returns how far that is from the first that is not empty, or from what was carried.
  __device__ std::int32_t top_of_run() {
    std::int32_t top = empty_exponent, low = empty_exponent;
    float decayed = decayed_before();
#pragma unroll 4
    for (int r = first_row; r < first_row + rows_of_part; ++r) {
      const std::int32_t n = weight_of_row(r, decayed).exponent;
      low = low == empty_exponent ? n : low;
      top = n > top ? n : top;
    }
#pragma unroll
    for (int offset = channels_of_warp; offset < 32; offset *= 2) {
      const std::int32_t other_top = __shfl_xor_sync(~0U, top, offset), other_low = __shfl_xor_sync(~0U, low, offset);
      const bool earlier = (threadIdx.x & offset) == 0;  // mine come before the other's
      const std::int32_t sooner = earlier ? low : other_low, later = earlier ? other_low : low;
      low = sooner != empty_exponent ? sooner : later;
      top = other_top > top ? other_top : top;
    }
    if (Job::sums && m != empty_exponent) low = m;
    top_ = Job::sums && m > top ? m : top;
    return top_ - (Job::sums ? low : 0);
  }

  const Job& job_;
  const line_of_head& at_;
  const bfloat16_tile q_, k_;
  float* weights_;
  int *is_on_, *bad_token_, *run_end_;
  std::int64_t first_ = 0;
  int start_ = 0, last_ = 0;
  std::int32_t top_ = 0;
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
