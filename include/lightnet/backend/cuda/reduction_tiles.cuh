// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/line_walk.cuh>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// What the tokens of a stretch of a line add up to, each in a frame of its own.
template <class A>
struct stretch_totals {
  A* sum;                  // [items, stretches, d, e]: U
  std::int32_t* exponent;  // [items, stretches, width]: m
  A* normaliser;           // [items, stretches, width]: Z
};

/// The total (m, Z) of a line, the initial state and all stretches in their order. A thread a weight.
template <class Job>
struct add_stretch_weights {
  Job job;
  stretch_totals<typename Job::A> from;
  std::int64_t stretches;

  __device__ void operator()(std::int64_t n) const {
    using A = typename Job::A;
    const line_of_head at = job.line(n / job.width);
    const std::int64_t w = n % job.width;
    if constexpr (!Job::sums) {
      job.decay[n] = job.carried(at, w).product;
    } else {
      auto [m, z, product] = job.carried(at, w);
      for (std::int64_t s = 0; s < stretches; ++s) {
        const std::int64_t place = (at.item * stretches + s) * job.width + w;
        const std::int32_t other = from.exponent[place], frame = other > m ? other : m;
        z = multiply_add(lower_by_power_of_two(A(1), m - frame), z,
                         lower_by_power_of_two(A(1), other - frame) * from.normaliser[place]);
        m = frame;
      }
      job.exponent[n] = m;
      job.normaliser[n] = z;
      job.inverse[n] = z == A(0) ? A(0) : A(1) / z;
    }
  }
};

/// U of all lines in the frame of their totals, and the final states: states [items, d, e]. Least traffic: the parts and
/// these. A block 8 rows of a line and head.
template <class Job, class State>
__global__ void __launch_bounds__(256)
    add_stretch_states_kernel(Job job, State to, stretch_totals<typename Job::A> from, std::int64_t stretches,
                              typename Job::A* states, std::int64_t blocks_of_item) {
  using A = typename Job::A;
  constexpr int rows_of_block = 8;
  const line_of_head at = job.line(blockIdx.x / blocks_of_item);
  const int rows = static_cast<int>(job.from.keys), columns = static_cast<int>(job.from.values);
  const int first = static_cast<int>(blockIdx.x % blocks_of_item) * rows_of_block;
  for (int n = static_cast<int>(threadIdx.x); n < rows_of_block * columns; n += 256) {
    const int i = first + n / columns, j = n % columns;
    if (i >= rows) return;
    const std::int64_t w = Job::per_channel ? i : 0;
    A sum = A(0);
    if (!job.begins_empty(at, i)) sum = from_initial_frame(job, at, w) * job.begin(at, i, j);
    for (std::int64_t s = 0; s < stretches; ++s) {
      const std::int64_t part = at.item * stretches + s;
      A by = A(1);
      if constexpr (Job::sums) {
        by = lower_by_power_of_two(A(1), from.exponent[part * job.width + w] - job.exponent[at.item * job.width + w]);
      }
      sum = multiply_add(by, from.sum[(part * rows + i) * columns + j], sum);
    }
    states[(at.item * rows + i) * columns + j] = sum;
    if (to) to.sum(at.line.sequence, at.head, i, j) = ends_bad(job, at, j) ? limits<A>::not_a_number : sum;
  }
}

/// o = q (U / Z) on the matrix units, a block a line, head and 128 of its tokens. Least traffic a token: d + e numbers.
/// Tile: 128 tokens and all d and e in shared memory, U / Z rounded to bfloat16.
template <class Job, class Outputs, int D, int E>
__global__ void __launch_bounds__(256)
    read_tiles_kernel(Job job, Outputs out, const float* states, std::int64_t blocks_of_item) {
  constexpr int rows = 128, threads = 256;
  extern __shared__ __align__(16) unsigned char shared_memory[];
  const bfloat16_tile q{reinterpret_cast<std::uint16_t*>(shared_memory), bfloat16_tile::padded(D)};
  const bfloat16_tile state{q.at(rows, 0), bfloat16_tile::padded(E)};
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const line_of_head at = job.line(blockIdx.x / blocks_of_item);
  const std::int64_t first = blockIdx.x % blocks_of_item * rows, keys = job.from.keys, values = job.from.values;
  if (first >= at.line.length) return;
  const int count = static_cast<int>(at.line.length - first < rows ? at.line.length - first : rows);
  load_rows<D, rows, threads>(job, job.from.q, at, first, count, keys, q);
  for (int n = thread; n < D * E / 2; n += threads) {
    const int i = n / (E / 2), j = n % (E / 2) * 2;
    float pair[2] = {};
    const float by = i < keys && Job::sums ? job.inverse[at.item * job.width + (Job::per_channel ? i : 0)] : 1.0F;
    for (int e = 0; e < 2; ++e) {
      if (i < keys && j + e < values) pair[e] = by * states[(at.item * keys + i) * values + j + e];
    }
    *reinterpret_cast<std::uint32_t*>(state.at(i, j)) = pack_bfloat16(pair[0], pair[1]);
  }
  wait_for_rows();
  __syncthreads();
  float o[E / 8][4] = {};
#pragma unroll
  for (int s = 0; s < D; s += 16) {
    std::uint32_t a[4];
    q.load_left(a, warp * 16, s);
#pragma unroll
    for (int n = 0; n < E / 16; ++n) {
      std::uint32_t b[4];
      state.load_right(b, s, n * 16);
      multiply_add_matrices(o[2 * n], a, b[0], b[1]);
      multiply_add_matrices(o[2 * n + 1], a, b[2], b[3]);
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = warp * 16 + lane / 4 + half * 8;
    if (row >= count) continue;
    const std::int64_t i = first + row, token = at.line.token(i);
    auto* const to = out.o.token(at.line.batch, at.head, token);
    const bool on = job.on(at, token);
#pragma unroll
    for (int n = 0; n < E / 8; ++n) {
      const int column = n * 8 + lane % 4 * 2;
      const auto written = [&](int e) {
        const bool bad = column + e < values && job.reached(at, i)[column + e];
        return !on ? 0.0F : bad ? limits<float>::not_a_number : o[n][2 * half + e];
      };
      store_two(to, out.o.channel_stride(), column, values, out.accumulate, written(0), written(1));
    }
  }
}

/// Where the queries of a line are to read the sum of it.
template <class Sequence>
struct line_readings {
  Sequence o;
  bool accumulate;
  const float* sum;  // [items, d, e]: U
};

/// The global traversal on the matrix units: what stretches of 1024 tokens add up to, their sum, and its reading.
template <class Job, class Outputs>
void run_reduction_tiles(execution<cuda>& on, execution<cuda>::scope& scratch, const char* operation, Job job,
                         const Outputs& outputs) {
  using A = typename Job::A;
  constexpr std::int64_t stretch = 1024, rows = 128;
  const auto& from = job.from;
  const std::int64_t items = from.items(), longest = from.lines.longest(),
                     stretches = (longest + stretch - 1) / stretch;
  const std::int64_t size = from.keys * from.values;
  const stretch_totals<A> totals{scratch.take<A>(items * stretches * size),
                                 scratch.take<std::int32_t>(items * stretches * job.width),
                                 scratch.take<A>(items * stretches * job.width)};
  A* const states = scratch.take<A>(items * size);
  if (on.takes_hopper()) {
    walk_lines<walk_for::totals>(on, operation, job, totals, stretches, stretch);
  } else if (stretches > 0) {
    run_causal_tiles<false>(on, operation, job, totals, stretches, stretch);
  }
  for_each(on, operation, items * job.width, add_stretch_weights<Job>{job, totals, stretches});
  using state_type = std::remove_cvref_t<decltype(outputs.state)>;
  const std::int64_t blocks_of_item = (from.keys + 7) / 8;
  launch(on, operation, {items * blocks_of_item, 256}, add_stretch_states_kernel<Job, state_type>, job, outputs.state,
         totals, stretches, states, blocks_of_item);
  if (outputs.state) {
    for_each(on, operation, items * job.width, store_weights_of_state<Job>{job, outputs.state});
  }
  if (on.takes_hopper()) {
    using readings = line_readings<std::remove_cvref_t<decltype(outputs.o)>>;
    return walk_lines<walk_for::readings>(on, operation, job, readings{outputs.o, outputs.accumulate, states},
                                          stretches, stretch);
  }
  const std::int64_t blocks = (longest + rows - 1) / rows;
  const auto read = [&]<int D, int E>() {
    const std::size_t bytes = 2 * (rows * bfloat16_tile::padded(D) + D * bfloat16_tile::padded(E));
    launch(on, operation, {items * blocks, 256, bytes}, read_tiles_kernel<Job, Outputs, D, E>, job, outputs, states,
           blocks);
  };
  if (from.keys <= 64 && from.values <= 64) {
    read.template operator()<64, 64>();
  } else {
    read.template operator()<128, 128>();
  }
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
