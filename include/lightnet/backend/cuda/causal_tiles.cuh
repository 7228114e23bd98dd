// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/mma.cuh>
#include <lightnet/backend/cuda/recurrence_job.cuh>

#include <climits>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Frames within one run of rows stay this close, so that nothing overflows: 64 / ln 2.
inline constexpr std::int32_t widest_run = 92;

/// Which recurrences the matrix instructions take: those whose key is a key or a weight, in bfloat16, without an encoding.
template <class Recurrence, class Position, class T>
inline constexpr bool takes_causal_tiles = std::is_same_v<T, bfloat16> && !Position::encodes &&
                                           Recurrence::weight != weight_of::running_sum && !Recurrence::with_sign;

/// Reads rows [first, first + count) of a line into a tile of `rows` rows and Wide columns; what lies beyond them and the
/// channels is zero. Eight channels at a time where they are aligned to that. Where `bad_column` is given, entries that are
/// no numbers become zero too, and it keeps the first position of each column that has one.
template <int Wide, int Threads, class Job, class Sequence>
__device__ void load_rows(const Job& job, const Sequence& sequence, const line_of_head& at, std::int64_t first,
                          int count, int rows, std::int64_t channels, const bfloat16_tile& to,
                          int* bad_column = nullptr) {
  const std::int64_t stride = sequence.channel_stride();
  for (int n = static_cast<int>(threadIdx.x); n < rows * (Wide / 8); n += Threads) {
    const int r = n / (Wide / 8), c = n % (Wide / 8) * 8;
    std::uint32_t numbers[4] = {};
    if (r < count && c < channels) {
      const std::int64_t token = at.line.token(first + r);
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
          if (job.on(at, token)) atomicMin(bad_column + c + i, static_cast<int>(first + r));
        }
      }
    }
    *reinterpret_cast<uint4*>(to.at(r, c)) = uint4{numbers[0], numbers[1], numbers[2], numbers[3]};
  }
}

/// The memory of a block: factors of 64 tokens and the state before them in bfloat16, and what a channel has.
template <int D, int E>
struct causal_tiles {
  static constexpr int rows = 64, threads = 256, warps = threads / 32;
  static constexpr int parts = threads / D, rows_of_part = rows / parts;  // threads that share a channel
  static constexpr int channels_of_warp = 32 / parts;

  static constexpr int q_bytes = rows * bfloat16_tile::padded(D) * 2;
  static constexpr int v_bytes = rows * bfloat16_tile::padded(E) * 2;
  static constexpr int state_bytes = D * bfloat16_tile::padded(E) * 2 > rows* D * 4 ? D* bfloat16_tile::padded(E) * 2
                                                                                    : rows* D * 4;
  static constexpr int score_bytes = rows * bfloat16_tile::padded(rows) * 2;
  static constexpr int bytes = 2 * q_bytes + v_bytes + state_bytes + score_bytes + (D + E + rows + 4) * 4;
};

/// The forward call of a causal walk on the matrix units, a block a line and head, 64 tokens at a time
/// (arXiv 2405.21022, appendix A.1):
///   o = qhat U + tril(qhat khat^T) V,   U <- 2^(m - f) U + khat^T V,
/// khat = kappa w and qhat = q / Z in the frame f of the last of these tokens, rounded to bfloat16 as U is where it is
/// read; all sums, the normaliser and the state are float. Tokens whose frame climbs too far are taken in several runs.
/// Least traffic a token: 2 d + 2 e numbers, and those of the logits. Tile: 64 tokens, all d and e, in shared memory; the
/// state in registers.
///
/// Without Reads there are no outputs, and a block takes `stretch` tokens of a line: what they add up to.
template <bool Reads, class Job, class Outputs, int D, int E>
__global__ void __launch_bounds__(causal_tiles<D, E>::threads, 2)
    causal_tiles_kernel(Job job, Outputs out, std::int64_t stretches, std::int64_t stretch) {
  using tiles = causal_tiles<D, E>;
  using recurrence = typename Job::recurrence;
  constexpr int rows = tiles::rows;
  constexpr bool vectors = recurrence::kappa == kappa_of::key || Job::tied;  // k is read
  extern __shared__ __align__(16) unsigned char shared_memory[];
  const bfloat16_tile q{reinterpret_cast<std::uint16_t*>(shared_memory), bfloat16_tile::padded(D)};
  const bfloat16_tile k{reinterpret_cast<std::uint16_t*>(shared_memory + tiles::q_bytes), bfloat16_tile::padded(D)};
  const bfloat16_tile v{reinterpret_cast<std::uint16_t*>(shared_memory + 2 * tiles::q_bytes), bfloat16_tile::padded(E)};
  unsigned char* const state_memory = shared_memory + 2 * tiles::q_bytes + tiles::v_bytes;
  const bfloat16_tile state{reinterpret_cast<std::uint16_t*>(state_memory), bfloat16_tile::padded(E)};
  float* const weights = reinterpret_cast<float*>(state_memory);  // [rows, D], before the state is written there
  const bfloat16_tile scores{reinterpret_cast<std::uint16_t*>(state_memory + tiles::state_bytes),
                             bfloat16_tile::padded(rows)};
  float* const rescale = reinterpret_cast<float*>(state_memory + tiles::state_bytes + tiles::score_bytes);  // [D]
  int* const bad_column = reinterpret_cast<int*>(rescale + D);  // [E]: positions, as bad_token
  int* const is_on = bad_column + E;                            // [rows]
  int* const bad_token = is_on + rows;
  int* const run_end = bad_token + 1;

  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const line_of_head at = job.line(blockIdx.x / stretches);
  const std::int64_t begin = blockIdx.x % stretches * stretch, keys = job.from.keys, values = job.from.values;
  const std::int64_t length = at.line.length < begin + stretch ? at.line.length : begin + stretch;

  // The weights: the thread's channel, and which of its tokens.
  const int channel = warp * tiles::channels_of_warp + lane % tiles::channels_of_warp;
  const int part = lane / tiles::channels_of_warp, first_row = part * tiles::rows_of_part;
  const std::int64_t own_weight = Job::per_channel ? channel : 0;
  const bool has_channel = channel < keys;
  constexpr bool empty = Job::sums && !(Reads && recurrence::sink);
  std::int32_t m = empty ? empty_exponent : 0;
  float z = empty ? 0.0F : 1.0F, gain = 1.0F, product = 1.0F;
  if (Reads && job.from.state && has_channel) {
    if constexpr (recurrence::framed) {
      const std::int32_t given = job.from.state.exponent(at.line.sequence, at.head, own_weight);
      m = given <= empty_exponent ? empty_exponent : given;
      z = m == empty_exponent ? 0.0F : job.from.state.normaliser(at.line.sequence, at.head, own_weight);
    } else if (job.from.state.decay) {
      product = job.from.state.decay(at.line.sequence, at.head, own_weight);
    }
  }

  // The state: 16 rows of it for a warp, and some or all columns, as the matrix instruction leaves them.
  constexpr int down = D / 16, across = tiles::warps / down, state_tiles = E / across / 8;
  const int state_row = warp % down * 16, state_column = warp / down * (E / across);
  float u[state_tiles][4];
  const auto each_of_state = [&](const auto& body) {
#pragma unroll
    for (int n = 0; n < state_tiles; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        body(u[n][e], state_row + lane / 4 + e / 2 * 8, state_column + n * 8 + lane % 4 * 2 + e % 2);
      }
    }
  };
  each_of_state([&](float& x, int i, int j) { x = Reads && i < keys && j < values ? job.begin(at, i, j) : 0.0F; });

  for (int n = thread; n < E; n += tiles::threads) bad_column[n] = INT_MAX;
  if (thread == 0) *bad_token = INT_MAX;

  for (std::int64_t first = begin; first < length; first += rows) {
    const int count = static_cast<int>(length - first < rows ? length - first : rows);
    for (int start = 0, last = 0; start < count; start = last + 1) {
      last = count - 1;
      __syncthreads();  // what was read of the last run
      if (thread < rows) is_on[thread] = thread < count && job.on(at, at.line.token(first + thread));
      if constexpr (Reads) load_rows<D, tiles::threads>(job, job.from.q, at, first, count, rows, keys, q);
      if constexpr (vectors) load_rows<D, tiles::threads>(job, job.from.k, at, first, count, rows, keys, k);
      load_rows<E, tiles::threads>(job, job.from.v, at, first, count, rows, values, v, bad_column);
      __syncthreads();

      // The exponents of the weights, row by row of this thread's part of its channel.
      const auto logit = [&](int r) {
        float x;
        if constexpr (Job::tied) {
          x = lower_bfloat16(*k.at(r, channel));
        } else {
          x = job.logit(at, at.line.token(first + r), own_weight);
        }
        if (Job::bad_logit(x)) {
          atomicMin(bad_token, static_cast<int>(first + r));
          if (recurrence::logits == logits_from::head) atomicOr(job.bad_content, 1U);
          x = Job::neutral_logit();
        }
        return !Job::sums && x < Job::least_logit ? Job::least_logit : x;
      };
      const auto counts = [&](int r) { return r >= start && r <= last && has_channel && is_on[r] != 0; };
      // A decay's weight is 1 / (a_start ... a_t); what the parts before this one have of its logarithm.
      const auto decayed_before = [&] {
        float sum = 0;
        if constexpr (!Job::sums) {
#pragma unroll 4
          for (int r = first_row; r < first_row + tiles::rows_of_part; ++r) sum -= counts(r) ? logit(r) : 0.0F;
          float before = 0;
#pragma unroll
          for (int p = 0; p < tiles::parts; ++p) {
            const float other = __shfl_sync(~0U, sum, lane % tiles::channels_of_warp + p * tiles::channels_of_warp);
            before += p < part ? other : 0.0F;
          }
          return before;
        }
        return sum;
      };
      const auto weight_of_row = [&](int r, float& decayed) -> scaled<float> {
        if constexpr (Job::sums) {
          return scaled_exponential(counts(r) ? logit(r) : Job::neutral_logit());
        } else {
          decayed -= counts(r) ? logit(r) : 0.0F;
          return scaled_exponential(decayed);
        }
      };
      std::int32_t top = empty_exponent, low = empty_exponent;  // the largest, and the first that is not empty
      const auto find_top = [&] {
        top = low = empty_exponent;
        float decayed = decayed_before();
#pragma unroll 4
        for (int r = first_row; r < first_row + tiles::rows_of_part; ++r) {
          const std::int32_t n = weight_of_row(r, decayed).exponent;
          low = low == empty_exponent ? n : low;
          top = n > top ? n : top;
        }
#pragma unroll
        for (int offset = tiles::channels_of_warp; offset < 32; offset *= 2) {
          const std::int32_t other_top = __shfl_xor_sync(~0U, top, offset),
                             other_low = __shfl_xor_sync(~0U, low, offset);
          const bool earlier = (lane & offset) == 0;  // mine come before the other's
          const std::int32_t sooner = earlier ? low : other_low, later = earlier ? other_low : low;
          low = sooner != empty_exponent ? sooner : later;
          top = other_top > top ? other_top : top;
        }
        if (Job::sums && m != empty_exponent) low = m;
        if (!Job::sums) low = 0;
        top = Job::sums && m > top ? m : top;
      };
      find_top();
      if (__syncthreads_or(top - low > widest_run)) {
        // A run ends before the first row whose frame is too far from that of its first row.
        if (thread == 0) *run_end = count;
        __syncthreads();
        if (part == 0) {
          std::int32_t frame = Job::sums ? m : 0, begin = empty_exponent;
          float decayed = 0;
          for (int r = start; r < count; ++r) {
            const std::int32_t n = weight_of_row(r, decayed).exponent;
            frame = n > frame ? n : frame;
            begin = begin == empty_exponent ? frame : begin;
            if (frame - begin > widest_run) {
              atomicMin(run_end, r);
              break;
            }
          }
        }
        __syncthreads();
        last = *run_end - 1;
        find_top();
      }

      // The factors in the frame of the run's end.
      const std::int32_t shift = m - top;
      const float by = gain * lower_by_power_of_two(1.0F, shift < -1000000 ? -1000000 : shift);
      const auto weight_at = [&](int r) -> float& { return weights[r * D + (channel + part * 16) % D]; };
      float decayed = decayed_before(), sum = 0;
#pragma unroll 4
      for (int r = first_row; r < first_row + tiles::rows_of_part; ++r) {
        const scaled<float> w = weight_of_row(r, decayed);
        const float weight = lower_by_power_of_two(w.mantissa, w.exponent - top);
        weight_at(r) = weight;
        sum += weight;
      }
      float before = 0, total = 0;
#pragma unroll
      for (int p = 0; p < tiles::parts; ++p) {
        const float other = __shfl_sync(~0U, sum, lane % tiles::channels_of_warp + p * tiles::channels_of_warp);
        before += p < part ? other : 0.0F;
        total += other;
      }
      __syncwarp();
      const float carried = Job::sums ? z * by : 0.0F;
      float prefix = 0;
#pragma unroll 4
      for (int r = first_row; r < first_row + tiles::rows_of_part; ++r) {
        const float weight = weight_at(r);
        prefix += weight;
        const bool inside = counts(r);
        if constexpr (Reads) {
          const float normaliser = Job::sums ? carried + (before + prefix) : weight;
          const float read = inside && normaliser != 0 ? lower_bfloat16(*q.at(r, channel)) / normaliser : 0.0F;
          *q.at(r, channel) = static_cast<std::uint16_t>(pack_bfloat16(read, 0.0F));
        }
        float kappa = 1.0F;
        if constexpr (recurrence::kappa == kappa_of::key) kappa = lower_bfloat16(*k.at(r, channel));
        if constexpr (recurrence::kappa == kappa_of::complement) {
          kappa = inside ? one_minus_exponential(logit(r)) : 0.0F;
        }
        *k.at(r, channel) = static_cast<std::uint16_t>(pack_bfloat16(inside ? kappa * weight : 0.0F, 0.0F));
      }
      if constexpr (Job::sums) {
        m = top;
        z = carried + total;
      } else {
        const int owner = last / tiles::rows_of_part;  // the part that has the run's last row
        const float end = weights[last * D + (channel + owner * 16) % D];
        gain = end != 0 ? 1.0F / end : 0.0F;  // the next run begins in the frame 0, and the state is U / Z there
        product *= gain * lower_by_power_of_two(1.0F, -top);
      }
      if (part == 0) rescale[channel] = by;
      __syncthreads();

      // U in this frame; a copy of it is read.
      each_of_state([&](float& x, int i, int) { x *= rescale[i]; });
      if constexpr (Reads) {
#pragma unroll
        for (int n = 0; n < state_tiles; ++n) {
          const int column = state_column + n * 8 + lane % 4 * 2;
          *reinterpret_cast<std::uint32_t*>(state.at(state_row + lane / 4, column)) = pack_bfloat16(u[n][0], u[n][1]);
          *reinterpret_cast<std::uint32_t*>(state.at(state_row + lane / 4 + 8, column)) =
              pack_bfloat16(u[n][2], u[n][3]);
        }

        // Scores: 16 rows and half of the columns a warp, what lies above the diagonal being zero by selection.
        const int out_row = warp / 2 * 16, score_column = warp % 2 * (rows / 2), out_column = warp % 2 * (E / 2);
        {
          float p[rows / 16][4] = {};
          if (score_column < out_row + 16) {
#pragma unroll
            for (int s = 0; s < D; s += 16) {
              std::uint32_t a[4];
              q.load_left(a, out_row, s);
#pragma unroll
              for (int n = 0; n < rows / 32; ++n) {
                std::uint32_t b[4];
                k.load_right_transposed(b, s, score_column + n * 16);
                multiply_add_matrices(p[2 * n], a, b[0], b[1]);
                multiply_add_matrices(p[2 * n + 1], a, b[2], b[3]);
              }
            }
          }
#pragma unroll
          for (int n = 0; n < rows / 16; ++n) {
            const int column = score_column + n * 8 + lane % 4 * 2, row = out_row + lane / 4;
            *reinterpret_cast<std::uint32_t*>(scores.at(row, column)) =
                pack_bfloat16(column <= row ? p[n][0] : 0.0F, column + 1 <= row ? p[n][1] : 0.0F);
            *reinterpret_cast<std::uint32_t*>(scores.at(row + 8, column)) =
                pack_bfloat16(column <= row + 8 ? p[n][2] : 0.0F, column + 1 <= row + 8 ? p[n][3] : 0.0F);
          }
        }
        __syncthreads();

        float o[E / 16][4] = {};
#pragma unroll
        for (int s = 0; s < D; s += 16) {
          std::uint32_t a[4];
          q.load_left(a, out_row, s);
#pragma unroll
          for (int n = 0; n < E / 32; ++n) {
            std::uint32_t b[4];
            state.load_right(b, s, out_column + n * 16);
            multiply_add_matrices(o[2 * n], a, b[0], b[1]);
            multiply_add_matrices(o[2 * n + 1], a, b[2], b[3]);
          }
        }
#pragma unroll
        for (int s = 0; s < rows; s += 16) {
          if (s < out_row + 16) {
            std::uint32_t a[4];
            scores.load_left(a, out_row, s);
#pragma unroll
            for (int n = 0; n < E / 32; ++n) {
              std::uint32_t b[4];
              v.load_right(b, s, out_column + n * 16);
              multiply_add_matrices(o[2 * n], a, b[0], b[1]);
              multiply_add_matrices(o[2 * n + 1], a, b[2], b[3]);
            }
          }
        }
        const int bad_from = *bad_token;
#pragma unroll
        for (int n = 0; n < E / 16; ++n) {
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            const int row = out_row + lane / 4 + half * 8, column = out_column + n * 8 + lane % 4 * 2;
            if (row < start || row > last) continue;
            const std::int64_t token = at.line.token(first + row);
            const int position = static_cast<int>(first + row);
#pragma unroll
            for (int e = 0; e < 2; ++e) {
              if (column + e >= values) continue;
              const bool bad = position >= bad_from || position >= bad_column[column + e];
              job.store(out.o, at, token, column + e, out.accumulate, bad, o[n][2 * half + e]);
            }
          }
        }
      }
#pragma unroll
      for (int s = 0; s < rows; s += 16) {
        std::uint32_t a[4];
        k.load_left_transposed(a, state_row, s);
#pragma unroll
        for (int n = 0; n < state_tiles / 2; ++n) {
          std::uint32_t b[4];
          v.load_right(b, s, state_column + n * 16);
          multiply_add_matrices(u[2 * n], a, b[0], b[1]);
          multiply_add_matrices(u[2 * n + 1], a, b[2], b[3]);
        }
      }
    }
  }

  __syncthreads();
  if constexpr (Reads) {
    if (!out.state) return;
    if (part == 0) rescale[channel] = gain;
    __syncthreads();
    const bool all_bad = *bad_token < length;
    each_of_state([&](float& x, int i, int j) {
      if (i >= keys || j >= values) return;
      const bool bad = all_bad || bad_column[j] < length;
      out.state.sum(at.line.sequence, at.head, i, j) = bad ? limits<float>::not_a_number : x * rescale[i];
    });
    if (part != 0 || channel >= job.width) return;
    if constexpr (recurrence::framed) {
      out.state.exponent(at.line.sequence, at.head, channel) = m;
      out.state.normaliser(at.line.sequence, at.head, channel) = all_bad ? limits<float>::not_a_number : z;
    } else if (out.state.decay) {
      out.state.decay(at.line.sequence, at.head, channel) = all_bad ? limits<float>::not_a_number : product;
    }
  } else {
    each_of_state([&](float& x, int i, int j) {
      if (i < keys && j < values) out.sum[(blockIdx.x * keys + i) * values + j] = x;
    });
    if (Job::sums && part == 0 && channel < job.width) {
      out.exponent[blockIdx.x * job.width + channel] = m;
      out.normaliser[blockIdx.x * job.width + channel] = z;
    }
    if (thread == 0 && *bad_token != INT_MAX) {
      atomicMin(job.bad_token + at.item, static_cast<unsigned long long>(*bad_token));
    }
    for (int n = thread; n < values; n += tiles::threads) {
      if (bad_column[n] == INT_MAX) continue;
      atomicMin(job.bad_column + at.item * values + n, static_cast<unsigned long long>(bad_column[n]));
    }
  }
}

/// Heads of up to 128 keys and values, on lines that an int counts.
template <class Job>
bool fits_causal_tiles(const Job& job) {
  return job.from.keys <= 128 && job.from.values <= 128 && job.from.lines.longest() < INT_MAX;
}

/// Puts causal_tiles_kernel on the stream, in the smallest of its tiles.
template <bool Reads, class Job, class Outputs>
void run_causal_tiles(execution<cuda>& on, const char* operation, const Job& job, const Outputs& outputs,
                      std::int64_t stretches, std::int64_t stretch) {
  const auto run = [&]<int D, int E>() {
    using tiles = causal_tiles<D, E>;
    launch(on, operation, {job.from.items() * stretches, tiles::threads, static_cast<std::size_t>(tiles::bytes)},
           causal_tiles_kernel<Reads, Job, Outputs, D, E>, job, outputs, stretches, stretch);
  };
  if (job.from.keys <= 64 && job.from.values <= 64) {
    run.template operator()<64, 64>();
  } else {
    run.template operator()<128, 128>();
  }
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
