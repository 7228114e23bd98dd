// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/launch.cuh>
#include <lightnet/backend/cuda/mma.cuh>
#include <lightnet/backend/cuda/recurrence_job.cuh>
#include <lightnet/backend/cuda/tile_sweep_layout.cuh>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// A sweep (sweep.cuh) in floats, 32 tokens at a time on the matrix units: with P_t the product of the factors a from the
/// second of these tokens to t,
///   y_t = (P_t X)^T out_t + sum_{s <= t} (out_t P_t / P_s in_s) b_s,   X <- P_end (X + sum_s in_s / P_s b_s^T),
/// the factors going with the rows or with the columns, along whichever side they lie. Tokens from where some P_t falls
/// below 2^-60 wait for the next tile, which reads them again: numbers below 2^60 do not overflow. What of b is no number
/// counts as zero, and makes its column NaN from there on by selection. Least traffic: what the source reads, once for each
/// block of columns, and y. Tile: 32 tokens, all rows and the block's columns, in shared memory; X^T in registers, as the
/// matrix instruction both leaves and reads it.
template <class Source>
class tile_sweep {
 public:
  /// What the threads of a block tell each other.
  struct told {
    int run_end;          // how many tokens of a tile are taken
    unsigned bad_values;  // whether any of b so far is no number
  };

  /// Of a block, with shared memory for its tiles.
  __device__ tile_sweep(const Source& source, const tile_sweep_layout& layout, const line_of_head& at,
                        unsigned char* memory, told& between)
      : source_{source},
        layout_{layout},
        at_{at},
        told_{between},
        // The compiler has to see that whole warps go one way.
        warp_{__shfl_sync(~0U, static_cast<int>(threadIdx.x) / 32, 0)},
        lane_{static_cast<int>(threadIdx.x) % 32},
        quad_{lane_ / 4},
        pair_{lane_ % 4},
        group_{warp_ % layout.groups},
        own_row_{group_ * shape::rows_of_warp},
        own_column_{warp_ / layout.groups * shape::columns_of_warp},
        rows_{static_cast<int>(layout.rows)},
        padded_rows_{(rows_ + 7) / 8 * 8},
        columns_{static_cast<int>(layout.columns)},
        across_{layout.columns_of_block()},
        first_column_{static_cast<int>(blockIdx.x % layout.blocks_of_item) * across_},
        kept_{Source::keeps_rows ? rows_ : across_},
        row_stride_{layout.row_stride()},
        column_stride_{layout.column_stride()},
        keep_stride_{layout.keep_stride()},
        score_stride_{layout.score_stride()},
        bad_from_{reinterpret_cast<unsigned long long*>(memory)},
        in_{reinterpret_cast<float*>(bad_from_ + across_)},
        out_{in_ + layout.tokens * row_stride_},
        keep_{out_ + layout.tokens * row_stride_},
        b_{keep_ + layout.tokens * keep_stride_},
        results_{b_ + layout.tokens * column_stride_},
        scores_{results_ + layout.groups * layout.tokens * column_stride_} {}

  __device__ void run() {
    each_of_state([&](float& element, int row, int column) {
      element = inside(row, column) ? source_.begin(at_, row, first_column_ + column) : 0.0F;
    });
    for (int c = static_cast<int>(threadIdx.x); c < across_; c += static_cast<int>(blockDim.x)) bad_from_[c] = ~0ULL;
    if (threadIdx.x == 0) told_.bad_values = 0;
    __syncthreads();
    const std::int64_t length = at_.line.length;
    int count = 0;
    for (std::int64_t first = 0; first < length; first += count) {
      count = static_cast<int>(length - first < layout_.tokens ? length - first : layout_.tokens);
      __syncthreads();  // what was read of the last tile
      bool moves = load(first, count);
      if (threadIdx.x == 0) told_.run_end = count;
      moves = __syncthreads_or(moves) != 0;
      if (told_.bad_values != 0) clean(first, count);
      if (moves) count = scale(count);
      make_scores(count);
      __syncthreads();
      read(count);
      advance(count);
      if (moves && count > 1) scale_state(count - 1);
      __syncthreads();
      write(first, count, moves);
    }
    each_of_state([&](float& element, int row, int column) {
      const bool bad = static_cast<unsigned long long>(length) > bad_from_[column];
      if (!inside(row, column)) return;
      source_.end(at_, row, first_column_ + column, bad ? limits<float>::not_a_number : element);
    });
  }

 private:
  using shape = tile_sweep_layout;
  static constexpr int steps = shape::rows_of_warp / 8, token_steps = shape::most_tokens / 8;

  /// Calls body(element, row, column) for this thread's elements of X.
  template <class Body>
  __device__ __forceinline__ void each_of_state(const Body& body) {
#pragma unroll
    for (int n = 0; n < steps; ++n) {
      if (own_row_ + n * 8 >= rows_) break;
#pragma unroll
      for (int e = 0; e < 4; ++e) body(x_[n][e], own_row_ + n * 8 + pair_ * 2 + e % 2, column_of(e));
    }
  }
  __device__ int column_of(int e) const { return own_column_ + quad_ + e / 2 * 8; }
  __device__ bool inside(int row, int column) const { return row < rows_ && first_column_ + column < columns_; }
  __device__ std::int64_t position(std::int64_t i) const { return Source::backwards ? at_.line.length - 1 - i : i; }

  /// Reads the tile of tokens [first, first + count), a warp a token, its lanes along the channels. What there is not is
  /// zero. Returns whether this thread saw a factor that is not 1.
  __device__ __forceinline__ bool load(std::int64_t first, int count) {
    constexpr int at_once = 2;  // numbers of each kind that a lane has on their way
    const int widest = padded_rows_ > across_ ? padded_rows_ : across_;
    bool moves = false;
    for (int t = warp_; t < layout_.tokens; t += layout_.warps) {
      const bool there = t < count;
      const std::int64_t i = position(first + t), factor_at = i + (Source::backwards ? 1 : 0);
      const std::int64_t token = at_.line.token(there ? i : 0);
      const bool has_factor = there && factor_at < at_.line.length;
      const std::int64_t factor_token = at_.line.token(has_factor ? factor_at : 0);
      const auto rows_in = source_.in(at_, token);
      const auto rows_out = source_.out_row(at_, token);
      const auto columns_in = source_.column(at_, token);
      const auto factors = source_.keep(at_, factor_token);
      for (int base = lane_; base < widest; base += 32 * at_once) {
        decltype(rows_in.fetch(0)) row_in[at_once];
        decltype(rows_out.fetch(0)) row_out[at_once];
        decltype(columns_in.fetch(0)) column[at_once];
        decltype(factors.fetch(0)) factor[at_once];
#pragma unroll
        for (int k = 0; k < at_once; ++k) {
          // Without a condition, so that all are on their way at once: what there is not reads a neighbour.
          const int n = base + 32 * k, row = n < rows_ ? n : rows_ - 1;
          const int own = first_column_ + n < columns_ ? first_column_ + n : columns_ - 1;
          if (rows_ > 0) {
            row_in[k] = rows_in.fetch(row);
            row_out[k] = rows_out.fetch(row);
          }
          column[k] = columns_in.fetch(own);
          if (kept_ > 0) factor[k] = factors.fetch(Source::keeps_rows ? row : own);
        }
#pragma unroll
        for (int k = 0; k < at_once; ++k) {
          const int n = base + 32 * k;
          const bool is_row = there && n < rows_, is_column = there && first_column_ + n < columns_;
          const bool is_factor = has_factor && (Source::keeps_rows ? is_row : is_column);
          if (n < padded_rows_) {
            in_[t * row_stride_ + n] = is_row ? rows_in.value(row_in[k]) : 0.0F;
            out_[t * row_stride_ + n] = is_row ? rows_out.value(row_out[k]) : 0.0F;
          }
          if (n < across_) {
            const float b = is_column ? columns_in.value(column[k]) : 0.0F;
            if (!splits(b)) atomicOr(&told_.bad_values, 1U);
            b_[t * column_stride_ + n] = b;
          }
          const float a = is_factor ? factors.value(factor[k]) : 1.0F;
          if (n < kept_) keep_[t * keep_stride_ + n] = a;
          moves = moves || a != 1.0F;
        }
      }
    }
    return moves;
  }

  /// Makes what of b is no number zero, and keeps where it was, a thread a column.
  __device__ __forceinline__ void clean(std::int64_t first, int count) {
    for (int c = static_cast<int>(threadIdx.x); c < across_; c += static_cast<int>(blockDim.x)) {
      for (int t = count - 1; t >= 0; --t) {
        float& b = b_[t * column_stride_ + c];
        if (splits(b)) continue;
        b = 0;
        const auto here = static_cast<unsigned long long>(first + t);
        bad_from_[c] = here < bad_from_[c] ? here : bad_from_[c];
      }
    }
    __syncthreads();
  }

  /// Enters the factors: X takes that of the first token, the tile the others. Returns how many of its tokens that
  /// leaves.
  __device__ __forceinline__ int scale(int count) {
    constexpr float least_product = 0x1p-60F;
    scale_state(0);
    for (int n = static_cast<int>(threadIdx.x); n < kept_; n += static_cast<int>(blockDim.x)) {
      float product = 1.0F;
      for (int t = 1; t < count; ++t) {
        float& a = keep_[t * keep_stride_ + n];
        product *= a;
        if (!(fabsf(product) >= least_product)) {
          atomicMin(&told_.run_end, t);
          break;
        }
        a = product;
      }
    }
    __syncthreads();
    const int left = told_.run_end;
    for (int t = 1 + warp_; t < count; t += layout_.warps) {
      if (t < left) {
        const float* const product = keep_ + t * keep_stride_;
        for (int n = lane_; n < kept_; n += 32) {
          if constexpr (Source::keeps_rows) {
            in_[t * row_stride_ + n] /= product[n];
            out_[t * row_stride_ + n] *= product[n];
          } else {
            b_[t * column_stride_ + n] /= product[n];
          }
        }
      } else {  // it waits
        for (int r = lane_; r < padded_rows_; r += 32) in_[t * row_stride_ + r] = out_[t * row_stride_ + r] = 0.0F;
        for (int c = lane_; c < across_; c += 32) b_[t * column_stride_ + c] = 0.0F;
      }
    }
    __syncthreads();
    return left;
  }

  /// Multiplies X by the factors that are kept for a token.
  __device__ __forceinline__ void scale_state(int t) {
    const float* const of = keep_ + t * keep_stride_;
#pragma unroll
    for (int n = 0; n < steps; ++n) {
      if (own_row_ + n * 8 >= rows_) break;
#pragma unroll
      for (int e = 0; e < 4; e += 2) {
        const int row = own_row_ + n * 8 + pair_ * 2;
        const float by = Source::keeps_rows ? row < rows_ ? of[row] : 1.0F : of[column_of(e)];
        const float next_by = Source::keeps_rows ? row + 1 < rows_ ? of[row + 1] : 1.0F : by;
        x_[n][e] *= by;
        x_[n][e + 1] *= next_by;
        std::uint32_t& rest = rest_[n][e / 2];
        rest = pack_bfloat16(lower_bfloat16(rest) * by, upper_bfloat16(rest) * next_by);
      }
    }
  }

  /// out in^T, 16 tokens by 8 before them a warp; what comes later is zero by selection.
  __device__ __forceinline__ void make_scores(int count) {
    for (int tile = warp_; tile < layout_.tokens * layout_.tokens / 128; tile += layout_.warps) {
      const int t = tile / (layout_.tokens / 8) * 16, s = tile % (layout_.tokens / 8) * 8;
      if (s > t + 15 || t >= count) continue;
      float_sums p[2];
      const auto* const reads = out_ + (t + quad_) * row_stride_ + pair_ * 2;
      const auto* const writes = in_ + (s + quad_) * row_stride_ + pair_ * 2;
      const auto product = [&](int r, float_sums& to) {
        const float2 a = *reinterpret_cast<const float2*>(reads + r);
        const float2 a_below = *reinterpret_cast<const float2*>(reads + 8 * row_stride_ + r);
        const float2 b = *reinterpret_cast<const float2*>(writes + r);
        to.multiply_add(split_left(a.x, a_below.x, a.y, a_below.y), split_right(b.x, b.y));
      };
      int r = 0;
      for (; r + 16 <= padded_rows_; r += 16) {
        product(r, p[0]);
        product(r + 8, p[1]);
      }
      if (r < padded_rows_) product(r, p[0]);
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int row = t + quad_ + e / 2 * 8, column = s + pair_ * 2 + e % 2;
        scores_[row * score_stride_ + column] = column <= row ? p[0].sum(e) + p[1].sum(e) : 0.0F;
      }
    }
  }

  /// b^T for 16 columns and the 8 tokens from s on.
  __device__ __forceinline__ split_left columns_at(int s) const {
    const float* const of = b_ + (s + pair_) * column_stride_ + own_column_ + quad_;
    return split_left(of[0], of[8], of[4 * column_stride_], of[4 * column_stride_ + 8]);
  }

  /// y^T = X^T out^T + b^T scores^T, 16 columns by 8 tokens a product.
  __device__ __forceinline__ void read(int count) {
    float_sums y[token_steps];
#pragma unroll
    for (int n = 0; n < steps; ++n) {
      if (own_row_ + n * 8 >= rows_) break;
      const split_left a(x_[n][0], x_[n][2], x_[n][1], x_[n][3]);
#pragma unroll
      for (int j = 0; j < token_steps; ++j) {
        if (j * 8 >= count) break;
        const float2 b =
            *reinterpret_cast<const float2*>(out_ + (j * 8 + quad_) * row_stride_ + own_row_ + n * 8 + pair_ * 2);
        y[j].multiply_add(a, split_right(b.x, b.y));
      }
    }
#pragma unroll
    for (int k = 0; k < token_steps; ++k) {
      if (k * 8 >= count) break;
      if (k % layout_.groups != group_) continue;  // the groups share them
      const split_left a = columns_at(k * 8);
#pragma unroll
      for (int j = k; j < token_steps; ++j) {
        if (j * 8 >= count) break;
        const float* const of = scores_ + (j * 8 + quad_) * score_stride_ + k * 8 + pair_;
        y[j].multiply_add(a, split_right(of[0], of[4]));
      }
    }
#pragma unroll
    for (int j = 0; j < token_steps; ++j) {
      if (j * 8 >= count) break;
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int t = group_ * layout_.tokens + j * 8 + pair_ * 2 + e % 2;
        results_[t * column_stride_ + column_of(e)] = y[j].sum(e);
      }
    }
  }

  /// X^T += b^T in.
  __device__ __forceinline__ void advance(int count) {
    split_left b[token_steps];
#pragma unroll
    for (int k = 0; k < token_steps; ++k) {
      if (k * 8 < count) b[k] = columns_at(k * 8);
    }
#pragma unroll
    for (int n = 0; n < steps; ++n) {
      if (own_row_ + n * 8 >= rows_) break;
      float_sums added;
#pragma unroll
      for (int k = 0; k < token_steps; ++k) {
        if (k * 8 >= count) break;
        const float* const of = in_ + (k * 8 + pair_) * row_stride_ + own_row_ + n * 8 + quad_;
        added.multiply_add(b[k], split_right(of[0], of[4 * row_stride_]));
      }
#pragma unroll
      for (int e = 0; e < 4; e += 2) {
        std::uint32_t& rest = rest_[n][e / 2];
        rest = pack_bfloat16(add(x_[n][e], added.sum(e) + lower_bfloat16(rest)),
                             add(x_[n][e + 1], added.sum(e + 1) + upper_bfloat16(rest)));
      }
    }
  }
  /// Adds a number to another; what rounding takes from the sum.
  __device__ static float add(float& to, float x) {
    const float sum = to + x, own = sum - to, rest = (to - (sum - own)) + (x - own);
    to = sum;
    return rest;
  }

  /// Gives the source what came out of all groups.
  __device__ __forceinline__ void write(std::int64_t first, int count, bool moves) const {
    for (int t = warp_; t < count; t += layout_.warps) {
      const std::int64_t i = position(first + t);
      const auto store = source_.write(at_, i, at_.line.token(i));
#pragma unroll 4
      for (int c = lane_; c < across_; c += 32) {
        if (first_column_ + c >= columns_) break;
        float sum = results_[t * column_stride_ + c];
        for (int g = 1; g < layout_.groups; ++g) sum += results_[(g * layout_.tokens + t) * column_stride_ + c];
        if (!Source::keeps_rows && moves && t > 0) sum *= keep_[t * keep_stride_ + c];
        if (static_cast<unsigned long long>(first + t) >= bad_from_[c]) sum = limits<float>::not_a_number;
        store(first_column_ + c, sum);
      }
    }
  }

  const Source& source_;
  const tile_sweep_layout& layout_;
  const line_of_head& at_;
  told& told_;
  const int warp_, lane_, quad_, pair_;     // of a warp as the matrix instruction counts its rows and columns
  const int group_, own_row_, own_column_;  // what the warp has of X
  const int rows_, padded_rows_, columns_, across_, first_column_, kept_;
  const int row_stride_, column_stride_, keep_stride_, score_stride_;
  unsigned long long* const bad_from_;  // [columns]: positions from which a column is NaN
  float *const in_, *const out_;        // [tokens, rows]
  float* const keep_;                   // [tokens, rows or columns]: a, then P
  float *const b_, *const results_;     // [tokens, columns], [groups, tokens, columns]
  float* const scores_;                 // [tokens, tokens]
  float x_[steps][4];                   // X, see each_of_state
  std::uint32_t rest_[steps][2] =
      {};  // what rounding has taken from it, for tiles may be as short as a token: bfloat16
};

template <class Source>
__global__ void __launch_bounds__(32 * tile_sweep_layout::most_warps, 2)
    tile_sweep_kernel(const __grid_constant__ Source source, const __grid_constant__ tile_sweep_layout layout) {
  extern __shared__ __align__(16) unsigned char shared_memory[];
  __shared__ typename tile_sweep<Source>::told between;
  const line_of_head at = source.line(blockIdx.x / layout.blocks_of_item);
  if (!at.left_alone) tile_sweep<Source>(source, layout, at, shared_memory, between).run();
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
