// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/recurrence_job.cuh>
#include <lightnet/backend/cuda/step_rows.cuh>

// One token of every sequence and head:  S <- a S + khat v^T,  o = S^T qhat,  in place. Least traffic: the state once in
// and once out. Tile: a block has the rows of one item, and of its columns 128 at a time (64 of double); a thread has 16
// bytes of a row, of which four rows are on their way at any time, the first ones before the weights are known. Where items are
// few, or columns apart, a thread has one column, and 16 rows of it are on their way.

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// What a row of the state is multiplied by, and by what v and q are that go in and out: a, khat, qhat, kappa. a is -1
/// where the row holds nothing, whatever lies there.
template <class A>
struct alignas(16) step_factors {
  A keep, key, query, input;
};

/// The weight of a channel that has taken a token in.
template <class A>
struct step_weight {
  A keep, weight, reciprocal;
  std::int32_t exponent;
  A normaliser;
};

/// One token of all items.
template <class Recurrence, class Position, int Dims, class T>
struct step_of_items {
  using job_type = recurrence_job<Recurrence, Position, Dims, T>;
  using A = typename job_type::A;
  using layout_type = step_layout<A>;
  static constexpr bool framed = Recurrence::framed, per_channel = Recurrence::per_channel;

  job_type job;  // its state is read and written
  typename job_type::state_type state;
  head_sequence<Dims, T, cuda> o;
  layout_type layout;
  bool in_clusters;  // the blocks of an item can wait for each other

  /// The sequence and head of an item: its line is a single token, 0.
  __device__ line_of_head line(std::int64_t item) const {
    const std::int64_t batch = item / job.from.heads;
    return {{batch, batch, 0, 0, 1, 1}, item - batch * job.from.heads, item};
  }
  /// The weight of channel w of a token that is on.
  __device__ step_weight<A> weight(const line_of_head& at, std::int64_t w) const {
    const A x = job.logit(at, 0, w), nan = limits<A>::not_a_number;
    const bool bad = job_type::bad_logit(x);
    if constexpr (framed) {
      const std::int32_t given = state.exponent(at.line.sequence, at.head, w);
      const A before = state.normaliser(at.line.sequence, at.head, w);
      const bool empty = given <= empty_exponent;
      const std::int32_t m = empty ? empty_exponent : given;
      const scaled<A> power = scaled_exponential(bad ? A(0) : x);
      const std::int32_t frame = power.exponent > m ? power.exponent : m;
      const A own = bad ? nan : lower_by_power_of_two(power.mantissa, power.exponent - frame);
      const A keep = lower_by_power_of_two(A(1), m - frame);
      const A z = empty ? own : multiply_add(keep, before, own);
      return {empty ? A(-1) : keep, job_type::running ? z : own, inverse_of(z), frame, z};
    } else {
      return {bad ? nan : Recurrence::with_sign ? x : exponential(x), A(1), A(1), 0, A(1)};
    }
  }
  __device__ void keep_weight(const line_of_head& at, std::int64_t w, const step_weight<A>& of) const {
    if constexpr (framed) {
      state.exponent(at.line.sequence, at.head, w) = of.exponent;
      state.normaliser(at.line.sequence, at.head, w) = of.normaliser;
    } else {
      if (state.decay) state.decay(at.line.sequence, at.head, w) *= of.keep;
      if (Recurrence::logits == logits_from::head && of.keep != of.keep) atomicOr(job.bad_content, 1U);
    }
  }
  /// A token that is not on leaves a weight as it is; an empty one holds nothing.
  __device__ void clear_weight(const line_of_head& at, std::int64_t w) const {
    if constexpr (framed) {
      if (job.begins_empty(at, w)) state.normaliser(at.line.sequence, at.head, w) = A(0);
    }
  }
  /// Whether several blocks read the weights of an item, which are not to be written before.
  LIGHTNET_HOST_DEVICE bool shares_weights() const { return framed && layout.parts > 1; }
  /// Whether a block writes the weights of its item as soon as it has read them.
  LIGHTNET_HOST_DEVICE bool keeps_weights(unsigned part) const { return part == 0 && !shares_weights(); }

  /// Writes the weights of a state that every block has read: weight n of all items.
  __device__ void operator()(std::int64_t n) const {
    const line_of_head at = line(n / job.width);
    const std::int64_t w = n % job.width;
    if (job.on(at, 0)) {
      keep_weight(at, w, weight(at, w));
    } else {
      clear_weight(at, w);
    }
  }

  __device__ void write(const line_of_head& at, std::int64_t column, A y) const {
    o.token(at.line.batch, at.head, 0)[column * o.channel_stride()] = static_cast<T>(y);
  }
  /// What a token that is not on does: its output is 0, and what is empty holds nothing afterwards.
  __device__ void skip(const line_of_head& at, unsigned part) const {
    const std::int64_t first = std::int64_t{part} * layout_type::threads + threadIdx.x, values = job.from.values;
    for (std::int64_t j = first; j < values; j += std::int64_t{layout.parts} * layout_type::threads) {
      write(at, j, A(0));
#pragma unroll 1
      for (std::int64_t r = 0; framed && r < job.from.stored_keys; ++r) {
        const std::int64_t w = per_channel ? (r < job.from.keys ? r : r - job.from.keys) : 0;
        if (job.begins_empty(at, w)) state.sum(at.line.sequence, at.head, r, j) = A(0);
      }
    }
#pragma unroll 1
    for (std::int64_t w = threadIdx.x; w < job.width && keeps_weights(part); w += layout_type::threads) {
      clear_weight(at, w);
    }
  }

  /// The factors of all rows, in shared memory: [d'], behind them [d] where they are encoded.
  __device__ void make_factors(const line_of_head& at, bool keeps, step_factors<A>* factors) const {
    const std::int64_t keys = job.from.keys, rows = job.from.stored_keys;
    step_factors<A>* const plain = Position::encodes ? factors + rows : factors;
#pragma unroll 1
    for (std::int64_t i = threadIdx.x; i < keys; i += layout_type::threads) {
      const A q = job_type::element(job.from.q, at, 0, i);
      const step_weight<A> of = weight(at, per_channel ? i : 0);
      if (per_channel && keeps) keep_weight(at, i, of);
      const A kappa = job.kappa(at, 0, i);
      plain[i] = {of.keep, kappa * of.weight, q * of.reciprocal, kappa};
    }
    __syncthreads();
    if (!per_channel && keeps && threadIdx.x == 0) keep_weight(at, 0, weight(at, 0));
    if constexpr (Position::encodes) {
      const A *const cosine = job.cosine(at, 0), *const sine = job.sine(at, 0);
      const auto encoded = [&](std::int64_t r, A step_factors<A>::*factor) {
        const auto element = [plain, factor](std::int64_t i) { return plain[i].*factor; };
        return Position::encoded(row_of_elements(element), r, cosine, sine, keys, job.from.cosine.extent(2));
      };
#pragma unroll 1
      for (std::int64_t r = threadIdx.x; r < rows; r += layout_type::threads) {
        factors[r] = {plain[r < keys ? r : r - keys].keep, encoded(r, &step_factors<A>::key),
                      encoded(r, &step_factors<A>::query), encoded(r, &step_factors<A>::input)};
      }
      __syncthreads();
    }
  }
};

template <bool Wide, class Step>
__global__ void __launch_bounds__(step_layout<typename Step::A>::threads, 4)
    recurrence_step_kernel(const __grid_constant__ Step step) {
  using A = typename Step::A;
  using layout_type = typename Step::layout_type;
  using rows_type = step_rows<Wide, A>;
  constexpr int columns = rows_type::columns, warps = layout_type::warps;
  extern __shared__ __align__(16) unsigned char shared_memory[];
  __shared__ A partial[warps][32 * columns];
  auto* const factors = reinterpret_cast<step_factors<A>*>(shared_memory);
  const auto& job = step.job;
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32;
  const int lanes = step.layout.lanes, width = step.layout.width();
  const int lane = thread % lanes, group = thread / lanes, groups = layout_type::threads / lanes;
  const unsigned part = blockIdx.x % step.layout.parts;
  const line_of_head at = step.line(blockIdx.x / step.layout.parts);
  const auto rows_of = [&](const auto& state, std::int64_t stripe) {
    return rows_type{state, at.line.batch, at.head, stripe * width + lane * columns, group, groups};
  };

  take_turn();
  A x[rows_type::ahead][columns], value[columns];
  const auto begin = [&](std::int64_t stripe) {
    const auto sums = rows_of(step.state.sum, stripe);
    sums.load_first(x);
    LIGHTNET_UNROLL
    for (int c = 0; c < columns; ++c) {
      value[c] = c < sums.count ? job.element(job.from.v, at, 0, stripe * width + lane * columns + c) : A(0);
    }
  };
  begin(part);
  const bool on = job.on(at, 0);
  if (on) {
    step.make_factors(at, step.keeps_weights(part), factors);
  } else {
    step.skip(at, part);
  }
  if (step.in_clusters) arrive_at_cluster();
  for (std::int64_t stripe = part; on && stripe < step.layout.stripes; stripe += step.layout.parts) {
    if (stripe != part) begin(stripe);
    const auto sums = rows_of(step.state.sum, stripe);
    A y[columns] = {};
    sums.walk(x, [&](int row, A(&s)[columns]) {
      const step_factors<A> by = factors[row];
      LIGHTNET_UNROLL
      for (int c = 0; c < columns; ++c) {
        const A before = Step::framed && by.keep < A(0) ? A(0) : by.keep * s[c];  // 0 keeps a NaN
        s[c] = multiply_add(by.key, value[c], before);
        y[c] = multiply_add(by.query, s[c], y[c]);
      }
    });
    if constexpr (Step::job_type::running) {
      if (step.state.input) {
        const auto inputs = rows_of(step.state.input, stripe);
        inputs.load_first(x);
        inputs.walk(x, [&](int row, A(&s)[columns]) {
          LIGHTNET_UNROLL
          for (int c = 0; c < columns; ++c) s[c] = multiply_add(factors[row].input, value[c], s[c]);
        });
      }
    }
    LIGHTNET_UNROLL
    for (int c = 0; c < columns; ++c) {
      for (int offset = lanes; offset < 32; offset *= 2) y[c] += __shfl_xor_sync(~0U, y[c], offset);
    }
    if (thread % 32 < lanes) {
      LIGHTNET_UNROLL
      for (int c = 0; c < columns; ++c) partial[warp][lane * columns + c] = y[c];
    }
    __syncthreads();
    const std::int64_t column = stripe * width + thread;
    if (thread < width && column < job.from.values) {
      A sum = partial[0][thread];
      LIGHTNET_UNROLL
      for (int w = 1; w < warps; ++w) sum += partial[w][thread];
      step.write(at, column, sum);
    }
    __syncthreads();  // before the next stripe's
  }
  if (step.in_clusters) {
    wait_for_cluster();
    if (part != 0) return;
#pragma unroll 1
    for (std::int64_t w = thread; w < job.width; w += layout_type::threads) step(at.item * job.width + w);
  }
}

/// One token of every sequence and head. `outputs.state` is read and written in place; `arguments.state` is not used.
template <class Recurrence, class Position, int Dims, class T>
void linear_recurrence_step(execution<cuda>& on, const recurrence_arguments<Recurrence, Dims, T, cuda>& arguments,
                            const recurrence_outputs<Recurrence, Dims, T, cuda>& outputs) {
  constexpr const char* operation = "scan_step";
  using step_type = step_of_items<Recurrence, Position, Dims, T>;
  using A = typename step_type::A;
  const std::int64_t items = arguments.items();
  bool wide = dense_columns(outputs.state.sum) && items >= on.processors();
  if constexpr (step_type::job_type::running) {
    wide = wide && (!outputs.state.input || dense_columns(outputs.state.input));
  }
  step_type step{
      {}, outputs.state, outputs.o, step_layout<A>::of(arguments.values, wide, items, on.processors()), false};
  step.job.from = arguments;
  step.job.from.state = outputs.state;
  step.job.tokens = 1;
  step.job.width = arguments.weights();
  step.job.bad_content = on.bad_content();
  const std::int64_t rows = arguments.stored_keys + (Position::encodes ? arguments.keys : 0);
  step.in_clusters = step.shares_weights() && on.launches_ahead();
  const launch_shape shape{items * step.layout.parts, step_layout<A>::threads,
                           static_cast<std::size_t>(rows) * sizeof(step_factors<A>),
                           step.in_clusters ? step.layout.parts : 1};
  if (wide) {
    launch_ahead(on, operation, shape, recurrence_step_kernel<true, step_type>, step);
  } else {
    launch_ahead(on, operation, shape, recurrence_step_kernel<false, step_type>, step);
  }
  if constexpr (step_type::framed) {
    if (step.shares_weights() && !step.in_clusters) for_each(on, operation, items * step.job.width, step);
  }
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
