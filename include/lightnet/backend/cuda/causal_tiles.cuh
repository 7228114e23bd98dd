// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/line_stretches.cuh>
#include <lightnet/backend/cuda/tile_weights.cuh>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// The memory of a block: factors of 64 tokens and the state before them in bfloat16, and what a channel has.
template <int D, int E>
struct causal_tiles {
  static constexpr int rows = 64, threads = 256, warps = threads / 32;

  static constexpr int q_bytes = rows * bfloat16_tile::padded(D) * 2;
  static constexpr int v_bytes = rows * bfloat16_tile::padded(E) * 2;
  static constexpr int state_bytes = D * bfloat16_tile::padded(E) * 2 > rows* D * 4 ? D* bfloat16_tile::padded(E) * 2
                                                                                    : rows* D * 4;
  static constexpr int score_bytes = rows * bfloat16_tile::padded(rows) * 2;
  static constexpr int bytes = 2 * q_bytes + v_bytes + state_bytes + score_bytes + (D + E + 4) * 4;
};

/// The forward call of a causal walk on the matrix units, a block a line and head, 64 tokens at a time
/// (arXiv 2405.21022, appendix A.1):
///   o = qhat U + tril(qhat khat^T) V,   U <- 2^(m - f) U + khat^T V,
/// khat = kappa w and qhat = q / Z in the frame f of the last of these tokens, rounded to bfloat16 as U is where it is
/// read; all sums, the normaliser and the state are float. Tokens whose frame climbs too far are taken in several runs.
/// Least traffic a token: 2 d + 2 e numbers, and those of the logits. Tile: 64 tokens, all d and e, in shared memory; the
/// state in registers.
///
/// Without Reads there are no outputs, but what the tokens of a stretch add up to.
template <bool Reads, class Job, class Outputs, int D, int E>
__global__ void __launch_bounds__(causal_tiles<D, E>::threads, 2)
    causal_tiles_kernel(Job job, Outputs out, line_stretches stretches) {
  using tiles = causal_tiles<D, E>;
  using recurrence = typename Job::recurrence;
  constexpr int rows = tiles::rows;
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
  int* const bad_column = reinterpret_cast<int*>(rescale + D);            // [E]: positions, as bad_token
  unsigned* const on_bits = reinterpret_cast<unsigned*>(bad_column + E);  // [2]
  int *const bad_token = bad_column + E + 2, *const run_end = bad_token + 1;

  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const std::int64_t keys = job.from.keys, values = job.from.values;
  const walked_line walked = walked_line_of_block<Reads>(job, stretches);
  if (!walked.exists) return;
  const line_of_head& at = walked.at;
  const std::int64_t begin = walked.begin, length = walked.length;

  using weights_type = tile_weights<Job, D>;
  static_assert(weights_type::exchange_bytes <= tiles::score_bytes);
  weights_type factors(job, at, {q, k, weights, reinterpret_cast<float*>(scores.data), on_bits, bad_token, run_end},
                       Reads);

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

  const bad_before<Job> known{job, at, Reads};
  for (int n = thread; n < E; n += tiles::threads) bad_column[n] = known.column(n);
  if (thread == 0) *bad_token = known.token();

  for (std::int64_t first = begin; first < length; first += rows) {
    const int count = static_cast<int>(length - first < rows ? length - first : rows);
    for (int start = 0, last = 0; start < count; start = last + 1) {
      last = count - 1;
      __syncthreads();  // what was read of the last run
      factors.tell_on(first, count);
      if constexpr (Reads) load_rows<D, rows, tiles::threads>(job, job.from.q, at, first, count, keys, q);
      if constexpr (weights_type::reads_keys) {
        load_rows<D, rows, tiles::threads>(job, job.from.k, at, first, count, keys, k);
      }
      load_rows<E, rows, tiles::threads>(job, job.from.v, at, first, count, values, v);
      wait_for_rows();
      clean_rows<E, rows, tiles::threads>(v, first, bad_column);
      __syncthreads();

      if (__syncthreads_or(factors.begin(first, start, last))) last = factors.cut();
      float by[weights_type::own];
      factors.template enter<Reads>(by, [](int, int, float, float) {});
      if (factors.part == 0) *reinterpret_cast<float2*>(rescale + factors.channel) = float2{by[0], by[1]};
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
        for (int half = 0; half < 2; ++half) {
          const int row = out_row + lane / 4 + half * 8, position = static_cast<int>(first) + row;
          if (row < start || row > last) continue;
          auto* const to = out.o.token(at.line.batch, at.head, at.line.token(first + row));
          const bool on = factors.is_on(row), row_bad = position >= bad_from;
#pragma unroll
          for (int n = 0; n < E / 16; ++n) {
            const int column = out_column + n * 8 + lane % 4 * 2;
            const auto written = [&](int e) {
              const bool bad = row_bad || position >= bad_column[column + e];
              return !on ? 0.0F : bad ? limits<float>::not_a_number : o[n][2 * half + e];
            };
            store_two(to, out.o.channel_stride(), column, values, out.accumulate, written(0), written(1));
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
  if (factors.part == 0) {
    *reinterpret_cast<float2*>(rescale + factors.channel) = float2{factors.gain[0], factors.gain[1]};
  }
  __syncthreads();
  if constexpr (Reads) {
    if (!out.state || !walked.ends) return;
    const bool all_bad = *bad_token < length;
    each_of_state([&](float& x, int i, int j) {
      if (i >= keys || j >= values) return;
      const bool bad = all_bad || bad_column[j] < length;
      out.state.sum(at.line.sequence, at.head, i, j) = bad ? limits<float>::not_a_number : x * rescale[i];
    });
    for (int e = 0; e < weights_type::own && factors.part == 0; ++e) {
      const std::int64_t w = factors.channel + e;
      if (w >= job.width) continue;
      const float nan = limits<float>::not_a_number;
      if constexpr (recurrence::framed) {
        out.state.exponent(at.line.sequence, at.head, w) = final_exponent(factors.m[e], all_bad);
        out.state.normaliser(at.line.sequence, at.head, w) = all_bad ? nan : factors.z[e];
      } else if (out.state.decay) {
        out.state.decay(at.line.sequence, at.head, w) = all_bad ? nan : factors.product[e];
      }
    }
  } else {
    each_of_state([&](float& x, int i, int j) {
      if (i < keys && j < values) out.sum[(walked.place * keys + i) * values + j] = x * rescale[i];
    });
    for (int e = 0; e < weights_type::own && factors.part == 0; ++e) {
      if (factors.channel + e >= job.width) continue;
      const std::int64_t place = walked.place * job.width + factors.channel + e;
      if constexpr (Job::sums) out.exponent[place] = factors.m[e];
      out.normaliser[place] = Job::sums ? factors.z[e] : factors.product[e];
    }
    for (int n = thread; n < values; n += tiles::threads) tell_bad_column(job, at, n, bad_column[n]);
    if (thread == 0) tell_bad_token(job, at, *bad_token);
  }
}

/// Heads of up to 128 keys and values, some of each, on lines that an int counts.
template <class Job>
bool fits_causal_tiles(const Job& job) {
  return job.from.keys > 0 && job.from.keys <= 128 && job.from.values > 0 && job.from.values <= 128 &&
         job.from.lines.longest() < INT_MAX;
}

/// Puts causal_tiles_kernel on the stream, in the smallest of its tiles.
template <bool Reads, class Job, class Outputs>
void run_causal_tiles(execution<cuda>& on, const char* operation, const Job& job, const Outputs& outputs,
                      const line_stretches& stretches) {
  const auto run = [&]<int D, int E>() {
    using tiles = causal_tiles<D, E>;
    launch(on, operation,
           {job.from.items() * stretches.blocks_of_line, tiles::threads, static_cast<std::size_t>(tiles::bytes)},
           causal_tiles_kernel<Reads, Job, Outputs, D, E>, job, outputs, stretches);
  };
  if (job.from.keys <= 64 && job.from.values <= 64) {
    run.template operator()<64, 64>();
  } else {
    run.template operator()<128, 128>();
  }
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
