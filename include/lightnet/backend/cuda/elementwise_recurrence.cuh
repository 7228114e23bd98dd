// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/packed_lengths.cuh>
#include <lightnet/backend/cuda/tile_chain.cuh>
#include <lightnet/backend/elementwise_recurrence.hpp>
#include <lightnet/core/math.hpp>

#include <type_traits>

// h_t = a_t h_{t-1} + x_t, every channel by itself; o = h. At least three numbers a token and channel pass through
// memory forward (x, log a, o), seven backward (x, log a; then x, log a, do, dx, dlog a). Tile: 256 tokens of a line by 32
// channels, which a block holds in registers, a warp 16 tokens of it. Every bracket is fixed by the place in the line:
// h steps from token to token in 16 tokens, from 16 to 16 in a tile, and from tile to tile by tile_chain.

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// What a tile of the element-wise recurrence is.
struct elementwise_tile {
  static constexpr int warp_tokens = 16, warps = 16, tokens = warp_tokens * warps, channels = 32;
};

/// One channel of some tokens of a line. Scattered: no stride leads from each token to the next.
template <bool Scattered, int Dims, class U>
class channel_walk {
 public:
  __device__ channel_walk(const head_sequence<Dims, U, cuda>& sequence, const token_line& line, std::int64_t first,
                          std::int64_t head, std::int64_t channel)
      : sequence_{sequence}, line_{line}, first_{first}, head_{head}, offset_{channel * sequence.channel_stride()} {
    if constexpr (!Scattered) {
      if (!sequence) return;
      at_ = sequence.token(line.batch, head, line.token(first)) + offset_;
      if (line.length > 1) step_ = sequence.token(0, 0, line.first + line.step) - sequence.token(0, 0, line.first);
    }
  }
  __device__ U& operator[](int i) const {
    if constexpr (Scattered) return place(sequence_, line_.batch, head_, line_.token(first_ + i))[offset_];
    return at_[i * step_];
  }

 private:
  // Divisions for each axis, too long to have in a loop that is unrolled.
  __device__ __noinline__ static U* place(const head_sequence<Dims, U, cuda>& sequence, std::int64_t batch,
                                          std::int64_t head, std::int64_t token) {
    return sequence.token(batch, head, token);
  }

  const head_sequence<Dims, U, cuda>& sequence_;
  const token_line& line_;
  std::int64_t first_, head_, offset_;
  U* at_ = nullptr;
  std::int64_t step_ = 0;
};

/// The steps h -> decay h + sum of the tokens of each warp, and of the way back, g -> decay g + returned.
template <class A>
struct warp_steps {
  using rows = A[elementwise_tile::warps][elementwise_tile::channels];
  rows decay, sum, returned;

  /// h before warp `last` from h before the tile.
  __device__ A forward(A h, int last, int lane) const {
    for (int w = 0; w < last; ++w) h = multiply_add(decay[w][lane], h, sum[w][lane]);
    return h;
  }
  /// g after warp `last` from g after the tile.
  __device__ A backward(A g, int last, int lane) const {
    for (int w = static_cast<int>(blockDim.x) / 32 - 1; w > last; --w) {
      g = multiply_add(decay[w][lane], g, returned[w][lane]);
    }
    return g;
  }
  /// The decay of the tile.
  __device__ A product(int lane) const {
    A all = A(1);
    for (int w = 0; w < static_cast<int>(blockDim.x) / 32; ++w) all *= decay[w][lane];
    return all;
  }
};

/// A warp's part of a tile: 16 tokens of a line, 32 channels of which each lane has one.
template <bool Scattered, class Recurrence, int Dims, class T>
struct warp_tile {
  using A = accumulator<T>;
  using tile = elementwise_tile;
  static constexpr int tokens = tile::warp_tokens;

  const elementwise_arguments<Recurrence, Dims, T, cuda>& from;
  token_line line;
  int warp, lane;
  std::int64_t first, column;  // token of the line, channel of the row
  bool active;                 // the lane has a channel
  std::int64_t head, channel;
  int count;
  unsigned on;  // which tokens count, the same for all lanes

  __device__ warp_tile(const elementwise_arguments<Recurrence, Dims, T, cuda>& arguments, const chain_tile& here)
      : from{arguments},
        line{arguments.lines[here.line]},
        warp{static_cast<int>(threadIdx.x) / 32},
        lane{static_cast<int>(threadIdx.x) % 32},
        first{here.index * tile::tokens + warp * tokens},
        column{here.group * tile::channels + lane},
        active{column < arguments.row()},
        head{active ? column / arguments.channels : 0},
        channel{active ? column % arguments.channels : 0} {
    const std::int64_t left = line.length - first;
    count = static_cast<int>(left < 0 ? 0 : left < tokens ? left : tokens);
    on = __ballot_sync(~0U, lane < count && (!from.mask || from.mask(line.batch, line.token(first + lane))));
  }

  template <class U>
  using walk_of = channel_walk<Scattered, Dims, U>;
  template <class U>
  __device__ walk_of<U> walk(const head_sequence<Dims, U, cuda>& sequence) const {
    return {sequence, line, first, head, channel};
  }

  /// Whether the lane has something to read at token i.
  __device__ bool reads(int i) const { return active && (on >> i & 1U) != 0; }

  /// The tokens' numbers in registers, `otherwise` where one does not count. What follows is 16 loads on their way at once.
  __device__ void read(const head_sequence<Dims, const T, cuda>& sequence, A otherwise, A (&to)[tokens]) const {
    const auto numbers = walk(sequence);
    LIGHTNET_UNROLL
    for (int i = 0; i < tokens; ++i) {
      to[i] = otherwise;
      if (reads(i)) to[i] = static_cast<A>(numbers[i]);
    }
  }
  /// a; 1 where a token does not count.
  __device__ void read_decays(A (&to)[tokens]) const {
    read(from.decay, Recurrence::with_sign ? A(1) : A(0), to);
    LIGHTNET_UNROLL
    for (int i = 0; i < tokens; ++i) to[i] = decay_of<Recurrence::with_sign>(to[i]);
  }

  /// Writes a token's number, or adds it to what is there; 0 where the token does not count.
  template <class U>
  __device__ void write(const walk_of<U>& to, int i, A value, bool add) const {
    if (i >= count) return;
    const A y = reads(i) ? value : A(0);
    to[i] = static_cast<U>(add ? static_cast<A>(to[i]) + y : y);
  }
  /// The lane's number of a part of a state [B, H, d].
  template <class U>
  __device__ U& of(const dynamic_view<3, U, cuda>& part) const {
    return part(line.sequence, head, channel);
  }
};

template <class A>
inline constexpr int elementwise_blocks_together = sizeof(A) == 4 ? 2 : 1;

template <bool Scattered, class Recurrence, int Dims, class T, class U>
__global__ void __launch_bounds__(elementwise_tile::warps * 32, elementwise_blocks_together<accumulator<T>>)
    elementwise_forward_kernel(const __grid_constant__ elementwise_arguments<Recurrence, Dims, T, cuda> from,
                               const __grid_constant__ elementwise_outputs<Recurrence, Dims, U, cuda> to,
                               const tile_chain<accumulator<T>> chain) {
  using A = accumulator<T>;
  using part_type = warp_tile<Scattered, Recurrence, Dims, T>;
  constexpr int tokens = part_type::tokens;
  __shared__ warp_steps<A> steps;
  __shared__ A begins[elementwise_tile::channels];
  const chain_tile here = chain.next_tile(from.lines, false);
  if (!here.exists) return;
  const part_type part{from, here};
  const int warp = part.warp, lane = part.lane;

  A a[tokens], x[tokens];  // in place of x, -0 leaves every h as it is
  part.read(from.x, A(-0.0), x);
  part.read_decays(a);
  A decay = A(1), sum = A(0);
  LIGHTNET_UNROLL
  for (int i = 0; i < tokens; ++i) {
    decay *= a[i];
    sum = multiply_add(a[i], sum, x[i]);
  }
  steps.decay[warp][lane] = decay;
  steps.sum[warp][lane] = sum;
  __syncthreads();

  if (warp == 0 && part.active) {
    const std::int64_t slot = here.slot, column = part.column;
    const A product = steps.product(lane), total = steps.forward(A(0), static_cast<int>(blockDim.x) / 32, lane);
    if (!here.last) chain.leave_step(slot, column, product, total);
    A h = A(0);
    if (here.index > 0) {
      h = chain.begin(slot, 1, here.index, column);
    } else if (from.state.h) {
      h = part.of(from.state.h);
    }
    if (!here.last) chain.leave_end(slot, column, multiply_add(product, h, total));
    begins[lane] = h;
    if (here.last && to.state.decay) {
      A all = from.state.decay ? part.of(from.state.decay) : A(1);
      for (std::int64_t k = here.index; k > 0; --k) all *= chain.decay(slot - k, column);
      part.of(to.state.decay) = all * product;
    }
  }
  __syncthreads();
  if (!part.active || (!to.o && !to.state.h)) return;

  A h = steps.forward(begins[lane], warp, lane);
  const auto o = part.walk(to.o);
  LIGHTNET_UNROLL
  for (int i = 0; i < tokens; ++i) {
    h = multiply_add(a[i], h, x[i]);
    if (to.o) part.write(o, i, h, to.accumulate);
  }
  // The state is that of the warp with the line's last token, or of the first where a line has none.
  const bool ends = part.first + tokens >= part.line.length && (part.count > 0 || part.first == 0);
  if (ends && to.state.h) part.of(to.state.h) = h;
}

template <bool Scattered, class Recurrence, int Dims, class T, class U>
__global__ void __launch_bounds__(elementwise_tile::warps * 32, elementwise_blocks_together<accumulator<T>>)
    elementwise_backward_kernel(const __grid_constant__ elementwise_arguments<Recurrence, Dims, T, cuda> from,
                                const __grid_constant__ elementwise_gradients<Dims, T, U, cuda> to,
                                const tile_chain<accumulator<T>> forward, const tile_chain<accumulator<T>> chain) {
  using A = accumulator<T>;
  using part_type = warp_tile<Scattered, Recurrence, Dims, T>;
  constexpr int tokens = part_type::tokens;
  __shared__ warp_steps<A> steps;
  __shared__ A begins[elementwise_tile::channels], ends[elementwise_tile::channels];
  const chain_tile here = chain.next_tile(from.lines, true);
  if (!here.exists) return;
  const part_type part{from, here};
  const int warp = part.warp, lane = part.lane;

  A a[tokens], w[tokens];  // w: do first
  part.read_decays(a);
  if (to.decay) {  // x is read again below, from a cache: in registers there is no room for it
    A x[tokens], sum = A(0);
    part.read(from.x, A(-0.0), x);
    LIGHTNET_UNROLL
    for (int i = 0; i < tokens; ++i) sum = multiply_add(a[i], sum, x[i]);
    steps.sum[warp][lane] = sum;
  }
  part.read(to.o, A(-0.0), w);
  A decay = A(1), returned = A(0);
  LIGHTNET_UNROLL
  for (int i = tokens - 1; i >= 0; --i) {
    decay *= a[i];
    returned = a[i] * (returned + w[i]);
  }
  steps.decay[warp][lane] = decay;
  steps.returned[warp][lane] = returned;
  __syncthreads();

  if (warp == 0 && part.active) {
    const std::int64_t slot = here.slot, column = part.column;
    const A product = steps.product(lane), total = steps.backward(A(0), -1, lane);
    if (here.index > 0) chain.leave_step(slot, column, product, total);
    A g = A(0);
    if (!here.last) {
      const std::int64_t behind = (part.line.length - 1) / elementwise_tile::tokens - here.index;
      g = chain.begin(slot, -1, behind, column);
    } else if (to.final_state) {
      g = part.of(to.final_state);
    }
    if (here.index > 0) chain.leave_end(slot, column, multiply_add(product, g, total));
    ends[lane] = g;
    if (to.decay) {
      begins[lane] = here.index > 0 ? forward.end(slot - 1, column) : from.state.h ? part.of(from.state.h) : A(0);
    }
  }
  __syncthreads();
  if (!part.active) return;

  A g = steps.backward(ends[lane], warp, lane);
  const auto dx = part.walk(to.x), ddecay = part.walk(to.decay);
  LIGHTNET_UNROLL
  for (int i = tokens - 1; i >= 0; --i) {
    w[i] += g;
    g = a[i] * w[i];
    if (to.x) part.write(dx, i, w[i], to.accumulate);
  }
  if (part.first == 0 && to.state) part.of(to.state) = g;
  if (!to.decay) return;
  const auto x = part.walk(from.x);
  A h = steps.forward(begins[lane], warp, lane);
  LIGHTNET_UNROLL
  for (int i = 0; i < tokens; ++i) {
    const A step = part.reads(i) ? static_cast<A>(x[i]) : A(-0.0);
    part.write(ddecay, i, (Recurrence::with_sign ? w[i] : a[i] * w[i]) * h, to.accumulate);
    h = multiply_add(a[i], h, step);
  }
}

/// How a call is cut into tiles, and whether there is anything to do.
template <class Recurrence, int Dims, class T>
struct elementwise_plan {
  elementwise_arguments<Recurrence, Dims, T, cuda> from;
  int threads = 0;

  elementwise_plan(execution<cuda>& on, execution<cuda>::scope& scratch, const char* operation,
                   const elementwise_arguments<Recurrence, Dims, T, cuda>& arguments)
      : from{arguments} {
    if (empty()) return;
    from.lines = accept_lengths(on, scratch, operation, arguments.lines);
    const std::int64_t warps =
        (from.lines.longest() + elementwise_tile::warp_tokens - 1) / elementwise_tile::warp_tokens;
    threads = 32 * static_cast<int>(warps < 1 ? 1 : warps < elementwise_tile::warps ? warps : elementwise_tile::warps);
  }
  bool empty() const { return from.row() == 0 || from.lines.count() == 0; }

  tile_chain<accumulator<T>> chain(execution<cuda>& on, execution<cuda>::scope& scratch, const char* operation) const {
    return {on, scratch, operation, from.lines, elementwise_tile::tokens, from.row(), elementwise_tile::channels};
  }
  /// Calls `call(std::bool_constant<scattered>)`.
  template <class Call, class... Sequence>
  void with_walk(const Call& call, const Sequence&... sequences) const {
    if constexpr (Dims > 1) {
      std::int64_t stride = 0;
      const bool even = ((!sequences || sequences.evenly_spaced(stride)) && ...);
      if (from.lines.axis == token_lines<Dims, cuda>::flattened && !even) return call(std::true_type{});
    }
    call(std::false_type{});
  }
};

/// o = h along every line, from the initial state to the final one.
template <class Recurrence, int Dims, class T, class U>
void elementwise_recurrence_forward(execution<cuda>& on,
                                    const elementwise_arguments<Recurrence, Dims, T, cuda>& arguments,
                                    const elementwise_outputs<Recurrence, Dims, U, cuda>& outputs) {
  constexpr const char* operation = "scan";
  execution<cuda>::scope scratch{on};
  const elementwise_plan<Recurrence, Dims, T> plan{on, scratch, operation, arguments};
  if (plan.empty()) return;
  const auto chain = plan.chain(on, scratch, operation);
  plan.with_walk(
      [&](auto scattered) {
        launch(on, operation, {chain.blocks(), plan.threads},
               elementwise_forward_kernel<decltype(scattered)::value, Recurrence, Dims, T, U>, plan.from, outputs,
               chain);
      },
      arguments.x, arguments.decay, outputs.o);
}

/// The gradients along every line:
///   w_t = a_{t+1} w_{t+1} + do_t (+ dh_N at the end),  dx_t = w_t,  dlog a_t = a_t w_t h_{t-1},  dh_0 = a_1 w_1,
/// and da_t = w_t h_{t-1} where decays have a sign. Where lines have several tiles and decays a gradient, a pass forward
/// leaves the h at the end of every tile; a pass back finds the others again.
template <class Recurrence, int Dims, class T, class U>
void elementwise_recurrence_backward(execution<cuda>& on,
                                     const elementwise_arguments<Recurrence, Dims, T, cuda>& arguments,
                                     const elementwise_gradients<Dims, T, U, cuda>& gradients) {
  constexpr const char* operation = "scan_backward";
  execution<cuda>::scope scratch{on};
  const elementwise_plan<Recurrence, Dims, T> plan{on, scratch, operation, arguments};
  if (plan.empty()) return;
  const auto chain = plan.chain(on, scratch, operation);
  auto forward = chain;
  const bool leaves_ends = chain.memory && gradients.decay;
  if (leaves_ends) forward = plan.chain(on, scratch, operation);
  plan.with_walk(
      [&](auto scattered) {
        constexpr bool is_scattered = decltype(scattered)::value;
        if (leaves_ends) {
          launch(on, operation, {chain.blocks(), plan.threads},
                 elementwise_forward_kernel<is_scattered, Recurrence, Dims, T, T>, plan.from,
                 elementwise_outputs<Recurrence, Dims, T, cuda>{}, forward);
        }
        launch(on, operation, {chain.blocks(), plan.threads},
               elementwise_backward_kernel<is_scattered, Recurrence, Dims, T, U>, plan.from, gradients, forward, chain);
      },
      arguments.x, arguments.decay, gradients.o, gradients.x, gradients.decay);
}

/// h = right.decay left.h + right.h of every sequence, and the product of the decays where `to` has one.
template <class Recurrence, class T>
void merge_vector_states(execution<cuda>& on, const typename Recurrence::template state<const T, cuda>& left,
                         const typename Recurrence::template state<const T, cuda>& right,
                         const typename Recurrence::template state<T, cuda>& to) {
  for_each(on, "merge_states", left.h.size(), merge_vectors<Recurrence, T, cuda>{left, right, to});
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
