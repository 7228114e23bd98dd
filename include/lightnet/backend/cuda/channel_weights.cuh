// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/recurrence_job.cuh>
#include <lightnet/backend/cuda/tile_exponential.cuh>
#include <lightnet/backend/cuda/warpgroup.cuh>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Rows of floats in shared memory.
struct float_rows {
  float* data;
  int stride;

  __device__ float& at(int row, int column) const { return data[row * stride + column]; }
};

/// Which factors of a tile are written: khat, qhat, and in rows of their own 1 / Z or the weights.
struct factors_wanted {
  bool keys = false, queries = false, inverses = false, weights = false;
};

/// The factors of one channel for 64 tokens of a line and head, in the frame of the last of them, and what is carried from
/// there to the next. A thread a channel, whole warps of them; tokens of the 64 that do not count come out as zero.
template <class Job>
class channel_weights {
 public:
  using recurrence = typename Job::recurrence;
  static constexpr int rows = 64;

  std::int32_t m;          // the frame of what is carried
  float z, gain, product;  // its normaliser; 1 / Z of a decay, which goes on in the frame 0; all decays
  const std::int64_t channel;

  /// From the initial state, or from nothing. `bad_token`, shared, keeps the first position whose logit is bad.
  __device__ channel_weights(const Job& job, const line_of_head& at, std::int64_t own_channel, int* bad_token,
                             bool from_state)
      : channel{own_channel}, job_{job}, at_{at}, bad_token_{bad_token} {
    const bool empty = Job::sums && !(from_state && recurrence::sink);
    m = empty ? empty_exponent : 0;
    z = empty ? 0.0F : 1.0F;
    gain = product = 1.0F;
    if (!from_state || !job.from.state || !has()) return;
    if constexpr (recurrence::framed) {
      const std::int32_t given = job.from.state.exponent(at.line.sequence, at.head, own_weight());
      m = given <= empty_exponent ? empty_exponent : given;
      z = m == empty_exponent ? 0.0F : job.from.state.normaliser(at.line.sequence, at.head, own_weight());
    } else if (job.from.state.decay) {
      product = job.from.state.decay(at.line.sequence, at.head, own_weight());
    }
  }

  __device__ bool has() const { return channel < job_.from.keys; }

  /// Goes to the tokens from `first` on, of which those in the bits of `counted` count. Returns how far their frame climbs.
  __device__ std::int32_t begin(const swizzled_tile<rows>& keys, std::int64_t first, std::uint64_t counted) {
    keys_ = keys;
    first_ = first;
    counted_ = counted;
    plain_ = false;
    const bool all = counted == ~std::uint64_t{0} && has() && (m == empty_exponent || z > 0);
    if (__all_sync(~0U, all)) {
      bool odd = false;
      const std::int32_t climb = find_top<true>(odd);
      plain_ = !__any_sync(~0U, odd);
      if (plain_) return climb;
    }
    bool odd = false;
    return find_top<false>(odd);
  }

  /// The first row at or after `start` whose frame is too far from that of `start`, or `end`. For `begin` to go on with.
  __device__ int first_wide(int start, int end) const {
    std::int32_t frame = Job::sums ? m : 0, low = empty_exponent;
    float decayed = 0;
    for (int r = start; r < end; ++r) {
      const std::int32_t n = power_of<false>(checked_logit(r), decayed).exponent();
      frame = n > frame ? n : frame;
      low = low == empty_exponent ? frame : low;
      if (frame - low > widest_run) return r;
    }
    return end;
  }

  /// Works the factors out and carries m and Z on: What says which are written, khat and qhat in the place of the keys and
  /// the queries. Returns the factor that takes what was carried to this frame.
  template <factors_wanted What>
  __device__ float enter(const swizzled_tile<rows>& queries, const float_rows& extra) {
    return plain_ ? enter<What, true>(queries, extra) : enter<What, false>(queries, extra);
  }

  /// The number of the weight in a state.
  __device__ std::int64_t own_weight() const { return Job::per_channel ? channel : 0; }

 private:
  __device__ bool counts(int r) const { return (counted_ >> r & 1U) != 0; }

  __device__ float logit(int r) const {
    if constexpr (Job::tied) {
      return from_bits(*keys_.at(r, static_cast<int>(channel)));
    } else {
      return job_.logit(at_, at_.line.token(first_ + r), own_weight());
    }
  }
  /// Neutral where it does not count, or is bad; `begin` remembers a bad one.
  template <bool Remembers = false>
  __device__ float checked_logit(int r) const {
    const float neutral = Job::neutral_logit();
    if (!counts(r) || !has()) return neutral;
    const float x = logit(r);
    if (Job::bad_logit(x)) {
      if constexpr (Remembers) {
        atomicMin(bad_token_, static_cast<int>(first_ + r));
        if (recurrence::logits == logits_from::head) atomicOr(job_.bad_content, 1U);
      }
      return neutral;
    }
    return !Job::sums && x < Job::least_logit ? Job::least_logit : x;
  }

  /// kappa, 0 where the token does not count.
  template <bool Plain>
  __device__ float kappa(int r) const {
    if constexpr (recurrence::kappa == kappa_of::key) return from_bits(*keys_.at(r, static_cast<int>(channel)));
    if constexpr (recurrence::kappa == kappa_of::complement) {
      return Plain || (counts(r) && has()) ? job_.kappa(at_, at_.line.token(first_ + r), channel) : 0.0F;
    }
    return 1.0F;
  }

  /// The weight: e^x, or for a decay 1 / (a_start ... a_t).
  template <bool Plain>
  __device__ static tile_exponential power_of(float x, float& decayed) {
    if constexpr (!Job::sums) x = decayed -= x;
    return tile_exponential::of<Plain>(x);
  }

  template <bool Plain>
  __device__ std::int32_t find_top(bool& odd) {
    constexpr float widest = 1e6F;
    std::int32_t low = empty_exponent;
    if constexpr (Job::sums) {
      float high = -limits<float>::infinity;
#pragma unroll 16
      for (int r = 0; r < rows; ++r) {
        const float x = Plain ? logit(r) : checked_logit<true>(r);
        high = fmaxf(high, x);
        if constexpr (Plain) {
          odd = odd || !(fabsf(x) < widest);
          if (r == 0) low = tile_exponential::of<Plain>(x).exponent();
        } else {
          if (low == empty_exponent) low = tile_exponential::of<Plain>(x).exponent();
        }
      }
      const std::int32_t top = tile_exponential::of<false>(high).exponent();
      if (m != empty_exponent) low = m;
      top_ = m > top ? m : top;
      return top_ - low;
    } else {
      float decayed = 0;
#pragma unroll 16
      for (int r = 0; r < rows; ++r) {
        const float x = Plain ? logit(r) : checked_logit<true>(r);
        if constexpr (Plain) odd = odd || !(x <= 0 && x >= Job::least_logit);
        decayed -= x;
      }
      top_ = tile_exponential::of<false>(decayed).exponent();
      return top_;
    }
  }

  template <factors_wanted What, bool Plain>
  __device__ float enter(const swizzled_tile<rows>& queries, const float_rows& extra) {
    const std::int32_t shift = m - top_;
    const float by = gain * lower_by_power_of_two(1.0F, shift < -1000000 ? -1000000 : shift);
    const float carried = Job::sums ? z * by : 0.0F;
    const int column = static_cast<int>(channel);
    float sum = 0, decayed = 0, weight = 0;
    constexpr int ahead = 16;  // rows that are read before any of them is written
#pragma unroll 1
    for (int r0 = 0; r0 < rows; r0 += ahead) {
      float x[ahead], key[ahead], query[ahead], other[ahead];
#pragma unroll
      for (int i = 0; i < ahead; ++i) {
        x[i] = Plain ? logit(r0 + i) : checked_logit(r0 + i);
        if constexpr (What.keys) key[i] = kappa<Plain>(r0 + i);
        if constexpr (What.queries) query[i] = from_bits(*queries.at(r0 + i, column));
      }
#pragma unroll
      for (int i = 0; i < ahead; ++i) {
        weight = power_of<Plain>(x[i], decayed).template in_frame<Plain>(top_);
        sum += weight;
        if constexpr (What.keys) key[i] *= weight;
        if constexpr (What.weights) other[i] = weight;
        if constexpr (What.queries) {
          const float normaliser = Job::sums ? carried + sum : weight;
          const float inverse = Plain || normaliser != 0 ? tile_reciprocal(normaliser) : 0.0F;
          query[i] *= inverse;
          if constexpr (What.inverses) other[i] = inverse;
        }
      }
#pragma unroll
      for (int i = 0; i < ahead; ++i) {
        const bool inside = Plain || (counts(r0 + i) && has());
        const auto write = [&](const swizzled_tile<rows>& to, float y) {
          *to.at(r0 + i, column) = inside ? to_bits(y) : 0;
        };
        if constexpr (What.keys) write(keys_, key[i]);
        if constexpr (What.queries) write(queries, query[i]);
        if constexpr (What.inverses || What.weights) extra.at(r0 + i, column) = inside ? other[i] : 0.0F;
      }
    }
    if constexpr (Job::sums) {
      m = top_;
      z = carried + sum;
    } else {
      gain = weight != 0 ? 1.0F / weight : 0.0F;
      product *= gain * lower_by_power_of_two(1.0F, -top_);
    }
    return by;
  }

  __device__ static float from_bits(std::uint16_t bits) {
    return __uint_as_float(static_cast<std::uint32_t>(bits) << 16);
  }
  __device__ static std::uint16_t to_bits(float x) { return static_cast<std::uint16_t>(pack_bfloat16(x, 0.0F)); }

  const Job& job_;
  const line_of_head& at_;
  int* const bad_token_;
  swizzled_tile<rows> keys_{};
  std::int64_t first_ = 0;
  std::uint64_t counted_ = 0;
  std::int32_t top_ = 0;
  bool plain_ = false;
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
