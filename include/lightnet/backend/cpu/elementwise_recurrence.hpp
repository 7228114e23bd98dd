// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/token_rows.hpp>
#include <lightnet/backend/elementwise_operands.hpp>
#include <lightnet/core/math.hpp>

#include <algorithm>

// h_t = a_t h_{t-1} + x_t, every channel by itself; o = h. At least three numbers a token and channel pass through
// memory forward (x, log a, o), seven backward (log a and w = dx twice, x, do, dlog a). Tile: the row of a token, its
// heads side by side, so that memory streams as it lies; the previous row is still in the first cache.

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// h = a h_before + x; h may be h_before or x.
template <bool WithSign, class T>
void advance_row(const T* given, const T* x, const T* h_before, T* h, std::int64_t count) noexcept {
  LIGHTNET_OMP(omp simd)
  for (std::int64_t i = 0; i < count; ++i) h[i] = multiply_add(decay_of<WithSign>(given[i]), h_before[i], x[i]);
}

/// product = a product.
template <bool WithSign, class T>
void multiply_row(const T* given, T* product, std::int64_t count) noexcept {
  LIGHTNET_OMP(omp simd)
  for (std::int64_t i = 0; i < count; ++i) product[i] *= decay_of<WithSign>(given[i]);
}

/// w_t from `through`, which is a_{t+1} w_{t+1} before and a_t w_t after.
template <bool WithSign, class T>
void retreat_row(const T* given, const T* dout, T* through, T* w, std::int64_t count) noexcept {
  LIGHTNET_OMP(omp simd)
  for (std::int64_t i = 0; i < count; ++i) {
    w[i] = through[i] + dout[i];
    through[i] = decay_of<WithSign>(given[i]) * w[i];
  }
}

/// The gradient by the decay, or by its logarithm; h is h_{t-1} before and h_t after.
template <bool WithSign, class T>
void decay_gradient_row(const T* given, const T* x, const T* w, T* h, T* ddecay, std::int64_t count) noexcept {
  LIGHTNET_OMP(omp simd)
  for (std::int64_t i = 0; i < count; ++i) {
    const T a = decay_of<WithSign>(given[i]);
    ddecay[i] = (WithSign ? w[i] : a * w[i]) * h[i];
    h[i] = multiply_add(a, h[i], x[i]);
  }
}

/// o = h along every line, from the initial state to the final one.
template <class Recurrence, int Dims, class T, class U>
void elementwise_recurrence_forward(execution<cpu>& on,
                                    const elementwise_arguments<Recurrence, Dims, T, cpu>& arguments,
                                    const elementwise_outputs<Recurrence, Dims, U, cpu>& outputs) {
  using sum_type = accumulator<T>;
  constexpr bool with_sign = Recurrence::with_sign;
  const auto& a = arguments;
  const channel_blocks blocks{on.threads(), a.lines.count(), a.tokens(), a.channels, a.row()};
  execution<cpu>::scope scratch{on};
  const row_store<sum_type> rooms{on, scratch, 5, blocks.width};
  parallel_for(on, a.lines.count() * blocks.count, [&](std::int64_t item, int thread) {
    const token_line line = a.lines[item / blocks.count];
    const channel_block block = blocks[item % blocks.count];
    const token_rows<Dims, const T> xs{a.x, block}, decays{a.decay, block};
    const token_rows<Dims, U> os{outputs.o, block};
    sum_type *const state = rooms(thread, 0), *const product = rooms(thread, 1), *const zero = rooms(thread, 2);
    block.read(a.state.h, line.sequence, sum_type(0), state);
    block.read(a.state.decay, line.sequence, sum_type(1), product);
    std::fill_n(zero, block.count, sum_type(0));
    const sum_type* h = state;
    for (std::int64_t i = 0; i < line.length; ++i) {
      const std::int64_t t = line.token(i);
      if (!a.mask || a.mask(line.batch, t)) {
        const sum_type* const given = decays.read(line.batch, t, rooms(thread, 3));
        const sum_type* const x = xs.read(line.batch, t, rooms(thread, 4));
        sum_type* const next = os.target(line.batch, t, state, outputs.accumulate);
        if (outputs.state.decay) multiply_row<with_sign>(given, product, block.count);
        advance_row<with_sign>(given, x, h, next, block.count);
        os.write(line.batch, t, next, outputs.accumulate);
        h = next;
      } else {
        os.write(line.batch, t, zero, outputs.accumulate);
      }
    }
    block.write(h, outputs.state.h, line.sequence);
    block.write(product, outputs.state.decay, line.sequence);
  });
}

/// The gradients along every line:
///   w_t = a_{t+1} w_{t+1} + do_t (+ dh_N at the end),  dx_t = w_t,  dlog a_t = a_t w_t h_{t-1},  dh_0 = a_1 w_1,
/// and da_t = w_t h_{t-1} where decays have a sign. One walk back for w, and one forward that finds h again; between
/// them w is kept in dx, or in the workspace where dx is not dense, not of the accumulator, or a sum of several passes.
template <class Recurrence, int Dims, class T, class U>
void elementwise_recurrence_backward(execution<cpu>& on,
                                     const elementwise_arguments<Recurrence, Dims, T, cpu>& arguments,
                                     const elementwise_gradients<Dims, T, U, cpu>& gradients) {
  using sum_type = accumulator<T>;
  constexpr bool with_sign = Recurrence::with_sign;
  const auto& a = arguments;
  const bool add = gradients.accumulate;
  const channel_blocks blocks{on.threads(), a.lines.count(), a.tokens(), a.channels, a.row()};
  if (blocks.count == 0) return;
  const auto lies_as_rows = [&](const auto& of) {
    return !add && token_rows<Dims, U>{of, {a.channels, 0, a.row()}}.in_place();
  };
  const bool apart = !lies_as_rows(gradients.x);
  // What outgrows the caches is written past them.
  const bool is_large = outgrows_caches(a.tokens() * a.row() * static_cast<std::int64_t>(sizeof(U)));
  const bool streams_x = is_large && !apart, streams_decay = is_large && lies_as_rows(gradients.decay);
  execution<cpu>::scope scratch{on};
  const row_store<sum_type> rooms{on, scratch, 6, blocks.width};
  const row_store<sum_type> kept{on, scratch, apart ? a.lines.longest() : 1, blocks.width};
  parallel_for(on, a.lines.count() * blocks.count, [&](std::int64_t item, int thread) {
    const token_line line = a.lines[item / blocks.count];
    const channel_block block = blocks[item % blocks.count];
    const token_rows<Dims, const T> xs{a.x, block}, decays{a.decay, block}, dos{gradients.o, block};
    const token_rows<Dims, U> dxs{gradients.x, block}, ddecays{gradients.decay, block};
    sum_type *const through = rooms(thread, 0), *const h = rooms(thread, 1), *const zero = rooms(thread, 2);
    sum_type *const room = rooms(thread, 3), *const other_room = rooms(thread, 4), *const result = rooms(thread, 5);
    std::fill_n(zero, block.count, sum_type(0));
    const auto counts = [&](std::int64_t t) { return !a.mask || a.mask(line.batch, t); };
    const auto w_of = [&](std::int64_t i) {
      return dxs.target(line.batch, line.token(i), kept(thread, apart ? i : 0), add);
    };

    block.read(gradients.final_state, line.sequence, sum_type(0), through);
    constexpr std::int64_t ahead = 16;
    for (std::int64_t i = line.length; i-- > 0;) {
      const std::int64_t t = line.token(i);
      // Memory is fast where it is read onwards: so, some tokens ahead, before the walk comes back to them.
      if (is_large && i % ahead == ahead - 1 && i > ahead) {
        for (std::int64_t next = i + 1 - 2 * ahead; next <= i - ahead; ++next) {
          decays.touch(line.batch, line.token(next));
          dos.touch(line.batch, line.token(next));
        }
      }
      if (counts(t)) {
        sum_type* const w = streams_x ? result : w_of(i);
        retreat_row<with_sign>(decays.read(line.batch, t, room), dos.read(line.batch, t, other_room), through, w,
                               block.count);
        streams_x ? stream_row(w, w_of(i), block.count) : dxs.write(line.batch, t, w, add);
      } else {
        dxs.write(line.batch, t, zero, add);
      }
    }
    finish_streaming();
    block.write(through, gradients.state, line.sequence);

    if (!gradients.decay) return;
    block.read(a.state.h, line.sequence, sum_type(0), h);
    for (std::int64_t i = 0; i < line.length; ++i) {
      const std::int64_t t = line.token(i);
      if (counts(t)) {
        sum_type *const to = ddecays.target(line.batch, t, result, add), *const ddecay = streams_decay ? result : to;
        decay_gradient_row<with_sign>(decays.read(line.batch, t, room), xs.read(line.batch, t, other_room), w_of(i), h,
                                      ddecay, block.count);
        streams_decay ? stream_row(ddecay, to, block.count) : ddecays.write(line.batch, t, ddecay, add);
      } else {
        ddecays.write(line.batch, t, zero, add);
      }
    }
    finish_streaming();
  });
}

/// h = right.decay left.h + right.h of every sequence, and the product of the decays where `to` has one.
template <class Recurrence, class T>
void merge_vector_states(execution<cpu>& on, const typename Recurrence::template state<const T, cpu>& left,
                         const typename Recurrence::template state<const T, cpu>& right,
                         const typename Recurrence::template state<T, cpu>& to) {
  const merge_vectors<Recurrence, T, cpu> merge{left, right, to};
  const std::int64_t channels = left.h.extent(2);
  parallel_for(on, left.h.extent(0) * left.h.extent(1), [&](std::int64_t item, int) {
    for (std::int64_t i = 0; i < channels; ++i) merge(item * channels + i);
  });
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
