// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/recurrence_pullback.cuh>
#include <lightnet/backend/cuda/tile_weights.cuh>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Which gradients the matrix units take: of recurrences whose channels have weights of their own.
template <class Recurrence>
inline constexpr bool has_weights_to_pull = Recurrence::per_channel&& Recurrence::kappa != kappa_of::complement;
template <class Recurrence, class Position, class T>
inline constexpr bool takes_pull_tiles = takes_causal_tiles<Recurrence, Position, T>&& has_weights_to_pull<Recurrence>;

/// What the kernels of one gradient hand each other.
struct pull_tiles_memory {
  std::int32_t* exponent;  // [items, chunks, d]: m before every 64 tokens
  float* normaliser;       // [items, chunks, d]: Z then, or 1 / Z of the decays before them
  float* reads;            // [B, H, N, d]: R / Z in the frame of their 64 tokens, or R for a decay
  // [items + 1]: lines that climb too far, or hold what is no number, which are left to the sweeps; whether any is
  unsigned* redo;
  std::int64_t chunks;
};

/// One of the products of a gradient: what it gives the queries (walking forward), the keys or the values (backward).
enum class pulled { queries, keys, values };

/// The memory of a block.
template <int D>
struct pull_tiles {
  static constexpr int rows = 64, threads = 256, warps = threads / 32;
  static constexpr int operand_bytes = rows * bfloat16_tile::padded(D) * 2;
  static constexpr int state_bytes = D * bfloat16_tile::padded(D) * 2 > rows* D * 4 ? D* bfloat16_tile::padded(D) * 2
                                                                                    : rows* D * 4;
  static constexpr int score_bytes = rows * bfloat16_tile::padded(rows) * 2;
  static constexpr int bytes = 4 * operand_bytes + state_bytes + score_bytes + (2 * D + 4) * 4;
};

/// What is carried to every 64 tokens of a line, and whether the line is one for the matrix units. Least traffic a token:
/// d + e numbers, read.
template <class Job, int D>
__global__ void __launch_bounds__(256) keep_tiles_kernel(Job job, pull_tiles_memory memory) {
  using tiles = pull_tiles<D>;
  constexpr int rows = tiles::rows;
  extern __shared__ __align__(16) unsigned char shared_memory[];
  const bfloat16_tile k{reinterpret_cast<std::uint16_t*>(shared_memory), bfloat16_tile::padded(D)};
  const bfloat16_tile v{k.at(rows, 0), bfloat16_tile::padded(D)};
  using weights_type = tile_weights<Job, D>;
  float* const weights = reinterpret_cast<float*>(shared_memory + 2 * tiles::operand_bytes);
  float* const exchange = weights + rows * D;
  int* const bad_column = reinterpret_cast<int*>(exchange + weights_type::exchange_bytes / 4);
  int *const bad_token = bad_column + D, *const run_end = bad_token + 1;
  unsigned* const on_bits = reinterpret_cast<unsigned*>(run_end + 1);
  const int thread = static_cast<int>(threadIdx.x);
  const line_of_head at = job.line(blockIdx.x);
  weights_type factors(job, at, {k, k, weights, exchange, on_bits, bad_token, run_end}, true);
  for (int n = thread; n < D; n += tiles::threads) bad_column[n] = INT_MAX;
  if (thread == 0) *bad_token = INT_MAX;
  for (std::int64_t index = 0, first = 0; first < at.line.length; ++index, first += rows) {
    const int count = static_cast<int>(at.line.length - first < rows ? at.line.length - first : rows);
    __syncthreads();
    factors.tell_on(first, count);
    load_rows<D, rows, tiles::threads>(job, job.from.k, at, first, count, job.from.keys, k);
    load_rows<D, rows, tiles::threads>(job, job.from.v, at, first, count, job.from.values, v);
    wait_for_rows();
    clean_rows<D, rows, tiles::threads>(v, first, bad_column);
    for (int e = 0; e < weights_type::own && factors.part == 0; ++e) {
      if (!factors.has(e)) continue;
      const std::int64_t place = (at.item * memory.chunks + index) * job.width + factors.channel + e;
      memory.exponent[place] = factors.m[e];
      memory.normaliser[place] = Job::sums ? factors.z[e] : factors.gain[e];
    }
    __syncthreads();
    const bool wide = factors.begin(first, 0, count - 1);
    if (__syncthreads_or(wide || *bad_token != INT_MAX || (thread < D && bad_column[thread] != INT_MAX))) {
      if (thread == 0) memory.redo[at.item] = memory.redo[job.from.items()] = 1;
      return;
    }
    float by[weights_type::own];
    factors.template enter<false>(by, [](int, int, float, float) {});
  }
}

/// A product of the gradient on the matrix units, a block a line and head, 64 tokens at a time: in turns with in, out and
/// column, X being the state U^T, or the gradient D^T or D by it,
///   queries:  dqhat = do U^T + tril(do V^T) khat,          U <- by U + khat^T V,
///   keys:     dkhat = V D^T + tril(do V^T)^T qhat,         D <- by D + qhat^T do,
///   values:   dv = khat D + tril(qhat khat^T)^T do,        D <- by D + qhat^T do.
/// From the first two follow dq = dqhat / Z, dkappa = w dkhat and, with R = qhat * dqhat and A = khat * dkhat, those of the
/// logits: A_t - w_t sum_{u >= t} R_u / Z_u or, for a decay, sum_{u >= t} (R_u - A_u). Operands are rounded to bfloat16, sums
/// are float. Least traffic a token: 4 d numbers read and d written. Tile: 64 tokens and all channels in shared memory; X in
/// registers.
template <pulled What, class Job, class Gradients, int D>
__global__ void __launch_bounds__(256, 2) pull_tiles_kernel(Job job, Gradients out, pull_tiles_memory memory) {
  using tiles = pull_tiles<D>;
  using recurrence = typename Job::recurrence;
  constexpr int rows = tiles::rows;
  constexpr bool backwards = What != pulled::queries;
  extern __shared__ __align__(16) unsigned char shared_memory[];
  const line_of_head at = job.line(blockIdx.x);
  if (memory.redo[at.item] != 0) return;
  const auto operand = [&](int n) {
    return bfloat16_tile{reinterpret_cast<std::uint16_t*>(shared_memory + n * tiles::operand_bytes),
                         bfloat16_tile::padded(D)};
  };
  const bfloat16_tile q = operand(0), k = operand(1), v = operand(2), d_o = operand(3);
  unsigned char* const state_memory = shared_memory + 4 * tiles::operand_bytes;
  const bfloat16_tile state{reinterpret_cast<std::uint16_t*>(state_memory), bfloat16_tile::padded(D)};
  float* const numbers = reinterpret_cast<float*>(state_memory);  // [rows, D]: weights, and in the end what comes out
  const bfloat16_tile scores{reinterpret_cast<std::uint16_t*>(state_memory + tiles::state_bytes),
                             bfloat16_tile::padded(rows)};
  float* const rescale = reinterpret_cast<float*>(state_memory + tiles::state_bytes + tiles::score_bytes);
  unsigned* const on_bits = reinterpret_cast<unsigned*>(rescale + D);  // [2]
  int *const bad_token = reinterpret_cast<int*>(on_bits + 2), *const run_end = bad_token + 1;

  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const std::int64_t length = at.line.length, keys = job.from.keys, values = job.from.values;
  const bfloat16_tile in = What == pulled::queries ? v : What == pulled::keys ? d_o : q;
  const bfloat16_tile read = What == pulled::queries ? d_o : What == pulled::keys ? v : k;
  const bfloat16_tile column = What == pulled::queries ? k : What == pulled::keys ? q : d_o;
  using weights_type = tile_weights<Job, D>;
  constexpr int own = weights_type::own;
  static_assert(weights_type::exchange_bytes <= tiles::score_bytes);
  weights_type factors(job, at, {q, k, numbers, reinterpret_cast<float*>(scores.data), on_bits, bad_token, run_end},
                       true);
  const int channel = factors.channel, first_row = factors.first_row;

  constexpr int down = D / 16, across = tiles::warps / down, state_tiles = D / across / 8;
  const int state_row = warp % down * 16, state_column = warp / down * (D / across);
  float x[state_tiles][4];
  const auto each_of_state = [&](const auto& body) {
#pragma unroll
    for (int n = 0; n < state_tiles; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        body(x[n][e], state_row + lane / 4 + e / 2 * 8, state_column + n * 8 + lane % 4 * 2 + e % 2);
      }
    }
  };
  each_of_state([&](float& element, int row, int col) {
    const bool inside = What == pulled::queries && row < values && col < keys;
    element = inside ? job.begin(at, col, row) : 0.0F;
  });

  // Of the channels: the factor of the tokens after these, and r there.
  float later_by[own] = {1.0F, 1.0F}, r_later[own] = {};
  double c_later[own] = {};
  const std::int64_t chunks = (length + rows - 1) / rows;
  for (std::int64_t turn = 0; turn < chunks; ++turn) {
    const std::int64_t index = backwards ? chunks - 1 - turn : turn, first = index * rows;
    const int count = static_cast<int>(length - first < rows ? length - first : rows);
    __syncthreads();  // what was read of the last tokens
    factors.tell_on(first, count);
    load_rows<D, rows, tiles::threads>(job, job.from.q, at, first, count, keys, q);
    load_rows<D, rows, tiles::threads>(job, job.from.k, at, first, count, keys, k);
    load_rows<D, rows, tiles::threads>(job, job.from.v, at, first, count, values, v);
    load_rows<D, rows, tiles::threads>(job, out.o, at, first, count, values, d_o);
    wait_for_rows();
    for (int e = 0; e < own; ++e) {
      if (!factors.has(e)) continue;
      const std::int64_t place = (at.item * memory.chunks + index) * job.width + channel + e;
      factors.m[e] = memory.exponent[place];
      if constexpr (Job::sums) {
        factors.z[e] = memory.normaliser[place];
      } else {
        factors.gain[e] = memory.normaliser[place];
      }
    }
    __syncthreads();
    factors.begin(first, 0, count - 1);
    float weight[weights_type::rows_of_part][own], inverse[weights_type::rows_of_part][own], by[own];
    factors.template enter<true>(by, [&](int i, int e, float w, float of_z) {
      weight[i][e] = w;
      inverse[i][e] = of_z;
    });
    if (factors.part == 0) {
      *reinterpret_cast<float2*>(rescale + channel) =
          backwards ? float2{later_by[0], later_by[1]} : float2{by[0], by[1]};
    }
    for (int e = 0; e < own; ++e) later_by[e] = by[e];
    __syncthreads();

    each_of_state([&](float& element, int row, int col) { element *= rescale[What == pulled::values ? row : col]; });
#pragma unroll
    for (int n = 0; n < state_tiles; ++n) {
      const int col = state_column + n * 8 + lane % 4 * 2;
      *reinterpret_cast<std::uint32_t*>(state.at(state_row + lane / 4, col)) = pack_bfloat16(x[n][0], x[n][1]);
      *reinterpret_cast<std::uint32_t*>(state.at(state_row + lane / 4 + 8, col)) = pack_bfloat16(x[n][2], x[n][3]);
    }

    // Scores: 16 rows and half of the columns a warp; what does not come before, or after, is zero by selection.
    const int out_row = warp / 2 * 16, score_column = warp % 2 * (rows / 2), out_column = warp % 2 * (D / 2);
    {
      float p[rows / 16][4] = {};
      if (backwards ? score_column + rows / 2 > out_row : score_column < out_row + 16) {
#pragma unroll
        for (int s = 0; s < D; s += 16) {
          std::uint32_t a[4];
          read.load_left(a, out_row, s);
#pragma unroll
          for (int n = 0; n < rows / 32; ++n) {
            std::uint32_t b[4];
            in.load_right_transposed(b, s, score_column + n * 16);
            multiply_add_matrices(p[2 * n], a, b[0], b[1]);
            multiply_add_matrices(p[2 * n + 1], a, b[2], b[3]);
          }
        }
      }
#pragma unroll
      for (int n = 0; n < rows / 16; ++n) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int col = score_column + n * 8 + lane % 4 * 2, row = out_row + lane / 4 + half * 8;
          const auto selected = [&](int e) {
            return (backwards ? col + e >= row : col + e <= row) ? p[n][2 * half + e] : 0.0F;
          };
          *reinterpret_cast<std::uint32_t*>(scores.at(row, col)) = pack_bfloat16(selected(0), selected(1));
        }
      }
    }
    __syncthreads();

    float y[D / 16][4] = {};
#pragma unroll
    for (int s = 0; s < D; s += 16) {
      std::uint32_t a[4];
      read.load_left(a, out_row, s);
#pragma unroll
      for (int n = 0; n < D / 32; ++n) {
        std::uint32_t b[4];
        state.load_right(b, s, out_column + n * 16);
        multiply_add_matrices(y[2 * n], a, b[0], b[1]);
        multiply_add_matrices(y[2 * n + 1], a, b[2], b[3]);
      }
    }
#pragma unroll
    for (int s = 0; s < rows; s += 16) {
      if (backwards ? s + 16 > out_row : s < out_row + 16) {
        std::uint32_t a[4];
        scores.load_left(a, out_row, s);
#pragma unroll
        for (int n = 0; n < D / 32; ++n) {
          std::uint32_t b[4];
          column.load_right(b, s, out_column + n * 16);
          multiply_add_matrices(y[2 * n], a, b[0], b[1]);
          multiply_add_matrices(y[2 * n + 1], a, b[2], b[3]);
        }
      }
    }
    if constexpr (What == pulled::values) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = out_row + lane / 4 + half * 8;
        if (row >= count) continue;
        auto* const to = out.v.token(at.line.batch, at.head, at.line.token(first + row));
#pragma unroll
        for (int n = 0; n < D / 16; ++n) {
          store_two(to, out.v.channel_stride(), out_column + n * 8 + lane % 4 * 2, values, out.accumulate,
                    factors.is_on(row) ? y[n][2 * half] : 0.0F, factors.is_on(row) ? y[n][2 * half + 1] : 0.0F);
        }
      }
    } else {
      __syncthreads();  // X has been read: what comes out takes the place of its copy
#pragma unroll
      for (int n = 0; n < D / 16; ++n) {
        float* const to = numbers + (out_row + lane / 4) * D + out_column + n * 8 + lane % 4 * 2;
        *reinterpret_cast<float2*>(to) = float2{y[n][0], y[n][1]};
        *reinterpret_cast<float2*>(to + 8 * D) = float2{y[n][2], y[n][3]};
      }
    }
#pragma unroll
    for (int s = 0; s < rows; s += 16) {
      std::uint32_t a[4];
      in.load_left_transposed(a, state_row, s);
#pragma unroll
      for (int n = 0; n < state_tiles / 2; ++n) {
        std::uint32_t b[4];
        column.load_right(b, s, state_column + n * 16);
        multiply_add_matrices(x[2 * n], a, b[0], b[1]);
        multiply_add_matrices(x[2 * n + 1], a, b[2], b[3]);
      }
    }
    if constexpr (What == pulled::values) continue;
    __syncthreads();

    const auto each_row = [&](const auto& body) {
      for (int i = weights_type::rows_of_part; i-- > 0;) {
        const int r = first_row + i;
        if (r >= count || channel >= keys) continue;
        const float2 pair = *reinterpret_cast<const float2*>(numbers + r * D + channel);
        body(r, i, at.line.token(first + r), pair);
      }
    };
    if constexpr (What == pulled::queries) {
      each_row([&](int r, int i, std::int64_t token, const float2& dqhat_of) {
        const float dqhat[own] = {dqhat_of.x, dqhat_of.y};
        float query[own], dq[own];
        factors.two_of(q, r, query);
        for (int e = 0; e < own; ++e) {
          dq[e] = factors.is_on(r) ? dqhat[e] * inverse[i][e] : 0.0F;
          if (factors.has(e)) {
            memory.reads[job.place(at, token, channel + e)] = query[e] * dqhat[e] * (Job::sums ? inverse[i][e] : 1.0F);
          }
        }
        if (!out.q) return;
        store_two(out.q.token(at.line.batch, at.head, token), out.q.channel_stride(), channel, keys, out.accumulate,
                  dq[0], dq[1]);
      });
    } else if constexpr (What == pulled::keys) {
      // The terms that are summed from the end of the line to its start: those of the parts after this one come first.
      const auto term = [&](std::int64_t token, int e, float key, float dkhat) {
        const float reads = factors.has(e) ? memory.reads[job.place(at, token, channel + e)] : 0.0F;
        return Job::sums ? reads : reads - key * dkhat;
      };
      float own_sum[own] = {}, sum[own] = {}, total[own] = {};
      each_row([&](int r, int, std::int64_t token, const float2& dkhat_of) {
        const float dkhat[own] = {dkhat_of.x, dkhat_of.y};
        float key[own];
        factors.two_of(k, r, key);
        for (int e = 0; e < own; ++e) own_sum[e] += term(token, e, key[e], dkhat[e]);
      });
      factors.exchange(own_sum, [&](int p, int e, float other) {
        sum[e] += p > factors.part ? other : 0.0F;
        total[e] += other;
      });
      each_row([&](int r, int i, std::int64_t token, const float2& dkhat_of) {
        const float dkhat[own] = {dkhat_of.x, dkhat_of.y};
        float key[own], gradient[own], dkappa[own];
        factors.two_of(k, r, key);
        const bool on = factors.is_on(r);
        for (int e = 0; e < own; ++e) {
          sum[e] += term(token, e, key[e], dkhat[e]);
          dkappa[e] = on ? dkhat[e] * weight[i][e] : 0.0F;
          if constexpr (Job::sums) {
            const float w = Job::tied ? key[e] : weight[i][e];
            gradient[e] = key[e] * dkhat[e] - w * (r_later[e] + sum[e]);
          } else {
            gradient[e] = static_cast<float>(c_later[e] + static_cast<double>(sum[e]));
            // What does not depend on the state before has no gradient.
            if (on && factors.has(e) && job.logit(at, token, channel + e) <= Job::least_logit) gradient[e] = 0;
          }
          gradient[e] = on ? gradient[e] : 0.0F;
        }
        const auto store = [&](const auto& to, float a, float b) {
          if (!to) return;
          store_two(to.token(at.line.batch, at.head, token), to.channel_stride(), channel, keys, out.accumulate, a, b);
        };
        if constexpr (recurrence::kappa == kappa_of::key) store(out.k, dkappa[0], dkappa[1]);
        if constexpr (Job::tied) store(out.k, gradient[0], gradient[1]);
        if constexpr (recurrence::logits == logits_from::tokens) store(out.logits, gradient[0], gradient[1]);
      });
      for (int e = 0; e < own; ++e) {
        r_later[e] = (r_later[e] + total[e]) * by[e];
        c_later[e] += static_cast<double>(total[e]);
      }
    }
  }
}

/// The gradients on the matrix units, of heads of up to 128 keys and values and without those of a state. Gives the lines
/// that are left over.
template <class Job, class Gradients>
const unsigned* run_pull_tiles(execution<cuda>& on, execution<cuda>::scope& scratch, const char* operation, Job job,
                               const Gradients& gradients) {
  const auto& from = job.from;
  take_line_memory(on, scratch, operation, job);
  const std::int64_t items = from.items(), chunks = (from.lines.longest() + 63) / 64;
  const std::int64_t all = from.lines.batch * from.heads * job.tokens * job.width;
  const pull_tiles_memory memory{scratch.take<std::int32_t>(items * chunks * job.width),
                                 scratch.take<float>(items * chunks * job.width), scratch.take<float>(all),
                                 scratch.take<unsigned>(items + 1), chunks};
  check_cuda(operation, "cudaMemsetAsync",
             cudaMemsetAsync(memory.redo, 0, static_cast<std::size_t>(items + 1) * sizeof(unsigned), on.stream()));
  const auto run = [&]<int D>() {
    using tiles = pull_tiles<D>;
    const launch_shape shape{items, tiles::threads, static_cast<std::size_t>(tiles::bytes)};
    const std::size_t kept_bytes =
        2 * tiles::operand_bytes + tiles::rows * D * 4 + tile_weights<Job, D>::exchange_bytes + (D + 4) * 4;
    launch(on, operation, {items, tiles::threads, kept_bytes}, keep_tiles_kernel<Job, D>, job, memory);
    launch(on, operation, shape, pull_tiles_kernel<pulled::queries, Job, Gradients, D>, job, gradients, memory);
    launch(on, operation, shape, pull_tiles_kernel<pulled::keys, Job, Gradients, D>, job, gradients, memory);
    if (gradients.v) {
      launch(on, operation, shape, pull_tiles_kernel<pulled::values, Job, Gradients, D>, job, gradients, memory);
    }
  };
  if (from.keys <= 64 && from.values <= 64) {
    run.template operator()<64>();
  } else {
    run.template operator()<128>();
  }
  return memory.redo;
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
