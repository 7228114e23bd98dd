// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/launch.cuh>
#include <lightnet/backend/cuda/mma.cuh>
#include <lightnet/backend/cuda/recurrence_job.cuh>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// How a sweep on the matrix units is laid over the warps. A warp has 16 columns of the state and up to 128 of its rows;
/// where that does not hold all rows, `groups` warps do. A block has all rows and some of the columns.
struct tile_sweep_layout {
  static constexpr int columns_of_warp = 16, rows_of_warp = 128, most_warps = 4, most_tokens = 32;
  static constexpr int most_rows = most_warps * rows_of_warp;

  std::int64_t rows, columns, blocks_of_item;
  bool keeps_rows;  // the factors go with the rows
  int groups, warps;
  int tokens;  // of a tile

  /// For so many items. Few items are spread over more blocks, but where factors go with the columns: those of a block end
  /// its tiles, and bits must not depend on the number of items.
  static tile_sweep_layout of(std::int64_t rows, std::int64_t columns, bool keeps_rows, std::int64_t items,
                              int processors) {
    const auto groups = static_cast<int>((rows + rows_of_warp - 1) / rows_of_warp);
    tile_sweep_layout l{rows, columns, 0, keeps_rows, groups > 0 ? groups : 1, 1, most_tokens};
    if (l.groups > 1) l.tokens = most_tokens / 2;                                   // what shared memory holds
    const std::int64_t across = (columns + columns_of_warp - 1) / columns_of_warp;  // warps that hold all columns
    std::int64_t most = most_warps / l.groups > 0 ? most_warps / l.groups : 1;
    while (keeps_rows && most > 1 && items * ((across + most - 1) / most) < 2 * processors) most /= 2;
    const std::int64_t own = across < most ? across : most;
    l.warps = static_cast<int>(own > 0 ? own : 1) * l.groups;
    l.blocks_of_item = own > 0 ? (across + own - 1) / own : 0;
    return l;
  }
  LIGHTNET_HOST_DEVICE int columns_of_block() const { return warps / groups * columns_of_warp; }
  /// Numbers from a row of a tile to the next, so that lanes of four rows meet in no bank.
  LIGHTNET_HOST_DEVICE static int stride(std::int64_t extent) { return static_cast<int>((extent + 31) / 32 * 32 + 8); }
  LIGHTNET_HOST_DEVICE int row_stride() const { return stride(rows); }
  LIGHTNET_HOST_DEVICE int column_stride() const { return stride(columns_of_block()); }
  LIGHTNET_HOST_DEVICE int keep_stride() const { return keeps_rows ? row_stride() : column_stride(); }
  LIGHTNET_HOST_DEVICE int score_stride() const { return tokens + 4; }
  /// Rows that go in and out, factors along either side, the columns that go in, what comes out of every group, and the
  /// scores; and of every column where it is bad from.
  std::size_t shared_bytes() const {
    const int of_token = 2 * row_stride() + keep_stride() + (1 + groups) * column_stride() + score_stride();
    return sizeof(float) * static_cast<std::size_t>(tokens * of_token) +
           sizeof(unsigned long long) * static_cast<std::size_t>(columns_of_block());
  }
};

/// A sweep (sweep.cuh) in floats, 32 tokens at a time on the matrix units: with P_t the product of the factors a from the
/// second of these tokens to t,
///   y_t = (P_t X)^T out_t + sum_{s <= t} (out_t P_t / P_s in_s) b_s,   X <- P_end (X + sum_s in_s / P_s b_s^T),
/// the factors going with the rows or with the columns, along whichever side they lie. Tokens from where some P_t falls
/// below 2^-60 wait for the next tile, which reads them again: numbers below 2^60 do not overflow. What of b is no number
/// counts as zero, and makes its column NaN from there on by selection. Least traffic: what the source reads, once for each
/// block of columns, and y. Tile: 32 tokens, all rows and the block's columns, in shared memory; X^T in registers, as the
/// matrix instruction both leaves and reads it.
template <class Source>
__global__ void __launch_bounds__(32 * tile_sweep_layout::most_warps, 3)
    tile_sweep_kernel(Source source, tile_sweep_layout layout) {
  using shape = tile_sweep_layout;
  constexpr int steps = shape::rows_of_warp / 8, token_steps = shape::most_tokens / 8;
  constexpr float least_product = 0x1p-60F;
  extern __shared__ __align__(16) unsigned char shared_memory[];
  __shared__ int run_end;
  const int row_stride = layout.row_stride(), column_stride = layout.column_stride();
  const int keep_stride = layout.keep_stride(), score_stride = layout.score_stride();
  const int across = layout.columns_of_block();
  auto* const bad_from = reinterpret_cast<unsigned long long*>(shared_memory);  // [columns]: positions
  float* const in = reinterpret_cast<float*>(bad_from + across);                // [tokens, rows]
  float* const out = in + layout.tokens * row_stride;                           // [tokens, rows]
  float* const keep = out + layout.tokens * row_stride;                         // [tokens, rows or columns]: a, then P
  float* const columns = keep + layout.tokens * keep_stride;                    // [tokens, columns]
  float* const results = columns + layout.tokens * column_stride;               // [groups, tokens, columns]
  float* const scores = results + layout.groups * layout.tokens * column_stride;  // [tokens, tokens]

  // The compiler has to see that whole warps go one way.
  const int warp = __shfl_sync(~0U, static_cast<int>(threadIdx.x) / 32, 0), lane = static_cast<int>(threadIdx.x) % 32;
  const int quad = lane / 4, pair = lane % 4;  // as the matrix instruction counts rows and columns
  const int group = warp % layout.groups, own_column = warp / layout.groups * shape::columns_of_warp;
  const int own_row = group * shape::rows_of_warp;
  const int rows = static_cast<int>(layout.rows), padded_rows = (rows + 7) / 8 * 8;
  const line_of_head at = source.line(blockIdx.x / layout.blocks_of_item);
  if (at.left_alone) return;
  const int first_column = static_cast<int>(blockIdx.x % layout.blocks_of_item) * across;
  const int own_columns = static_cast<int>(layout.columns);
  const std::int64_t length = at.line.length;
  const int kept = Source::keeps_rows ? rows : across, widest = padded_rows > across ? padded_rows : across;
  constexpr int at_once = 4;  // numbers of each kind that a lane has on their way

  // Element e of x[n] is X[row(n, e), column(e)].
  float x[steps][4];
  const auto row_of = [&](int n, int e) { return own_row + n * 8 + pair * 2 + e % 2; };
  const auto column_of = [&](int e) { return own_column + quad + e / 2 * 8; };
  const auto each_of_state = [&](const auto& body) {
#pragma unroll
    for (int n = 0; n < steps; ++n) {
      if (own_row + n * 8 >= rows) break;
#pragma unroll
      for (int e = 0; e < 4; ++e) body(x[n][e], row_of(n, e), column_of(e));
    }
  };
  const auto inside = [&](int row, int column) { return row < rows && first_column + column < own_columns; };
  each_of_state([&](float& element, int row, int column) {
    element = inside(row, column) ? source.begin(at, row, first_column + column) : 0.0F;
  });
  const auto position = [&](std::int64_t i) { return Source::backwards ? length - 1 - i : i; };
  // Multiplies X by the factors of a token.
  const auto scale_state = [&](int t) {
    const float* const of = keep + t * keep_stride;
    each_of_state([&](float& element, int row, int column) {
      element *= Source::keeps_rows ? row < rows ? of[row] : 1.0F : of[column];
    });
  };

  for (int c = static_cast<int>(threadIdx.x); c < across; c += static_cast<int>(blockDim.x)) bad_from[c] = ~0ULL;
  __syncthreads();
  int count = 0;
  for (std::int64_t first = 0; first < length; first += count) {
    count = static_cast<int>(length - first < layout.tokens ? length - first : layout.tokens);
    __syncthreads();  // what was read of the last tile

    // A warp a token, its lanes along the channels. What there is not is zero.
    bool moves = false;
    for (int t = warp; t < layout.tokens; t += layout.warps) {
      const bool there = t < count;
      const std::int64_t i = position(first + t), factor_at = i + (Source::backwards ? 1 : 0);
      const std::int64_t token = at.line.token(there ? i : 0);
      const bool has_factor = there && factor_at < length;
      const std::int64_t factor_token = at.line.token(has_factor ? factor_at : 0);
      const auto rows_in = source.in(at, token);
      const auto rows_out = source.out_row(at, token);
      const auto columns_in = source.column(at, token);
      const auto factors = source.keep(at, factor_token);
      for (int base = lane; base < widest; base += 32 * at_once) {
        decltype(rows_in.fetch(0)) row_in[at_once];
        decltype(rows_out.fetch(0)) row_out[at_once];
        decltype(columns_in.fetch(0)) column[at_once];
        decltype(factors.fetch(0)) factor[at_once];
#pragma unroll
        for (int k = 0; k < at_once; ++k) {
          // Without a condition, so that all are on their way at once: what there is not reads a neighbour.
          const int n = base + 32 * k, row = n < rows ? n : rows - 1;
          const int own = first_column + n < own_columns ? first_column + n : own_columns - 1;
          if (rows > 0) {
            row_in[k] = rows_in.fetch(row);
            row_out[k] = rows_out.fetch(row);
          }
          column[k] = columns_in.fetch(own);
          if (kept > 0) factor[k] = factors.fetch(Source::keeps_rows ? row : own);
        }
#pragma unroll
        for (int k = 0; k < at_once; ++k) {
          const int n = base + 32 * k;
          const bool is_row = there && n < rows, is_column = there && first_column + n < own_columns;
          const bool is_factor = has_factor && (Source::keeps_rows ? is_row : is_column);
          if (n < padded_rows) {
            in[t * row_stride + n] = is_row ? rows_in.value(row_in[k]) : 0.0F;
            out[t * row_stride + n] = is_row ? rows_out.value(row_out[k]) : 0.0F;
          }
          if (n < across) {
            float b = is_column ? columns_in.value(column[k]) : 0.0F;
            if (!splits(b)) {
              b = 0;
              atomicMin(bad_from + n, static_cast<unsigned long long>(first + t));
            }
            columns[t * column_stride + n] = b;
          }
          const float a = is_factor ? factors.value(factor[k]) : 1.0F;
          if (n < kept) keep[t * keep_stride + n] = a;
          moves = moves || a != 1.0F;
        }
      }
    }
    if (threadIdx.x == 0) run_end = count;
    moves = __syncthreads_or(moves) != 0;

    if (moves) {
      scale_state(0);
      for (int n = static_cast<int>(threadIdx.x); n < kept; n += static_cast<int>(blockDim.x)) {
        float product = 1.0F;
        for (int t = 1; t < count; ++t) {
          float& a = keep[t * keep_stride + n];
          product *= a;
          if (!(fabsf(product) >= least_product)) {
            atomicMin(&run_end, t);
            break;
          }
          a = product;
        }
      }
      __syncthreads();
      const int before = count;
      count = run_end;
      for (int t = 1 + warp; t < before; t += layout.warps) {
        if (t < count) {
          const float* const product = keep + t * keep_stride;
          for (int n = lane; n < kept; n += 32) {
            if constexpr (Source::keeps_rows) {
              in[t * row_stride + n] /= product[n];
              out[t * row_stride + n] *= product[n];
            } else {
              columns[t * column_stride + n] /= product[n];
            }
          }
        } else {  // it waits
          for (int r = lane; r < padded_rows; r += 32) in[t * row_stride + r] = out[t * row_stride + r] = 0.0F;
          for (int c = lane; c < across; c += 32) columns[t * column_stride + c] = 0.0F;
        }
      }
      __syncthreads();
    }

    // Scores, 16 of these tokens by 8 before them a warp; what comes later is zero by selection.
    for (int tile = warp; tile < layout.tokens * layout.tokens / 128; tile += layout.warps) {
      const int t = tile / (layout.tokens / 8) * 16, s = tile % (layout.tokens / 8) * 8;
      if (s > t + 15 || t >= count) continue;
      float_sums p[2];
      const auto* const read = out + (t + quad) * row_stride + pair * 2;
      const auto* const written = in + (s + quad) * row_stride + pair * 2;
      const auto product = [&](int r, float_sums& to) {
        const float2 a = *reinterpret_cast<const float2*>(read + r);
        const float2 a_below = *reinterpret_cast<const float2*>(read + 8 * row_stride + r);
        const float2 b = *reinterpret_cast<const float2*>(written + r);
        to.multiply_add(split_left(a.x, a_below.x, a.y, a_below.y), split_right(b.x, b.y));
      };
      int r = 0;
      for (; r + 16 <= padded_rows; r += 16) {
        product(r, p[0]);
        product(r + 8, p[1]);
      }
      if (r < padded_rows) product(r, p[0]);
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int row = t + quad + e / 2 * 8, column = s + pair * 2 + e % 2;
        scores[row * score_stride + column] = column <= row ? p[0].sum(e) + p[1].sum(e) : 0.0F;
      }
    }
    __syncthreads();

    // y^T = X^T out^T + b^T scores^T, 16 columns by 8 tokens a product.
    float_sums y[token_steps];
#pragma unroll
    for (int n = 0; n < steps; ++n) {
      if (own_row + n * 8 >= rows) break;
      const split_left a(x[n][0], x[n][2], x[n][1], x[n][3]);
#pragma unroll
      for (int j = 0; j < token_steps; ++j) {
        if (j * 8 >= count) break;
        const float2 b =
            *reinterpret_cast<const float2*>(out + (j * 8 + quad) * row_stride + own_row + n * 8 + pair * 2);
        y[j].multiply_add(a, split_right(b.x, b.y));
      }
    }
    const auto column_tile = [&](int s) {
      const float* const of = columns + (s + pair) * column_stride + own_column + quad;
      return split_left(of[0], of[8], of[4 * column_stride], of[4 * column_stride + 8]);
    };
    if (group == 0) {
#pragma unroll
      for (int k = 0; k < token_steps; ++k) {
        if (k * 8 >= count) break;
        const split_left a = column_tile(k * 8);
#pragma unroll
        for (int j = k; j < token_steps; ++j) {
          if (j * 8 >= count) break;
          const float* const of = scores + (j * 8 + quad) * score_stride + k * 8 + pair;
          y[j].multiply_add(a, split_right(of[0], of[4]));
        }
      }
    }

#pragma unroll
    for (int j = 0; j < token_steps; ++j) {
      if (j * 8 >= count) break;
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        results[((group * layout.tokens) + j * 8 + pair * 2 + e % 2) * column_stride + column_of(e)] = y[j].sum(e);
      }
    }

    // X^T += b^T in.
    split_left b[token_steps];
#pragma unroll
    for (int k = 0; k < token_steps; ++k) {
      if (k * 8 < count) b[k] = column_tile(k * 8);
    }
#pragma unroll
    for (int n = 0; n < steps; ++n) {
      if (own_row + n * 8 >= rows) break;
      float_sums added;
#pragma unroll
      for (int k = 0; k < token_steps; ++k) {
        if (k * 8 >= count) break;
        const float* const of = in + (k * 8 + pair) * row_stride + own_row + n * 8 + quad;
        added.multiply_add(b[k], split_right(of[0], of[4 * row_stride]));
      }
#pragma unroll
      for (int e = 0; e < 4; ++e) x[n][e] += added.sum(e);
    }
    if (moves && count > 1) scale_state(count - 1);
    __syncthreads();
    for (int t = warp; t < count; t += layout.warps) {
      const std::int64_t i = position(first + t);
      const auto write = source.write(at, i, at.line.token(i));
#pragma unroll 4
      for (int c = lane; c < across; c += 32) {
        if (first_column + c >= own_columns) break;
        float sum = results[t * column_stride + c];
        for (int g = 1; g < layout.groups; ++g) sum += results[(g * layout.tokens + t) * column_stride + c];
        if (!Source::keeps_rows && moves && t > 0) sum *= keep[t * keep_stride + c];
        if (static_cast<unsigned long long>(first + t) >= bad_from[c]) sum = limits<float>::not_a_number;
        write(first_column + c, sum);
      }
    }
  }
  each_of_state([&](float& element, int row, int column) {
    const bool bad = static_cast<unsigned long long>(length) > bad_from[column];
    if (inside(row, column)) source.end(at, row, first_column + column, bad ? limits<float>::not_a_number : element);
  });
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
