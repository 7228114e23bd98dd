// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/tile_sweep.cuh>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// How a sweep is laid over the threads. A lane has four neighbouring rows of the state and `columns_of_lane` neighbouring
/// columns; `lanes` lanes of a warp lie along the rows, the others along the columns; where that does not hold all rows,
/// `groups` warps do. A block has all rows and some of the columns.
template <class A>
struct sweep_layout {
  static constexpr int rows_of_lane = 4, columns_of_lane = sizeof(A) == 4 ? 8 : 4;
  static constexpr int most_warps = 8, most_tokens = 16, most_rows = most_warps * 32 * rows_of_lane;
  static constexpr int ahead = 4;            // numbers of each kind that a thread has on their way
  static constexpr std::int64_t chain = 64;  // tokens whose sum is made by itself: long chains round to one side

  std::int64_t rows, columns, blocks_of_item;
  int lanes, groups, warps;
  int tokens;  // that are read together, a power of two

  /// For so many items; few items are spread over more blocks. The bits of a column do not depend on the layout.
  static sweep_layout of(std::int64_t rows, std::int64_t columns, std::int64_t items, int processors) {
    sweep_layout l{rows, columns, 1,          columns_of_lane / ahead,
                   1,    1,       most_tokens};  // a token's columns are fetched at once
    while (l.lanes < 32 && l.lanes * rows_of_lane < rows) l.lanes *= 2;
    l.groups = static_cast<int>((rows + l.lanes * rows_of_lane - 1) / (l.lanes * rows_of_lane));
    l.groups = l.groups > 0 ? l.groups : 1;
    const std::int64_t of_warp = l.columns_of_warp();
    std::int64_t across = (columns + of_warp - 1) / of_warp;  // warps that hold all columns
    std::int64_t most = most_warps / l.groups > 0 ? most_warps / l.groups : 1;
    while (most > 1 && items * ((across + most - 1) / most) < 2 * processors) most /= 2;
    const std::int64_t own = across < most ? across : most;
    l.warps = static_cast<int>(own > 0 ? own : 1) * l.groups;
    l.blocks_of_item = own > 0 ? (across + own - 1) / own : 0;
    while (l.tokens > 1 && l.tokens * l.widest() > ahead * 32 * l.warps) l.tokens /= 2;
    return l;
  }
  LIGHTNET_HOST_DEVICE int columns_of_warp() const { return 32 / lanes * columns_of_lane; }
  LIGHTNET_HOST_DEVICE int columns_of_block() const { return warps / groups * columns_of_warp(); }
  LIGHTNET_HOST_DEVICE int padded_rows() const { return groups * lanes * rows_of_lane; }
  LIGHTNET_HOST_DEVICE int widest() const {
    return padded_rows() > columns_of_block() ? padded_rows() : columns_of_block();
  }
  /// Rows that go in and out, the columns that go in, factors along either, and the partial outputs of every group.
  std::size_t shared_bytes() const {
    return sizeof(A) * static_cast<std::size_t>(tokens) *
           static_cast<std::size_t>(2 * padded_rows() + columns_of_block() + widest() + groups * columns_of_block());
  }
};

/// Several neighbouring numbers, read at once.
template <class A, int Count>
struct alignas(16) neighbours {
  A x[Count];
};

/// X <- a X + in_t b_t^T,  y_t = X^T out_t, token by token, the state in registers from the first token to the last.
///
/// A source says what the letters are, along which side of X the factors a lie, and which way the tokens are walked; all
/// four products of a recurrence and its gradient are such sweeps (linear_recurrence*.cuh). Backwards a is that of the
/// token after. Least traffic: what the source reads, once for each block of columns, and y. Tile: up to 16 tokens in
/// shared memory, those of the next on their way while these are worked on. The sums of y over the rows are a fixed tree; those of X are made from 64 tokens at a time.
template <class Source>
__global__ void __launch_bounds__(256) sweep_kernel(Source source, sweep_layout<typename Source::A> layout) {
  using A = typename Source::A;
  using shape = sweep_layout<A>;
  constexpr int R = shape::rows_of_lane, C = shape::columns_of_lane, ahead = shape::ahead;
  extern __shared__ __align__(16) unsigned char shared_memory[];
  const int padded = layout.padded_rows(), across = layout.columns_of_block(), tile = layout.tokens;
  const int kept = Source::keeps_rows ? padded : across;
  A* const in = reinterpret_cast<A*>(shared_memory);  // [tile, padded rows]
  A* const out = in + tile * padded;
  A* const columns = out + tile * padded;   // [tile, columns of the block]
  A* const keep = columns + tile * across;  // [tile, kept]
  A* const results = keep + tile * kept;    // [groups, tile, columns of the block]

  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int group = warp % layout.groups, lane_row = lane % layout.lanes;
  const int own_row = (group * layout.lanes + lane_row) * R;
  const int own_column = warp / layout.groups * layout.columns_of_warp() + lane / layout.lanes * C;
  const line_of_head at = source.line(blockIdx.x / layout.blocks_of_item);
  if (at.left_alone) return;
  const std::int64_t first_column = blockIdx.x % layout.blocks_of_item * across, length = at.line.length;

  A x[R][C], recent[R][C] = {};  // X = x + recent
#pragma unroll
  for (int r = 0; r < R; ++r) {
#pragma unroll
    for (int c = 0; c < C; ++c) {
      const bool inside = own_row + r < layout.rows && first_column + own_column + c < layout.columns;
      x[r][c] = inside ? source.begin(at, own_row + r, first_column + own_column + c) : A(0);
    }
  }
  const auto tokens_from = [&](std::int64_t first) {
    return static_cast<int>(length - first < tile ? length - first : tile);
  };
  const auto position = [&](std::int64_t first, int t) {
    return Source::backwards ? length - 1 - (first + t) : first + t;
  };
  // Calls body(number of the thread's, number in the tile) for what a thread has of `wide` numbers a token.
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  const auto each = [&](int count, int wide, const auto& body) {
#pragma unroll
    for (int k = 0; k < ahead; ++k) {
      if (thread + k * threads < count * wide) body(k, thread + k * threads);
    }
  };
  A next_in[ahead] = {}, next_out[ahead] = {}, next_column[ahead] = {}, next_keep[ahead] = {};
  const auto fetch = [&](std::int64_t first) {
    const int count = tokens_from(first);
    each(count, padded, [&](int k, int n) {
      const std::int64_t token = at.line.token(position(first, n / padded)), r = n % padded;
      next_in[k] = r < layout.rows ? source.in(at, token)[r] : A(0);
      next_out[k] = r < layout.rows ? source.out_row(at, token)[r] : A(0);
    });
    each(count, across, [&](int k, int n) {
      const std::int64_t c = first_column + n % across;
      next_column[k] = c < layout.columns ? source.column(at, at.line.token(position(first, n / across)))[c] : A(0);
    });
    each(count, kept, [&](int k, int n) {
      const std::int64_t i = position(first, n / kept) + (Source::backwards ? 1 : 0);
      const std::int64_t c = n % kept + (Source::keeps_rows ? 0 : first_column);
      const bool inside = i < length && c < (Source::keeps_rows ? layout.rows : layout.columns);
      next_keep[k] = inside ? source.keep(at, at.line.token(i))[c] : A(1);
    });
  };

  if (length > 0) fetch(0);
  for (std::int64_t first = 0; first < length; first += tile) {
    const int count = tokens_from(first);
    __syncthreads();  // what was read of the last tile
    int moves = 0;
    each(count, padded, [&](int k, int n) {
      in[n] = next_in[k];
      out[n] = next_out[k];
    });
    each(count, across, [&](int k, int n) { columns[n] = next_column[k]; });
    each(count, kept, [&](int k, int n) {
      keep[n] = next_keep[k];
      moves |= next_keep[k] != A(1);
    });
    moves = __syncthreads_or(moves);
    if (first + tile < length) fetch(first + tile);

    for (int t = 0; t < count; ++t) {
      const auto rows_in = *reinterpret_cast<const neighbours<A, R>*>(in + t * padded + own_row);
      const auto rows_out = *reinterpret_cast<const neighbours<A, R>*>(out + t * padded + own_row);
      const auto b = *reinterpret_cast<const neighbours<A, C>*>(columns + t * across + own_column);
      if (moves) {
        if constexpr (Source::keeps_rows) {
          const auto a = *reinterpret_cast<const neighbours<A, R>*>(keep + t * kept + own_row);
#pragma unroll
          for (int r = 0; r < R; ++r) {
#pragma unroll
            for (int c = 0; c < C; ++c) {
              x[r][c] *= a.x[r];
              recent[r][c] *= a.x[r];
            }
          }
        } else {
          const auto a = *reinterpret_cast<const neighbours<A, C>*>(keep + t * kept + own_column);
#pragma unroll
          for (int r = 0; r < R; ++r) {
#pragma unroll
            for (int c = 0; c < C; ++c) {
              x[r][c] *= a.x[c];
              recent[r][c] *= a.x[c];
            }
          }
        }
      }
      A y[C] = {};
#pragma unroll
      for (int r = 0; r < R; ++r) {
#pragma unroll
        for (int c = 0; c < C; ++c) {
          recent[r][c] = multiply_add(rows_in.x[r], b.x[c], recent[r][c]);
          y[c] = multiply_add(rows_out.x[r], x[r][c] + recent[r][c], y[c]);
        }
      }
      // Sums over the lanes along the rows: each exchange halves the columns that a lane still sums.
      int column = own_column;
#pragma unroll
      for (int step = 0; step < 5; ++step) {
        const int width = C >> step;  // columns that a lane has
        const int offset = 1 << step;
        if (offset >= layout.lanes) break;
        const bool upper = (lane & offset) != 0;
        if (width > 1) {
#pragma unroll
          for (int c = 0; c < C / 2; ++c) {
            if (c < width / 2) {
              const A sent = upper ? y[c] : y[c + width / 2];
              const A own = upper ? y[c + width / 2] : y[c];
              y[c] = own + __shfl_xor_sync(~0U, sent, offset);
            }
          }
          column += upper ? width / 2 : 0;
        } else {
          y[0] += __shfl_xor_sync(~0U, y[0], offset);
        }
      }
      A* const to = results + (group * tile + t) * across + column;
#pragma unroll
      for (int c = 0; c < C; ++c) {
        if (c == 0 ? lane_row < C || C >= layout.lanes : c < C / layout.lanes) to[c] = y[c];
      }
    }
    if ((first + tile) % shape::chain == 0) {
#pragma unroll
      for (int r = 0; r < R; ++r) {
#pragma unroll
        for (int c = 0; c < C; ++c) {
          x[r][c] += recent[r][c];
          recent[r][c] = A(0);
        }
      }
    }
    __syncthreads();
    each(count, across, [&](int, int n) {
      const std::int64_t c = first_column + n % across, i = position(first, n / across);
      if (c >= layout.columns) return;
      A sum = results[n];
      for (int g = 1; g < layout.groups; ++g) sum += results[g * tile * across + n];
      source.write(at, i, at.line.token(i))(c, sum);
    });
  }
#pragma unroll
  for (int r = 0; r < R; ++r) {
#pragma unroll
    for (int c = 0; c < C; ++c) {
      const std::int64_t row = own_row + r, column = first_column + own_column + c;
      if (row < layout.rows && column < layout.columns) source.end(at, row, column, x[r][c] + recent[r][c]);
    }
  }
}

/// Refuses a state that has more rows than a sweep takes; before anything is launched, for a gradient sweeps along keys and
/// along values.
template <class A>
void check_rows_of_sweep(const char* operation, const char* argument, std::int64_t rows) {
  constexpr std::int64_t most = std::is_same_v<A, float> ? tile_sweep_layout::most_rows : sweep_layout<A>::most_rows;
  if (rows > most) {
    throw device_error(operation, argument, "a state of at most " + std::to_string(most) + " rows",
                       std::to_string(rows));
  }
}

/// Sweeps all lines and heads: floats on the matrix units.
template <class Source>
void sweep(execution<cuda>& on, const char* operation, const Source& source, std::int64_t items, std::int64_t rows,
           std::int64_t columns) {
  using A = typename Source::A;
  const auto run = [&](const auto& layout, const auto& kernel) {
    launch(on, operation, {items * layout.blocks_of_item, 32 * layout.warps, layout.shared_bytes()}, kernel, source,
           layout);
  };
  if constexpr (std::is_same_v<A, float>) {
    run(tile_sweep_layout::of(rows, columns, Source::keeps_rows, items, on.processors()), tile_sweep_kernel<Source>);
  } else {
    run(sweep_layout<A>::of(rows, columns, items, on.processors()), sweep_kernel<Source>);
  }
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
