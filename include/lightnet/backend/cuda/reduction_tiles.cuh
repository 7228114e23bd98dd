// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/line_states.cuh>
#include <lightnet/backend/cuda/line_walk.cuh>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Keeps the totals of lines: U in `sums` [items, d', e], (m, Z) in the job, and both in the final state where it is asked for.
template <class Job>
struct totals_of_lines {
  using A = typename Job::A;

  Job job;
  typename Job::state_type to;
  A* sums;

  __device__ bool wants(const line_of_head&) const { return true; }
  __device__ auto row(const line_of_head& at, std::int64_t, bool ends, std::int64_t i) const {
    A* const of_row = sums + (at.item * job.from.stored_keys + i) * job.from.values;
    return [this, &at, ends, i, of_row](int j, A sum) {
      if (!ends) return;
      of_row[j] = sum;
      if (to) to.sum(at.line.sequence, at.head, i, j) = ends_bad(job, at, j) ? limits<A>::not_a_number : sum;
    };
  }
  __device__ void weight(const line_of_head& at, std::int64_t, bool ends, std::int64_t i,
                         const running_weight<Job>& weight) const {
    if (!ends || i >= job.width) return;  // the first row of a weight tells of it
    const std::int64_t n = at.item * job.width + i;
    if constexpr (Job::sums) {
      job.exponent[n] = weight.m;
      job.normaliser[n] = weight.z;
      job.inverse[n] = inverse_of(weight.z);
    } else {
      job.decay[n] = weight.z;
    }
  }
};

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
  const float* sum;  // [items, d', e]: U
};

/// Tokens of a line whose sum is made by itself where the matrix units make it.
inline constexpr std::int64_t tokens_of_stretch = 2048;

/// 1 / Z of the lines.
template <class Job>
struct invert_normalisers {
  Job job;

  __device__ void operator()(std::int64_t n) const { job.inverse[n] = inverse_of(job.normaliser[n]); }
};

/// Finds the totals of all lines (totals_of_lines), by what stretches of theirs add up to. Gives the stretches.
template <class Job>
line_stretches total_of_lines(execution<cuda>& on, execution<cuda>::scope& scratch, const char* operation,
                              const Job& job, const typename Job::state_type& state, typename Job::A* sums) {
  const auto stretches = line_stretches::of(job, tokens_of_stretch);
  // A stretch may be all there is of a line.
  if (!Job::recurrence::sink && stretches.places.one_a_line() && !job.from.state && !state) {
    using totals_type = stretch_totals<typename Job::A>;
    add_up_stretches(on, operation, job,
                     totals_type{stretches, sums, job.exponent, Job::sums ? job.normaliser : job.decay});
    if constexpr (Job::sums) for_each(on, operation, job.from.items() * job.width, invert_normalisers<Job>{job});
    return stretches;
  }
  const auto totals = stretch_totals<typename Job::A>::of(scratch, job, stretches);
  add_up_stretches(on, operation, job, totals);
  each_row_of_states(on, operation, job, add_stretches{job, totals, totals_of_lines<Job>{job, state, sums}});
  return stretches;
}

/// The global traversal on the matrix units: the total, and its reading.
template <class Job, class Outputs>
void run_reduction_tiles(execution<cuda>& on, execution<cuda>::scope& scratch, const char* operation, Job job,
                         const Outputs& outputs) {
  using A = typename Job::A;
  const auto& from = job.from;
  const std::int64_t items = from.items();
  A* const states = scratch.take<A>(items * from.stored_keys * from.values);
  const line_stretches stretches = total_of_lines(on, scratch, operation, job, outputs.state, states);
  if (outputs.state) {
    for_each(on, operation, items * job.width, store_weights_of_state<Job>{job, outputs.state});
  }
  if (on.takes_hopper()) {
    using readings = line_readings<std::remove_cvref_t<decltype(outputs.o)>>;
    return walk_lines<walk_for::readings>(on, operation, job, readings{outputs.o, outputs.accumulate, states},
                                          stretches);
  }
  if constexpr (!Job::position::encodes) {
    constexpr std::int64_t rows = 128;
    const std::int64_t blocks = (from.lines.longest() + rows - 1) / rows;
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
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
