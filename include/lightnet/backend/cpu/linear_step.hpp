// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/parallel.hpp>
#include <lightnet/backend/recurrence_arguments.hpp>
#include <lightnet/core/concepts.hpp>
#include <lightnet/core/math.hpp>

#include <algorithm>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// One token of one sequence and head: the state takes it in, in the frame of the recurrence's monoid, and is read.
template <class Recurrence, class Position, int Dims, class T>
struct recurrence_step {
  using A = accumulator<T>;
  using arguments = recurrence_arguments<Recurrence, Dims, T, cpu>;
  using outputs = recurrence_outputs<Recurrence, Dims, T, cpu>;
  static constexpr bool running = Recurrence::weight == weight_of::running_sum;

  const arguments* from;
  A *read, *write, *input;  // [d], then encoded [d']: q / Z, kappa w, kappa
  A* keep;                  // [d or 1]: what the old state is multiplied by
  A *values, *read_out;     // [e]: v and o

  recurrence_step(const arguments& a, execution<cpu>::scope& scratch)
      : from{&a},
        read{scratch.take<A>(a.keys + a.stored_keys)},
        write{scratch.take<A>(a.keys + a.stored_keys)},
        input{scratch.take<A>(a.keys + a.stored_keys)},
        keep{scratch.take<A>(a.keys)},
        values{scratch.take<A>(a.values)},
        read_out{scratch.take<A>(a.values)} {}

  void take(std::int64_t b, std::int64_t h, const outputs& out) const {
    T* const o = out.o.token(b, h, 0);
    const std::int64_t o_stride = out.o.channel_stride();
    for (std::int64_t j = 0; j < from->values; ++j) o[j * o_stride] = static_cast<T>(A(0));
    if constexpr (Recurrence::framed) {
      for (std::int64_t i = 0; i < from->weights(); ++i) {
        if (out.state.exponent(b, h, i) <= empty_exponent) clear_weight(b, h, i, out);
      }
    }
    if (from->mask && !from->mask(b, 0)) return;
    for (std::int64_t i = 0; i < from->weights(); ++i) enter_weight(b, h, i, out);
    for (std::int64_t i = 0; i < from->keys; ++i) enter_channel(b, h, i, out);

    const A* const qhat = encode(h, read);
    const A* const khat = encode(h, write);
    const A* const kappa = running ? encode(h, input) : nullptr;
    for (std::int64_t j = 0; j < from->values; ++j) values[j] = channel(from->v, b, h, j);
    std::fill_n(read_out, from->values, A(0));
    for (std::int64_t i = 0; i < from->stored_keys; ++i) {
      const A kept = keep[Recurrence::per_channel ? i % from->keys : 0];
      pass_row(out.state.sum, b, h, i, [&](std::int64_t j, A& s) {
        s = kept * s + khat[i] * values[j];  // 0 keeps a NaN
        read_out[j] += qhat[i] * s;
      });
      if constexpr (running) {
        if (out.state.input) {
          pass_row(out.state.input, b, h, i, [&](std::int64_t j, A& s) { s += kappa[i] * values[j]; });
        }
      }
    }
    for (std::int64_t j = 0; j < from->values; ++j) o[j * o_stride] = static_cast<T>(read_out[j]);
  }

 private:
  /// Calls `update(j, s)` for every column of a row of the state, side by side where they lie so.
  template <class Update>
  static void pass_row(const dynamic_view<4, A, cpu>& state, std::int64_t b, std::int64_t h, std::int64_t i,
                       const Update& update) {
    const std::int64_t columns = state.extent(3), stride = state.stride(3);
    A* const row = &state(b, h, i, 0);
    if (stride == 1) {
      LIGHTNET_OMP(omp simd)
      for (std::int64_t j = 0; j < columns; ++j) update(j, row[j]);
    } else {
      for (std::int64_t j = 0; j < columns; ++j) update(j, row[j * stride]);
    }
  }

  /// The logit or decay of weight i; NaN where it is none that scan takes.
  A logit(std::int64_t b, std::int64_t h, std::int64_t i) const {
    A x = A(0);
    if constexpr (Recurrence::logits == logits_from::keys) x = channel(from->k, b, h, i);
    if constexpr (Recurrence::logits == logits_from::tokens) x = channel(from->logits, b, h, i);
    if constexpr (Recurrence::logits == logits_from::head) x = from->head_logits(h);
    bool good = x < std::numeric_limits<A>::infinity();
    if constexpr (Recurrence::weight == weight_of::inverse_decay) {
      good = Recurrence::with_sign ? x >= A(-1) && x <= A(1) : x <= A(0);
    }
    return good ? x : std::numeric_limits<A>::quiet_NaN();
  }

  static A channel(const head_sequence<Dims, const T, cpu>& sequence, std::int64_t b, std::int64_t h, std::int64_t i) {
    return static_cast<A>(sequence.token(b, h, 0)[i * sequence.channel_stride()]);
  }

  /// Takes the logit of weight i into the state. Leaves its weight in write[i] and the reciprocal of Z in read[i].
  void enter_weight(std::int64_t b, std::int64_t h, std::int64_t i, const outputs& out) const {
    const A x = logit(b, h, i);
    if constexpr (Recurrence::framed) {
      const bool bad = x != x;
      const scaled<A> w = scaled_exponential(bad ? A(0) : x);
      std::int32_t& m = out.state.exponent(b, h, i);
      A& z = out.state.normaliser(b, h, i);
      const std::int32_t frame = std::max(m, w.exponent);
      const A weight = bad ? x : lower_by_power_of_two(w.mantissa, w.exponent - frame);
      keep[i] = lower_by_power_of_two(A(1), m - frame);
      z = keep[i] * z + weight;
      m = frame;
      write[i] = running ? z : weight;
      read[i] = z == A(0) ? A(0) : A(1) / z;
    } else {
      keep[i] = Recurrence::with_sign ? x : exponential(x);
      if (out.state.decay) out.state.decay(b, h, i) *= keep[i];
      write[i] = read[i] = A(1);
    }
  }

  /// An empty channel holds nothing, whatever lies there.
  void clear_weight(std::int64_t b, std::int64_t h, std::int64_t i, const outputs& out) const {
    out.state.normaliser(b, h, i) = A(0);
    for (std::int64_t row = 0; row < from->stored_keys; ++row) {
      if (Recurrence::per_channel && row % from->keys != i) continue;
      for (std::int64_t j = 0; j < from->values; ++j) out.state.sum(b, h, row, j) = A(0);
    }
  }

  /// From the weights to the factors of channel i; one weight for all channels is used last where it lies.
  void enter_channel(std::int64_t b, std::int64_t h, std::int64_t i, const outputs&) const {
    const std::int64_t c = from->keys - 1 - i, own = Recurrence::per_channel ? c : 0;
    A kappa = A(1);
    if constexpr (Recurrence::kappa == kappa_of::key) kappa = channel(from->k, b, h, c);
    if constexpr (Recurrence::kappa == kappa_of::complement) kappa = one_minus_exponential(logit(b, h, c));
    input[c] = kappa;
    write[c] = kappa * write[own];
    read[c] = channel(from->q, b, h, c) * read[own];
  }

  const A* encode(std::int64_t h, A* plain) const {
    if constexpr (Position::encodes) {
      const std::int64_t head = from->cosine.extent(0) == 1 ? 0 : h;
      Position::apply(plain, plain + from->keys, from->cosine.data() + head * from->cosine.stride(0),
                      from->sine.data() + head * from->sine.stride(0), from->keys, from->cosine.extent(2));
      return plain + from->keys;
    }
    return plain;
  }
};

/// One token of every sequence and head. `outputs.state` is read and written in place; `arguments.state` is not used.
template <class Recurrence, class Position, int Dims, class T>
void linear_recurrence_step(execution<cpu>& on, const recurrence_arguments<Recurrence, Dims, T, cpu>& arguments,
                            const recurrence_outputs<Recurrence, Dims, T, cpu>& outputs) {
  execution<cpu>::scope scratch{on};
  auto* const steps = make_each<recurrence_step<Recurrence, Position, Dims, T>>(on, scratch, arguments);
  parallel_for(on, arguments.items(), [&](std::int64_t item, int thread) {
    steps[thread].take(item / arguments.heads, item % arguments.heads, outputs);
  });
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
