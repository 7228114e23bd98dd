// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/parallel.hpp>
#include <lightnet/backend/linear_recurrence.hpp>
#include <lightnet/core/concepts.hpp>
#include <lightnet/core/math.hpp>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// An empty channel holds nothing, whatever lies there.
template <class T>
void clear_channel(const framed_state<T, cpu>& state, std::int64_t b, std::int64_t h, std::int64_t channel) {
  state.normaliser(b, h, channel) = T(0);
  for (std::int64_t i = channel; i < state.sum.extent(2); i += state.normaliser.extent(2)) {
    for (std::int64_t j = 0; j < state.sum.extent(3); ++j) state.sum(b, h, i, j) = T(0);
  }
}

/// One token of every sequence and head: the state takes it in, in the frame of the recurrence's monoid, and is read.
/// `outputs.state` is read and written in place; `arguments.state` is not used.
template <class Recurrence, class Position, int Dims, class T>
void linear_recurrence_step(execution<cpu>& on, const recurrence_arguments<Recurrence, Dims, T, cpu>& arguments,
                            const recurrence_outputs<Recurrence, Dims, T, cpu>& outputs) {
  const auto& a = arguments;
  execution<cpu>::scope scratch{on};
  const std::int64_t room = a.keys + a.stored_keys;
  T* const rooms = scratch.take<T>(on.threads() * (2 * room + 2 * a.keys));
  parallel_for(on, a.batch * a.heads, [&](std::int64_t item, int thread) {
    const std::int64_t b = item / a.heads, h = item % a.heads;
    const T* const q = a.q.token(b, h, 0);
    const T* const k = a.k.token(b, h, 0);
    const T* const v = a.v.token(b, h, 0);
    T* const o = outputs.o.token(b, h, 0);
    T* const read = rooms + thread * (2 * room + 2 * a.keys);  // [d], then encoded [d']
    T* const write = read + room;                              // [d], then encoded [d']
    T* const keep = write + room;                              // [d]: what the old state is multiplied by
    const bool on_token = !a.mask || a.mask(b, 0);
    for (std::int64_t j = 0; j < a.values; ++j) o[j * outputs.o.channel_stride()] = T(0);
    if (!on_token) return;

    for (std::int64_t i = 0; i < a.keys; ++i) {
      const T key = k[i * a.k.channel_stride()], kappa = Recurrence::keyed ? key : T(1);
      T logit = T(0);
      if constexpr (Recurrence::logits == logits_from::keys) logit = key;
      if constexpr (Recurrence::logits == logits_from::head) logit = a.log_decay(h);
      read[i] = q[i * a.q.channel_stride()];
      if constexpr (Recurrence::framed) {
        using monoid = typename Recurrence::template monoid<T>;
        const bool bad = !(logit < std::numeric_limits<T>::infinity());
        const scaled<T> w = scaled_exponential(bad ? T(0) : logit);
        std::int32_t& m = outputs.state.exponent(b, h, i);
        T& z = outputs.state.normaliser(b, h, i);
        const auto by = monoid::rescale(m, w.exponent);
        if (m <= empty_exponent) clear_channel(outputs.state, b, h, i);
        const T weight = bad ? std::numeric_limits<T>::quiet_NaN() : by.right * w.mantissa;
        z = by.left * z + weight;
        m = by.exponent;
        keep[i] = by.left;
        write[i] = kappa * weight;
        read[i] *= z == T(0) ? T(0) : T(1) / z;
      } else {
        keep[i] = exponential(logit);
        write[i] = kappa;
      }
    }
    T* encoded_read = read;
    T* encoded_write = write;
    if constexpr (Position::encodes) {
      encoded_read += a.keys;
      encoded_write += a.keys;
      const std::int64_t head = a.cosine.extent(0) == 1 ? 0 : h;
      const T* const cosine = a.cosine.data() + head * a.cosine.stride(0);
      const T* const sine = a.sine.data() + head * a.sine.stride(0);
      Position::apply(read, encoded_read, cosine, sine, a.keys, a.cosine.extent(2));
      Position::apply(write, encoded_write, cosine, sine, a.keys, a.cosine.extent(2));
    }
    for (std::int64_t i = 0; i < a.stored_keys; ++i) {
      const T by = keep[i % a.keys];  // 0 after a long jump: NaN stays NaN
      for (std::int64_t j = 0; j < a.values; ++j) {
        T& s = outputs.state.sum(b, h, i, j);
        s = by * s + encoded_write[i] * v[j * a.v.channel_stride()];
        o[j * outputs.o.channel_stride()] += encoded_read[i] * s;
      }
    }
  });
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
