// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/linear_recurrence_backward.cuh>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// The memory of the gradients by decays with a sign.
template <class A>
struct signed_parts {
  A* kept;              // [blocks, tiles, elements of a thread, threads]: the states before the tiles
  A* history;           // [blocks, tile, elements of a thread, threads]: those before the tokens of a tile
  A* da;                // [warps along the columns, B, H, N, d']: their parts of the gradient
  std::int64_t tiles;   // of the longest line
  std::int64_t parts;   // warps along the columns
  std::int64_t tokens;  // B H N
};

/// da_t = rowsum(D_t * U_{t-1}): the derivative by a decay is that by the state after it times the state before it, which
/// no division gives back where a decay is 0. A sweep forward keeps the state before every tile of 16 tokens, a sweep back
/// works out those of its tokens once more. Least traffic: the states that are kept, written and read. Laid out as a sweep.
template <class Pull, class Gradients>
__global__ void __launch_bounds__(256)
    signed_decay_kernel(Pull pull, Gradients from, sweep_layout<typename Pull::A> layout,
                        signed_parts<typename Pull::A> parts) {
  using A = typename Pull::A;
  using shape = sweep_layout<A>;
  constexpr int R = shape::rows_of_lane, C = shape::columns_of_lane, tile = shape::most_tokens;
  extern __shared__ __align__(16) unsigned char shared_memory[];
  const auto& job = pull.job;
  const int padded = layout.padded_rows(), across = layout.columns_of_block();
  A* const keys = reinterpret_cast<A*>(shared_memory);  // [tile, padded rows]
  A* const queries = keys + tile * padded;
  A* const keep = queries + tile * padded;
  A* const values = keep + tile * padded;  // [tile, columns of the block]
  A* const backs = values + tile * across;

  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  const int lane = thread % 32, warp = thread / 32, group = warp % layout.groups;
  const int own_row = (group * layout.lanes + lane % layout.lanes) * R;
  const int own_column = warp / layout.groups * layout.columns_of_warp() + lane / layout.lanes * C;
  const line_of_head at = job.line(blockIdx.x / layout.blocks_of_item);
  const std::int64_t block = blockIdx.x % layout.blocks_of_item, first_column = block * across;
  const std::int64_t length = at.line.length, tiles = (length + tile - 1) / tile;
  const std::int64_t part = block * (layout.warps / layout.groups) + warp / layout.groups;
  A* const kept = parts.kept + blockIdx.x * parts.tiles * R * C * threads + thread;
  A* const history = parts.history + blockIdx.x * std::int64_t{tile} * R * C * threads + thread;

  A x[R][C] = {}, d[R][C] = {};
  const auto each = [&](const auto& body) {
#pragma unroll
    for (int r = 0; r < R; ++r) {
#pragma unroll
      for (int c = 0; c < C; ++c) body(r, c);
    }
  };
  const auto save = [&](A* to) { each([&](int r, int c) { to[(r * C + c) * threads] = x[r][c]; }); };
  const auto load_tile = [&](std::int64_t first, int count, bool back) {
    __syncthreads();
    for (int n = thread; n < count * padded; n += threads) {
      const std::int64_t token = at.line.token(first + n / padded), r = n % padded;
      const bool inside = r < layout.rows;
      keys[n] = inside ? job.keys_of(at, token)[r] : A(0);
      keep[n] = inside ? job.factors_of(at, token)[r] : A(1);
      if (back) queries[n] = inside ? job.queries_of(at, token)[r] : A(0);
    }
    for (int n = thread; n < count * across; n += threads) {
      const std::int64_t token = at.line.token(first + n / across), j = first_column + n % across;
      const bool inside = j < layout.columns;
      values[n] = inside ? job.values_of(at, token)[j] : A(0);
      if (back) backs[n] = inside ? incoming(job, from, at, token)[j] : A(0);
    }
    __syncthreads();
  };
  const auto step = [&](int t) {
    each([&](int r, int c) {
      x[r][c] = multiply_add(keys[t * padded + own_row + r], values[t * across + own_column + c],
                             keep[t * padded + own_row + r] * x[r][c]);
    });
  };

  each([&](int r, int c) {
    const std::int64_t row = own_row + r, column = first_column + own_column + c;
    const bool inside = row < layout.rows && column < layout.columns;
    x[r][c] = inside ? job.begin(at, row, column) : A(0);
    d[r][c] = inside ? pull.d[pull.in_state(at, row, column)] : A(0);
  });
  for (std::int64_t n = 0; n < tiles; ++n) {
    save(kept + n * R * C * threads);
    const int count = static_cast<int>(length - n * tile < tile ? length - n * tile : tile);
    load_tile(n * tile, count, false);
    for (int t = 0; t < count; ++t) step(t);
  }
  for (std::int64_t n = tiles; n-- > 0;) {
    const int count = static_cast<int>(length - n * tile < tile ? length - n * tile : tile);
    load_tile(n * tile, count, true);
    each([&](int r, int c) { x[r][c] = kept[(n * R * C + r * C + c) * threads]; });
    for (int t = 0; t < count; ++t) {
      save(history + std::int64_t{t} * R * C * threads);
      step(t);
    }
    for (int t = count; t-- > 0;) {
      A da[R] = {};
      each([&](int r, int c) {
        d[r][c] = multiply_add(queries[t * padded + own_row + r], backs[t * across + own_column + c], d[r][c]);
        da[r] = multiply_add(d[r][c], history[(std::int64_t{t} * R * C + r * C + c) * threads], da[r]);
        d[r][c] *= keep[t * padded + own_row + r];
      });
      const std::int64_t token = at.line.token(n * tile + t);
#pragma unroll
      for (int r = 0; r < R; ++r) {
        for (int offset = layout.lanes; offset < 32; offset *= 2) da[r] += __shfl_xor_sync(~0U, da[r], offset);
        if (lane < layout.lanes && own_row + r < layout.rows) {
          parts.da[(part * parts.tokens + job.row(at, token)) * layout.rows + own_row + r] = da[r];
        }
      }
    }
  }
}

/// The gradient of a decay with a sign from its parts, added in their order, over what shares it. A thread a decay.
template <class Pull, class Gradients>
struct pull_signed_decay {
  Pull pull;
  Gradients out;
  signed_parts<typename Pull::A> parts;

  __device__ void operator()(std::int64_t n) const {
    using A = typename Pull::A;
    const auto& job = pull.job;
    using job_type = std::remove_cvref_t<decltype(job)>;
    const line_of_head at = job.line(n / job.width);
    const std::int64_t w = n % job.width, rows = job.from.stored_keys;
    const std::int64_t step = job_type::per_channel ? job.from.keys : 1;
    A of_head = A(0);
    for (std::int64_t i = 0; i < at.line.length; ++i) {
      const std::int64_t token = at.line.token(i), row = job.row(at, token);
      A sum = A(0);
      for (std::int64_t r = w; r < rows; r += step) {
        for (std::int64_t p = 0; p < parts.parts; ++p) sum += parts.da[(p * parts.tokens + row) * rows + r];
      }
      store_logit(job, out, at, token, w, sum, of_head);
    }
    if (w == 0) store_head_logit(job, out, at, of_head);
  }
};

/// The gradients of one pass of an ordered traversal of a recurrence with a sign.
template <class Recurrence, class Position, int Dims, class T>
void signed_recurrence_backward(execution<cuda>& on, const recurrence_arguments<Recurrence, Dims, T, cuda>& arguments,
                                const recurrence_gradients<Dims, T, cuda>& gradients) {
  constexpr const char* operation = "scan_backward";
  check_rows_of_sweep<accumulator<T>>(operation, "k", arguments.stored_keys);
  check_rows_of_sweep<accumulator<T>>(operation, "v", arguments.values);
  execution<cuda>::scope scratch{on};
  const auto job = weigh<Recurrence, Position>(on, scratch, arguments, false, operation);
  const auto pull = make_pullback(scratch, job);
  using A = accumulator<T>;
  using pull_type = std::remove_cv_t<decltype(pull)>;
  using gradients_type = recurrence_gradients<Dims, T, cuda>;
  const std::int64_t items = arguments.items(), rows = arguments.stored_keys, columns = arguments.values;
  sweep_factors(on, operation, pull, gradients, [&] {
    const auto layout = sweep_layout<A>::of(rows, columns, items, on.processors());
    constexpr std::int64_t elements = layout.rows_of_lane * layout.columns_of_lane;
    const std::int64_t blocks = items * layout.blocks_of_item, threads = 32 * layout.warps;
    signed_parts<A> parts{};
    parts.tiles = (arguments.lines.longest() + layout.most_tokens - 1) / layout.most_tokens;
    parts.parts = layout.blocks_of_item * (layout.warps / layout.groups);
    parts.tokens = arguments.lines.batch * arguments.heads * job.tokens;
    parts.kept = scratch.take<A>(blocks * parts.tiles * elements * threads);
    parts.history = scratch.take<A>(blocks * layout.most_tokens * elements * threads);
    parts.da = scratch.take<A>(parts.parts * parts.tokens * rows);
    const std::size_t shared = sizeof(A) * layout.most_tokens *
                               static_cast<std::size_t>(3 * layout.padded_rows() + 2 * layout.columns_of_block());
    launch(on, operation, {blocks, static_cast<int>(threads), shared}, signed_decay_kernel<pull_type, gradients_type>,
           pull, gradients, layout, parts);
    for_each(on, operation, items * job.width, pull_signed_decay<pull_type, gradients_type>{pull, gradients, parts});
  });
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
