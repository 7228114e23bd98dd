// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/elementwise_tile.cuh>
#include <lightnet/backend/elementwise_operands.hpp>

#include <type_traits>

// h_t = a_t h_{t-1} + x_t, every channel by itself; o = h. At least three numbers a token and channel pass through
// memory forward (x, log a, o), seven backward (x, log a; then x, log a, do, dx, dlog a). Tile: 256 tokens of a line (128
// in double) by 32 channels, or 64 of two bytes. Every bracket is fixed by the place in the line: h steps from token to
// token in 16 tokens, from 16 to 16 in a tile, and from tile to tile by tile_chain. Forward a block has several tiles one
// after another, the next of them on its way through shared memory while it works on one: x stays there and a, which
// both passes over a tile need, is in registers.

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// The tiles that a block of the forward pass has: the one that it works on, the next one and the one after that.
template <bool Scattered, class T, class U>
struct tile_queue {
  static constexpr int length = 4;
  struct entry {
    bool there;
    tile_place place;
    tile_walk<const T> x, decay;
    tile_walk<U> o;
  };
  entry entries[length];

  __device__ const entry& operator[](int n) const { return entries[static_cast<unsigned>(n) % length]; }

  /// Finds the block's n-th tile, if there is one left. One thread calls it.
  template <class From, class To, class A>
  __device__ void find(int n, const From& from, const To& to, const tile_chain<A>& chain, int channels) {
    entry& found = entries[static_cast<unsigned>(n) % length];
    const unsigned number = chain.take(n);
    found.there = number < chain.count();
    if (!found.there) return;
    found.place = place_of(from, chain, number, channels, false);
    found.x = walk_through<Scattered>(from.x, found.place);
    found.decay = walk_through<Scattered>(from.decay, found.place);
    found.o = walk_through<Scattered>(to.o, found.place);
  }
};

/// The step of a whole tile in a channel, h -> decay h + sum.
template <class A>
struct tile_step {
  A decay, sum;

  template <class Steps>
  __device__ tile_step(const Steps& steps, int channel) : decay{A(1)}, sum{A(-0.0)} {
    steps.compose(static_cast<int>(blockDim.x) / 32, channel, decay, sum);
  }
};

/// A channel of a tile: waits for h before it, leaves the tile's end, and gives every warp its h.
template <class Arguments, class Outputs, class A, class Part, class Steps>
__device__ void begin_tile(const Arguments& from, const Outputs& to, const tile_chain<A>& chain, const Part& part,
                           Steps& steps, int channel) {
  const chain_tile& here = part.place.tile;
  const std::int64_t column = part.place.column + channel;
  A h = A(0);
  if (here.index > 0) {
    h = chain.begin(here.slot, 1, here.index, column);
  } else if (from.state.h) {
    h = part.of(from.state.h, channel);
  }
  const tile_step<A> whole{steps, channel};
  if (!here.last) chain.leave_end(here.slot, column, multiply_add(whole.decay, h, whole.sum));
  steps.begin(static_cast<int>(blockDim.x) / 32, channel, h);
  if (here.last && to.state.decay) {
    A all = from.state.decay ? part.of(from.state.decay, channel) : A(1);
    for (std::int64_t k = here.index; k > 0; --k) all *= chain.decay(here.slot - k, column);
    part.of(to.state.decay, channel) = all * whole.decay;
  }
}

/// The blocks of a processor that share its memory.
inline constexpr int elementwise_blocks = 2;

template <bool Scattered, int Together, class Recurrence, int Dims, class T, class U>
__global__ void __launch_bounds__(elementwise_tile<accumulator<T>>::warps * 32, elementwise_blocks)
    elementwise_forward_kernel(const __grid_constant__ elementwise_arguments<Recurrence, Dims, T, cuda> from,
                               const __grid_constant__ elementwise_outputs<Recurrence, Dims, U, cuda> to,
                               const __grid_constant__ tile_chain<accumulator<T>> chain, const int stages) {
  using A = accumulator<T>;
  using part_type = warp_tile<Scattered, Together, Recurrence, Dims, T>;
  using word = typename part_type::word;
  constexpr int tokens = part_type::tokens, channels = part_type::channels;
  extern __shared__ __align__(16) unsigned char shared_memory[];
  __shared__ warp_steps<A, channels> steps;
  __shared__ tile_queue<Scattered, T, U> queue;
  const int threads = static_cast<int>(blockDim.x), thread = static_cast<int>(threadIdx.x);
  const bool finds = thread == threads - 1;  // of the last warp, for the first ones have the chain
  // [1 + stages, warps, tokens, 32]: log a of a tile and x of one or two; each thread reads what it has copied itself.
  word* const given_a = reinterpret_cast<word*>(shared_memory) + thread / 32 * tokens * 32 + thread % 32;
  const auto given_x = [&](int n) { return given_a + (1 + (n & (stages - 1))) * tokens * threads; };
  const auto fetch = [&](int n) {
    const auto& entry = queue[n];
    const part_type next{from, entry.place};
    next.fetch(next.walk(from.decay, entry.decay), part_type::no_decay, given_a);
    next.fetch(next.walk(from.x, entry.x), part_type::no_input, given_x(n));
  };

  if (finds) queue.find(0, from, to, chain, channels);
  __syncthreads();
  if (!queue[0].there) return;
  // Before the first tile is there (n = -1) it is fetched, and only then the second one found: all blocks have one first.
  for (int n = -1; n < 0 || queue[n].there; ++n) {
    const bool works = n >= 0, more = queue[n + 1].there;
    const auto& entry = queue[works ? n : 0];
    const part_type part{from, entry.place};
    const int warp = part.warp, channel = part.lane * Together;
    const word* const given = given_x(n);
    A a[tokens][Together], x[Together];
    if (works) {
      wait_for_copies();
      A decay[Together], sum[Together];
      LIGHTNET_UNROLL
      for (int c = 0; c < Together; ++c) decay[c] = A(1), sum[c] = part_type::no_input;
      LIGHTNET_UNROLL
      for (int i = 0; i < tokens; ++i) {
        widen(given_a[i * 32], a[i]);
        widen(given[i * 32], x);
        LIGHTNET_UNROLL
        for (int c = 0; c < Together; ++c) {
          a[i][c] = part_type::decay(a[i][c]);
          decay[c] *= a[i][c];
          sum[c] = multiply_add(a[i][c], sum[c], x[c]);
        }
      }
      LIGHTNET_UNROLL
      for (int c = 0; c < Together; ++c) {
        steps.decay[warp][channel + c] = decay[c];
        steps.sum[warp][channel + c] = sum[c];
      }
    }
    __syncthreads();
    const bool chained = works && entry.place.tile.exists;
    const auto own_channels =
        static_cast<int>(from.row() - entry.place.column < channels ? from.row() - entry.place.column : channels);
    if (chained && !entry.place.tile.last) {
      for (int c = thread; c < own_channels; c += threads) {
        const tile_step<A> whole{steps, c};
        chain.leave_step(entry.place.tile.slot, entry.place.column + c, whole.decay, whole.sum);
      }
    }
    if (more && (stages > 1 || !works)) fetch(n + 1);
    if (chained) {
      for (int c = thread; c < own_channels; c += threads) begin_tile(from, to, chain, part, steps, c);
    }
    if (finds && more) queue.find(n + 2, from, to, chain, channels);
    __syncthreads();

    if (works && part.active && (to.o || to.state.h)) {
      A h[Together];
      LIGHTNET_UNROLL
      for (int c = 0; c < Together; ++c) h[c] = steps.sum[warp][channel + c];
      const auto steps_to = [&](int i) {
        widen(given[i * 32], x);
        LIGHTNET_UNROLL
        for (int c = 0; c < Together; ++c) h[c] = multiply_add(a[i][c], h[c], x[c]);
      };
      auto o = part.walk(to.o, entry.o);
      if (to.o && part.on == part_type::all && !to.accumulate) {
        LIGHTNET_UNROLL
        for (int i = 0; i < tokens; ++i) {
          steps_to(i);
          part.store(o.next(), h);
        }
      } else {
        LIGHTNET_UNROLL
        for (int i = 0; i < tokens; ++i) {
          steps_to(i);
          U* const at = o.next();
          if (to.o) part.write(at, i, h, to.accumulate);
        }
      }
      LIGHTNET_UNROLL
      for (int c = 0; c < Together; ++c) {
        if (to.state.h && part.ends()) part.of(to.state.h, channel + c) = h[c];
      }
    }
    if (works && more && stages == 1) fetch(n + 1);
  }
}

template <bool Scattered, class Recurrence, int Dims, class T, class U>
__global__ void __launch_bounds__(elementwise_tile<accumulator<T>>::warps * 32, elementwise_blocks)
    elementwise_backward_kernel(const __grid_constant__ elementwise_arguments<Recurrence, Dims, T, cuda> from,
                                const __grid_constant__ elementwise_gradients<Dims, T, U, cuda> to,
                                const __grid_constant__ tile_chain<accumulator<T>> forward,
                                const __grid_constant__ tile_chain<accumulator<T>> chain) {
  using A = accumulator<T>;
  using part_type = warp_tile<Scattered, 1, Recurrence, Dims, T>;
  constexpr int tokens = part_type::tokens, channels = part_type::channels;
  __shared__ warp_steps<A, channels> steps;
  __shared__ typename warp_steps<A, channels>::rows returns;
  __shared__ A begins[channels], ends[channels];
  __shared__ tile_place place;
  __shared__ tile_walk<const T> through_x, through_decay, through_o;
  __shared__ tile_walk<U> through_dx, through_ddecay;
  if (threadIdx.x == 0) {
    place = place_of(from, chain, chain.take(0), channels, true);
    through_x = walk_through<Scattered>(from.x, place);
    through_decay = walk_through<Scattered>(from.decay, place);
    through_o = walk_through<Scattered>(to.o, place);
    through_dx = walk_through<Scattered>(to.x, place);
    through_ddecay = walk_through<Scattered>(to.decay, place);
  }
  __syncthreads();
  const chain_tile& here = place.tile;
  if (!here.exists) return;
  const part_type part{from, place};
  const int warp = part.warp, lane = part.lane;

  A a[tokens], w[tokens];  // w: do first
  part.read_decays(part.walk(from.decay, through_decay), a);
  if (to.decay) {  // x is read again below, from a cache: in registers there is no room for it
    A x[tokens], sum = A(0);
    part.read(part.walk(from.x, through_x), part_type::no_input, x);
    LIGHTNET_UNROLL
    for (int i = 0; i < tokens; ++i) sum = multiply_add(a[i], sum, x[i]);
    steps.sum[warp][lane] = sum;
  }
  part.read(part.walk(to.o, through_o), part_type::no_input, w);
  A decay = A(1), returned = A(0);
  LIGHTNET_UNROLL
  for (int i = tokens - 1; i >= 0; --i) {
    decay *= a[i];
    returned = a[i] * (returned + w[i]);
  }
  steps.decay[warp][lane] = decay;
  returns[warp][lane] = returned;
  __syncthreads();

  if (warp == 0 && part.active) {
    const std::int64_t slot = here.slot, column = place.column + lane;
    A product = A(1), unused = A(0);
    steps.compose(static_cast<int>(blockDim.x) / 32, lane, product, unused);
    const A total = steps.backward(returns, A(0), -1, lane);
    if (here.index > 0) chain.leave_step(slot, column, product, total);
    A g = A(0);
    if (!here.last) {
      const std::int64_t behind = (place.line.length - 1) / elementwise_tile<A>::tokens - here.index;
      g = chain.begin(slot, -1, behind, column);
    } else if (to.final_state) {
      g = part.of(to.final_state, lane);
    }
    if (here.index > 0) chain.leave_end(slot, column, multiply_add(product, g, total));
    ends[lane] = g;
    if (to.decay) {
      begins[lane] = here.index > 0 ? forward.end(slot - 1, column) : from.state.h ? part.of(from.state.h, lane) : A(0);
    }
  }
  __syncthreads();
  if (!part.active) return;

  A g = steps.backward(returns, ends[lane], warp, lane);
  auto dx = part.walk(to.x, through_dx, true);
  LIGHTNET_UNROLL
  for (int i = tokens - 1; i >= 0; --i) {
    w[i] += g;
    g = a[i] * w[i];
    U* const at = dx.next();
    if (to.x) part.write(at, i, {w[i]}, to.accumulate);
  }
  if (place.first + warp == 0 && to.state) part.of(to.state, lane) = g;
  if (!to.decay) return;
  auto x = part.walk(from.x, through_x);
  auto ddecay = part.walk(to.decay, through_ddecay);
  A h = steps.forward(begins[lane], warp, lane);
  LIGHTNET_UNROLL
  for (int i = 0; i < tokens; ++i) {
    const T* const number = x.next();
    const A step = part.reads(i) ? static_cast<A>(*number) : part_type::no_input;
    part.write(ddecay.next(), i, {(Recurrence::with_sign ? w[i] : a[i] * w[i]) * h}, to.accumulate);
    h = multiply_add(a[i], h, step);
  }
}

/// Whether the channels of a sequence can be taken in pairs: neighbours of one head, at multiples of their size.
template <int Dims, class T>
bool comes_in_pairs(const head_sequence<Dims, T, cuda>& sequence) {
  if (!sequence) return true;
  std::int64_t stride = 0;
  const T* const first = sequence.token(0, 0, 0);
  return sequence.evenly_spaced(stride) && stride % 2 == 0 && sequence.channel_stride() == 1 &&
         sequence.channels() % 2 == 0 && (sequence.token(0, 1, 0) - first) % 2 == 0 &&
         (sequence.token(1, 0, 0) - first) % 2 == 0 && reinterpret_cast<std::uintptr_t>(first) % (2 * sizeof(T)) == 0;
}

/// How a call is cut into tiles, and whether there is anything to do.
template <class Recurrence, int Dims, class T>
struct elementwise_plan {
  using tile = elementwise_tile<accumulator<T>>;
  using chain_type = tile_chain<accumulator<T>>;

  elementwise_arguments<Recurrence, Dims, T, cuda> from;
  int threads = 0;

  elementwise_plan(execution<cuda>& on, execution<cuda>::scope& scratch, const char* operation,
                   const elementwise_arguments<Recurrence, Dims, T, cuda>& arguments)
      : from{arguments} {
    if (empty()) return;
    from.lines = accept_lengths(on, scratch, operation, arguments.lines);
    const std::int64_t warps = (from.lines.longest() + tile::warp_tokens - 1) / tile::warp_tokens;
    threads = 32 * static_cast<int>(warps < 1 ? 1 : warps < tile::warps ? warps : tile::warps);
  }
  bool empty() const { return from.row() == 0 || from.lines.count() == 0; }

  /// The chain of tiles of which each lane has so many channels.
  chain_type chain(execution<cuda>& on, execution<cuda>::scope& scratch, const char* operation, int together) const {
    return {on, scratch, operation, from.lines, tile::tokens, from.row(), 32 * together};
  }
  /// Calls `call(std::bool_constant<scattered>)`.
  template <class Call, class... Sequence>
  void with_walk(const Call& call, const Sequence&... sequences) const {
    if constexpr (Dims > 1) {
      std::int64_t stride = 0;
      if (!((!sequences || sequences.evenly_spaced(stride)) && ...)) return call(std::true_type{});
    }
    call(std::false_type{});
  }

  /// Puts the forward pass on the stream.
  template <bool Scattered, int Together, class U>
  void forward(execution<cuda>& on, const char* operation, const chain_type& along,
               const elementwise_outputs<Recurrence, Dims, U, cuda>& outputs) const {
    constexpr int most_threads = 32 * tile::warps, beside = 12 * 1024;  // bytes of shared memory beside the stages
    const auto stage = static_cast<int>(sizeof(channel_word<T, Together>)) * tile::warp_tokens * threads;
    const std::int64_t blocks = std::int64_t{elementwise_blocks} * (most_threads / threads);  // of a processor
    int memory = 0;
    check_cuda(operation, "cudaDeviceGetAttribute",
               cudaDeviceGetAttribute(&memory, cudaDevAttrMaxSharedMemoryPerMultiprocessor, on.device()));
    const int stages = elementwise_blocks * (3 * stage + beside) <= memory ? 2 : 1;
    launch(on, operation,
           {std::min(along.count(), blocks * on.processors()), threads, static_cast<std::size_t>(1 + stages) * stage},
           elementwise_forward_kernel<Scattered, Together, Recurrence, Dims, T, U>, from, outputs, along, stages);
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
  if constexpr (sizeof(T) == 2) {
    if (comes_in_pairs(arguments.x) && comes_in_pairs(arguments.decay) && comes_in_pairs(outputs.o)) {
      return plan.template forward<false, 2>(on, operation, plan.chain(on, scratch, operation, 2), outputs);
    }
  }
  const auto chain = plan.chain(on, scratch, operation, 1);
  plan.with_walk(
      [&](auto scattered) { plan.template forward<decltype(scattered)::value, 1>(on, operation, chain, outputs); },
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
  const auto chain = plan.chain(on, scratch, operation, 1);
  auto forward = chain;
  const bool leaves_ends = chain.memory && gradients.decay;
  if (leaves_ends) forward = plan.chain(on, scratch, operation, 1);
  plan.with_walk(
      [&](auto scattered) {
        constexpr bool is_scattered = decltype(scattered)::value;
        if (leaves_ends) {
          plan.template forward<is_scattered, 1>(on, operation, forward,
                                                 elementwise_outputs<Recurrence, Dims, T, cuda>{});
        }
        launch(on, operation, {chain.count(), plan.threads},
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
