// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/elementwise_feed.cuh>
#include <lightnet/backend/cuda/elementwise_part.cuh>
#include <lightnet/backend/cuda/elementwise_step.cuh>
#include <lightnet/backend/cuda/launch.cuh>

// h_t = a_t h_{t-1} + x_t, every channel by itself; o = h. At least three numbers a token and channel pass through
// memory forward (x, log a, o), seven backward (x, log a; then x, log a, do, dx, dlog a). Tile: 128 or, of long lines,
// forward, 256 tokens by 32 words of channels, in shared memory while the tiles before it are worked on, then in registers,
// a warp 16 tokens of it. Every bracket is fixed by the place in the line: h steps from token to token in 16 tokens, from 16
// to 16 in a tile, and from tile to tile by tile_chain.

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// What the forward kernel writes, in a storage type U.
template <class U>
struct elementwise_results {
  using A = accumulator<U>;

  channel_rows<U> o;                    // [B, N, H, d]
  dynamic_view<3, A, cuda> h, product;  // [B, H, d]  the final state
  bool accumulate;                      // add to o
};

/// A tile of the forward pass: x and the decays.
template <bool Plain, bool WithSign, bool Far, class Tile, class U>
__device__ __forceinline__ void elementwise_forward_tile(const placed_tile& at, elementwise_feed<Tile, 2>& feed,
                                                         const elementwise_source<Tile, 2>& from,
                                                         const elementwise_results<U>& to,
                                                         const typename Tile::chain& chain,
                                                         elementwise_memory<Tile, 2>& shared) {
  using tile = Tile;
  using A = typename tile::A;
  using wide = typename tile::wide;
  using part_type = thread_part<Plain, tile, 2>;
  constexpr int tokens = tile::warp_tokens;
  const part_type part{from, at};
  const int warp = part.warp, lane = part.lane;
  const auto& operands = shared.operands[feed.stage()];
  const std::int64_t slot = at.in_chain.slot, index = at.in_chain.index, column = part.column;
  left_word<A, tile::count> before;  // asked for long before it is needed
  if (warp == 0 && index > 0 && part.has(0)) before = chain.end(slot - 1, column);
  wide a[tokens];
  typename tile::word x[tokens];
  part.template read_decays<WithSign>(operands[1], a);
  wide decay = tile::all(A(1)), sum = tile::all(A(0));
  LIGHTNET_UNROLL
  for (int i = 0; i < tokens; ++i) {
    x[i] = part.read(operands[0], i, A(-0.0));  // -0 leaves every h as it is
    decay = tile::multiply(decay, a[i]);
    sum = tile::step(a[i], sum, widen(x[i]));
  }
  shared.decay[warp][lane] = decay;
  shared.sum[warp][lane] = sum;
  __syncthreads();

  // Warp 0 finds h before the tile; meanwhile the others find what happens to it before their tokens.
  const elementwise_step<wide> until = shared.forward(warp == 0 ? tile::warps : warp, lane);
  if (warp == 0 && part.has(0)) {
    const bool known = index == 0 || before.ready();
    if (!at.in_chain.last && ((Far && !known) || to.product)) chain.leave_step(slot, column, until.decay, until.sum);
    wide h = tile::all(A(0));
    if (index > 0) {
      h = known ? before.numbers : chain.template begin<Far>(slot, 1, index, column);
    } else if (from.h) {
      h = part.load(from.h);
    }
    if (!at.in_chain.last) chain.leave_end(slot, column, tile::step(until.decay, h, until.sum));
    shared.begin[lane] = h;
    if (at.in_chain.last && to.product) {
      wide all = from.product ? part.load(from.product) : tile::all(A(1));
      for (std::int64_t k = index; k > 0; --k) all = tile::multiply(all, chain.decay(slot - k, column));
      part.store(to.product, tile::multiply(all, until.decay));
    }
  }
  feed.next();
  __syncthreads();

  if (!to.o && !to.h) return;
  wide h = shared.begin[lane];
  if (warp != 0) h = tile::step(until.decay, h, until.sum);
  const thread_rows<part_type, Plain, U> o{part, to.o, to.accumulate};
  LIGHTNET_UNROLL
  for (int i = 0; i < tokens; ++i) {
    h = tile::step(a[i], h, widen(x[i]));
    if (Plain || to.o) o.write(i, h);
  }
  // The state is that of the warp with the line's last token, or of the first where a line has none.
  const bool ends = part.start + tokens >= at.count && (part.count > 0 || part.start == 0);
  if (at.in_chain.last && ends && to.h) part.store(to.h, h);
}

template <class Tile, bool WithSign, bool Far, class U>
__global__ void __launch_bounds__(Tile::threads, (elementwise_memory<Tile, 2>::blocks_of_processor))
    elementwise_forward_kernel(const __grid_constant__ elementwise_source<Tile, 2> from,
                               const __grid_constant__ elementwise_results<U> to,
                               const __grid_constant__ typename Tile::chain chain) {
  extern __shared__ __align__(16) unsigned char shared_memory[];
  auto& shared = *reinterpret_cast<elementwise_memory<Tile, 2>*>(shared_memory);
  elementwise_feed<Tile, 2> feed{from, chain, false, shared};
  const bool writes_plainly = to.o ? to.o.in_words && !to.accumulate : !to.h;
  for (;;) {
    const placed_tile& at = feed.arrived();
    if (at.ended) return;
    if (!at.in_chain.exists) {
      feed.next();
    } else if (from.plain(at) && writes_plainly) {
      elementwise_forward_tile<true, WithSign, Far>(at, feed, from, to, chain, shared);
    } else {
      elementwise_forward_tile<false, WithSign, Far>(at, feed, from, to, chain, shared);
    }
  }
}

/// What the backward kernel writes, in a storage type U, and the gradient by the final state that it begins with.
template <class T, class U>
struct elementwise_pulled {
  using A = accumulator<T>;

  dynamic_view<3, const A, cuda> final_state;  // [B, H, d]
  channel_rows<U> x, decay;                    // [B, N, H, d]
  dynamic_view<3, A, cuda> state;              // [B, H, d]
  bool accumulate;                             // add to x and decay
};

/// A tile of the pass back: do, the decays and, where these have a gradient, x. The forward kernel has left the ends of all
/// tiles.
template <bool Plain, bool WithSign, class Tile, class U>
__device__ __forceinline__ void elementwise_backward_tile(const placed_tile& at, elementwise_feed<Tile, 3>& feed,
                                                          const elementwise_source<Tile, 3>& from,
                                                          const elementwise_pulled<typename Tile::number, U>& to,
                                                          const typename Tile::chain& forward,
                                                          const typename Tile::chain& chain,
                                                          elementwise_memory<Tile, 3>& shared) {
  using tile = Tile;
  using A = typename tile::A;
  using wide = typename tile::wide;
  using part_type = thread_part<Plain, tile, 3>;
  constexpr int tokens = tile::warp_tokens;
  const part_type part{from, at};
  const int warp = part.warp, lane = part.lane;
  const auto& operands = shared.operands[feed.stage()];
  const std::int64_t slot = at.in_chain.slot, index = at.in_chain.index, column = part.column;
  left_word<A, tile::count> behind;  // asked for long before it is needed
  if (warp == 0 && !at.in_chain.last && part.has(0)) behind = chain.end(slot + 1, column);
  wide a[tokens];
  typename tile::word x[tokens], incoming[tokens];
  part.template read_decays<WithSign>(operands[1], a);
  if (to.decay) {
    wide sum = tile::all(A(0));
    LIGHTNET_UNROLL
    for (int i = 0; i < tokens; ++i) {
      x[i] = part.read(operands[2], i, A(-0.0));
      sum = tile::step(a[i], sum, widen(x[i]));
    }
    shared.sum[warp][lane] = sum;
  }
  wide decay = tile::all(A(1)), returned = tile::all(A(0));
  LIGHTNET_UNROLL
  for (int i = tokens - 1; i >= 0; --i) {
    incoming[i] = part.read(operands[0], i, A(-0.0));
    decay = tile::multiply(decay, a[i]);
    returned = tile::multiply(a[i], tile::sum(returned, widen(incoming[i])));
  }
  shared.decay[warp][lane] = decay;
  shared.returned[warp][lane] = returned;
  __syncthreads();

  const elementwise_step<wide> since = shared.backward(warp == 0 ? -1 : warp, lane);
  elementwise_step<wide> until{};
  if (to.decay) until = shared.forward(warp, lane);
  if (warp == 0 && part.has(0)) {
    const bool known = at.in_chain.last || behind.ready();
    if (index > 0 && !known) chain.leave_step(slot, column, since.decay, since.sum);
    wide g = tile::all(A(0));
    if (!at.in_chain.last) {
      const std::int64_t after = (at.line.length - 1) / tile::tokens - index;
      g = known ? behind.numbers : chain.template begin<true>(slot, -1, after, column);
    } else if (to.final_state) {
      g = part.load(to.final_state);
    }
    if (index > 0) chain.leave_end(slot, column, tile::step(since.decay, g, since.sum));
    shared.end[lane] = g;
    if (to.decay) {
      shared.begin[lane] = index > 0 ? forward.end(slot - 1, column).numbers
                           : from.h  ? part.load(from.h)
                                     : tile::all(A(0));
    }
  }
  feed.next();
  __syncthreads();

  wide g = shared.end[lane], w[tokens];
  const elementwise_step<wide> own = warp == 0 ? shared.backward(warp, lane) : since;
  g = tile::step(own.decay, g, own.sum);
  const thread_rows<part_type, Plain, U> dx{part, to.x, to.accumulate}, ddecay{part, to.decay, to.accumulate};
  LIGHTNET_UNROLL
  for (int i = tokens - 1; i >= 0; --i) {
    w[i] = tile::sum(widen(incoming[i]), g);
    g = tile::multiply(a[i], w[i]);
    if (to.x) dx.write(i, w[i]);
  }
  if (at.first == 0 && warp == 0 && to.state) part.store(to.state, g);
  if (!to.decay) return;
  wide h = tile::step(until.decay, shared.begin[lane], until.sum);
  LIGHTNET_UNROLL
  for (int i = 0; i < tokens; ++i) {
    ddecay.write(i, tile::multiply(WithSign ? w[i] : tile::multiply(a[i], w[i]), h));
    h = tile::step(a[i], h, widen(x[i]));
  }
}

template <class Tile, bool WithSign, class U>
__global__ void __launch_bounds__(Tile::threads, (elementwise_memory<Tile, 3>::blocks_of_processor))
    elementwise_backward_kernel(const __grid_constant__ elementwise_source<Tile, 3> from,
                                const __grid_constant__ elementwise_pulled<typename Tile::number, U> to,
                                const __grid_constant__ typename Tile::chain forward,
                                const __grid_constant__ typename Tile::chain chain) {
  extern __shared__ __align__(16) unsigned char shared_memory[];
  auto& shared = *reinterpret_cast<elementwise_memory<Tile, 3>*>(shared_memory);
  elementwise_feed<Tile, 3> feed{from, chain, true, shared};
  const bool writes_plainly = (!to.x || to.x.in_words) && (!to.decay || to.decay.in_words) && !to.accumulate;
  for (;;) {
    const placed_tile& at = feed.arrived();
    if (at.ended) return;
    if (!at.in_chain.exists) {
      feed.next();
    } else if (from.plain(at) && writes_plainly) {
      elementwise_backward_tile<true, WithSign>(at, feed, from, to, forward, chain, shared);
    } else {
      elementwise_backward_tile<false, WithSign>(at, feed, from, to, forward, chain, shared);
    }
  }
}

/// One call, in the form that its kernels take.
template <class Recurrence, int Dims, class Tile>
class elementwise_call {
 public:
  using T = typename Tile::number;
  using chain = typename Tile::chain;
  using arguments_type = elementwise_arguments<Recurrence, Dims, T, cuda>;

  elementwise_call(execution<cuda>& on, const char* operation, const arguments_type& arguments)
      : on_{on}, scratch_{on}, operation_{operation}, from_{arguments} {
    if (empty()) return;
    from_.lines = accept_lengths(on, scratch_, operation, arguments.lines);
    x_ = rows(arguments.x);
    decay_ = rows(arguments.decay);
  }

  bool empty() const { return from_.row() == 0 || from_.lines.count() == 0; }

  template <class Sequence>
  auto rows(const Sequence& sequence) {
    return rows_of(on_, scratch_, operation_, sequence);
  }
  chain new_chain() { return {on_, scratch_, operation_, from_.lines, Tile::tokens, from_.row(), Tile::channels}; }

  template <class U>
  void forward(const chain& steps, const elementwise_results<U>& to) {
    constexpr bool sign = Recurrence::with_sign;
    if (steps.looks_far(on_.processors() * elementwise_memory<Tile, 2>::blocks_of_processor)) {
      run<2>(elementwise_forward_kernel<Tile, sign, true, U>, {x_, decay_}, steps, to, steps);
    } else {
      run<2>(elementwise_forward_kernel<Tile, sign, false, U>, {x_, decay_}, steps, to, steps);
    }
  }
  template <class U>
  void backward(const chain& ends, const chain& steps, const channel_rows<const T>& incoming,
                const elementwise_pulled<T, U>& to) {
    run<3>(elementwise_backward_kernel<Tile, Recurrence::with_sign, U>,
           {incoming, decay_, to.decay ? x_ : channel_rows<const T>{}}, steps, to, ends, steps);
  }

 private:
  template <int Operands>
  struct operands_type {
    channel_rows<const T> all[Operands];
  };

  template <int Operands, class Kernel, class... Argument>
  void run(Kernel kernel, const operands_type<Operands>& operands, const chain& steps, const Argument&... arguments) {
    using memory = elementwise_memory<Tile, Operands>;
    static_assert(sizeof(memory) <= 163 * 1024, "lightnet: more shared memory than a block has where there is least");
    elementwise_source<Tile, Operands> source{lines_of_three_axes(from_.lines),
                                              from_.heads,
                                              from_.channels,
                                              from_.mask,
                                              from_.state.h,
                                              from_.state.decay,
                                              {}};
    for (int n = 0; n < Operands; ++n) source.operands[n] = operands.all[n];
    launch_together(on_, operation_, {steps.count(), Tile::threads, sizeof(memory)}, kernel, source, arguments...);
  }

  execution<cuda>& on_;
  execution<cuda>::scope scratch_;
  const char* operation_;
  arguments_type from_;
  channel_rows<const T> x_, decay_;
};

/// o = h along every line, from the initial state to the final one.
template <class Recurrence, int Dims, class T, class U>
void elementwise_recurrence_forward(execution<cuda>& on,
                                    const elementwise_arguments<Recurrence, Dims, T, cuda>& arguments,
                                    const elementwise_outputs<Recurrence, Dims, U, cuda>& outputs) {
  if (arguments.lines.tokens.size() == 1 && !arguments.lines.cumulative_lengths) {
    for_each(on, "scan", arguments.lines.batch * arguments.row(),
             elementwise_step_of_channels<Recurrence, Dims, T, U>{arguments, outputs});
    return;
  }
  const auto run = [&]<class Tile>(Tile) {
    elementwise_call<Recurrence, Dims, Tile> call{on, "scan", arguments};
    if (call.empty()) return;
    call.forward(call.new_chain(), elementwise_results<U>{call.rows(outputs.o), outputs.state.h, outputs.state.decay,
                                                          outputs.accumulate});
  };
  const bool fits = on.shared_bytes() >= sizeof(elementwise_memory<long_tile<T>, 2>);
  if (fits && arguments.lines.longest() > short_tile<T>::tokens) {
    run(long_tile<T>{});
  } else {
    run(short_tile<T>{});
  }
}

/// The gradients along every line:
///   w_t = a_{t+1} w_{t+1} + do_t (+ dh_N at the end),  dx_t = w_t,  dlog a_t = a_t w_t h_{t-1},  dh_0 = a_1 w_1,
/// and da_t = w_t h_{t-1} where decays have a sign. Where lines have several tiles and decays a gradient, a pass forward
/// leaves the h at the end of every tile; a pass back finds the others again.
template <class Recurrence, int Dims, class T, class U>
void elementwise_recurrence_backward(execution<cuda>& on,
                                     const elementwise_arguments<Recurrence, Dims, T, cuda>& arguments,
                                     const elementwise_gradients<Dims, T, U, cuda>& gradients) {
  elementwise_call<Recurrence, Dims, short_tile<T>> call{on, "scan_backward", arguments};
  if (call.empty()) return;
  const auto back = call.new_chain();
  auto forward = back;
  if (back.memory != nullptr && gradients.decay) {
    forward = call.new_chain();
    call.forward(forward, elementwise_results<T>{});
  }
  call.backward(forward, back, call.rows(gradients.o),
                elementwise_pulled<T, U>{gradients.final_state, call.rows(gradients.x), call.rows(gradients.decay),
                                         gradients.state, gradients.accumulate});
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
