// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/elementwise_tile.cuh>
#include <lightnet/backend/elementwise_operands.hpp>

#include <type_traits>

// h_t = a_t h_{t-1} + x_t, every channel by itself; o = h. At least three numbers a token and channel pass through
// memory forward (x, log a, o), seven backward (x, log a; then x, log a, do, dx, dlog a). Tile: 256 tokens of a line by
// 32 channels, which a block holds in registers, a warp 16 tokens of it. Every bracket is fixed by the place in the line:
// h steps from token to token in 16 tokens, from 16 to 16 in a tile, and from tile to tile by tile_chain.

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Blocks of which the processor has at least so many at once: all registers are shared out then.
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
