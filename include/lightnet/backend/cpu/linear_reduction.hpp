// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/linear_recurrence_backward.hpp>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// The global traversal of a commutative recurrence: one reduction gives the total (m, Z, U), then every token reads it,
///   o = (q / Z_N) U_N,
/// which for the additive recurrence is Q (softmax over tokens(K))^T V. An encoding that mixes channels of different
/// weights needs the weights normalised before it: then a first pass finds (m, Z), and khat carries 1 / Z.
template <class Recurrence, class Position, int Dims, class T>
struct global_walk : causal_walk<Recurrence, Position, Dims, T> {
  using base = causal_walk<Recurrence, Position, Dims, T>;
  using typename base::arguments, typename base::outputs;
  using base::rows, base::keys, base::values, base::count, base::v, base::read, base::write, base::from, base::state;

  static constexpr bool normalise_first = Recurrence::per_channel && Position::mixes_channels;

  T* inverse_total;  // [d]: 1 / Z_N

  global_walk(const arguments& a, execution<cpu>::scope& scratch)
      : base(a, scratch), inverse_total{scratch.take<T>(keys)} {}

  /// The total of all tokens and the initial state.
  void reduce() {
    for (std::int64_t i = 0; i < base::chunks(); ++i) {
      if constexpr (normalise_first) {
        base::load(i, false);
        base::weigh();
        base::enter_end();
        base::leave();
      } else {
        base::absorb_chunk(i);
      }
    }
    for (std::int64_t i = 0; i < keys; ++i) inverse_total[i] = base::reciprocal(base::carried_normaliser[i]);
    if constexpr (normalise_first) {
      for (std::int64_t i = 0; i < base::chunks(); ++i) {
        weigh_chunk(i);
        multiply(write.data, 1, write.stride, v.data, v.stride, base::entered.data, base::entered.stride,
                 from->stored_keys, values, rows, false);
        add(base::entered, state);
      }
    }
  }

  void add(const tile<T>& source, const tile<T>& to) const {
    for (std::int64_t i = 0; i < from->stored_keys * to.stride; ++i) to.data[i] += source.data[i];
  }

  /// Reads chunk `index` and its weights in the frame of the total.
  void weigh_chunk(std::int64_t index) {
    base::load(index, false);
    base::weigh();
    for (std::int64_t t = 0; t < rows; ++t) {
      base::weigh_row(t, base::carried_exponent);
      if constexpr (normalise_first) {
        for (std::int64_t i = 0; i < keys; ++i) base::plain_write.row(t)[i] *= inverse_total[i];
      }
      base::encode(base::plain_write, write, t);
    }
  }

  /// Reads chunk `index` and qhat = q / Z. The bad entries were remembered by `reduce`.
  void load_queries(std::int64_t index) {
    base::load(index, true);
    for (std::int64_t t = 0; t < rows; ++t) {
      for (std::int64_t i = 0; i < keys; ++i) {
        base::plain_read.row(t)[i] = base::q.row(t)[i] * (normalise_first ? T(1) : inverse_total[i]);
      }
      base::encode(base::plain_read, read, t);
    }
  }

  void forward(std::int64_t batch, std::int64_t head, const outputs& out) {
    base::begin(batch, head);
    reduce();
    if (base::poisoned < from->tokens) base::poisoned = 0;
    for (std::int64_t j = 0; j < from->values; ++j) {
      if (base::poisoned_column[j] < from->tokens) base::poisoned_column[j] = 0;
    }
    for (std::int64_t i = 0; i < base::chunks(); ++i) {
      load_queries(i);
      multiply(read.data, read.stride, 1, state.data, state.stride, base::o.data, base::o.stride, rows, values,
               from->stored_keys, false);
      for (std::int64_t t = 0; t < count; ++t) base::store_row(t, base::o, out.o, out.accumulate, from->values, true);
    }
    base::store_state(out.state);
  }
};

/// The gradient of the global traversal:
///   D = sum_t qhat_t^T do_t in the frame of the total,  dq = (do U^T) / Z,  dv = khat D,
///   dk = khat * (V D^T - r),  r = sum_t R_t / Z.
template <class Recurrence, class Position, int Dims, class T>
struct global_pullback : recurrence_pullback<global_walk<Recurrence, Position, Dims, T>> {
  using base = recurrence_pullback<global_walk<Recurrence, Position, Dims, T>>;
  using typename base::arguments, typename base::gradients;
  using base::rows, base::keys, base::stored, base::values, base::b, base::h, base::v, base::read, base::write;
  using base::weight, base::from, base::state, base::dout, base::dread, base::dwrite, base::d, base::r;
  using base::normalise_first, base::inverse_total;

  std::int32_t* total_exponent;  // [d]: m_N

  global_pullback(const arguments& a, execution<cpu>::scope& scratch)
      : base(a, scratch), total_exponent{scratch.take<std::int32_t>(keys)} {}

  void backward(std::int64_t batch, std::int64_t head, const gradients& out) {
    base::begin(batch, head);
    base::reduce();
    base::begin_gradient(out);
    base::transpose(state, stored, values, base::state_transposed);
    for (std::int64_t i = 0; i < base::chunks(); ++i) backward_queries(i, out);
    base::transpose(d, stored, values, base::d_transposed);
    if constexpr (normalise_first) {
      std::fill_n(r, keys, T(0));
      for (std::int64_t i = 0; i < base::chunks(); ++i) gather_key_terms(i, out);
    }
    for (std::int64_t i = 0; i < base::chunks(); ++i) backward_keys(i, out);
    enter_initial_frame();
    base::end_gradient(out);
  }

  /// D and r as the initial state sees them: it joined the total with the factor 2^(m_0 - m_N).
  void enter_initial_frame() {
    std::copy_n(base::carried_exponent, keys, total_exponent);
    const bool bad = base::any_poison;
    base::begin(b, h);
    base::any_poison = bad;
    for (std::int64_t i = 0; i < keys; ++i) {
      base::running[i] = scale_by_power_of_two(T(1), base::carried_exponent[i] - total_exponent[i]);
      r[i] *= base::running[i];
    }
    base::scale_rows(d, d, base::running);
  }

  void backward_queries(std::int64_t index, const gradients& out) {
    base::load_queries(index);
    base::load_gradients(out);
    multiply(dout.data, dout.stride, 1, base::state_transposed.data, base::state_transposed.stride, dread.data,
             dread.stride, rows, stored, values, false);
    multiply(read.data, 1, read.stride, dout.data, dout.stride, base::entered.data, base::entered.stride,
             from->stored_keys, values, rows, false);
    base::add(base::entered, d);
    for (std::int64_t t = 0; t < rows; ++t) {
      base::decode(base::plain_read, dread, base::dread_plain, t, out);
      for (std::int64_t i = 0; i < keys; ++i) {
        const T dread_scaled = base::dread_plain.row(t)[i] * (normalise_first ? T(1) : inverse_total[i]);
        base::dq.row(t)[i] = dread_scaled;
        r[i] += base::plain_read.row(t)[i] * dread_scaled;
      }
    }
    base::store_queries(out);
  }

  /// The gradient of the encoded and then of the plain weights of chunk `index`.
  void pull_keys(std::int64_t index, const gradients& out) {
    base::weigh_chunk(index);
    multiply(v.data, v.stride, 1, base::d_transposed.data, base::d_transposed.stride, dwrite.data, dwrite.stride, rows,
             stored, values, false);
    for (std::int64_t t = 0; t < rows; ++t) base::decode(base::plain_write, dwrite, base::dwrite_plain, t, out);
  }

  /// Weights that are normalised first owe the normaliser sum_s khat_s * dkhat_s.
  void gather_key_terms(std::int64_t index, const gradients& out) {
    gradients without_angles = out;
    without_angles.theta = {};
    pull_keys(index, without_angles);
    for (std::int64_t t = 0; t < rows; ++t) {
      for (std::int64_t i = 0; i < keys; ++i) r[i] += base::plain_write.row(t)[i] * base::dwrite_plain.row(t)[i];
    }
  }

  void backward_keys(std::int64_t index, const gradients& out) {
    pull_keys(index, out);
    multiply(write.data, write.stride, 1, d.data, d.stride, base::dv.data, base::dv.stride, rows, values,
             from->stored_keys, false);
    for (std::int64_t t = 0; t < rows; ++t) {
      const T* const factor = base::plain_write.row(t);
      const T* const dfactor = base::dwrite_plain.row(t);
      for (std::int64_t i = 0; i < keys; ++i) {
        if constexpr (Recurrence::keyed) {
          base::dkappa.row(t)[i] = weight.row(t)[i] * dfactor[i];
        } else {
          base::dlogit.row(t)[i] = factor[i] * dfactor[i] - (normalise_first ? factor[i] : weight.row(t)[i]) * r[i];
        }
      }
    }
    base::store_keys_and_values(out);
  }
};

/// The outputs o and the final state of the global traversal.
template <class Recurrence, class Position, int Dims, class T>
void linear_reduction_forward(execution<cpu>& on, const recurrence_arguments<Recurrence, Dims, T, cpu>& arguments,
                              const recurrence_outputs<Recurrence, Dims, T, cpu>& outputs) {
  using walk = global_walk<Recurrence, Position, Dims, T>;
  execution<cpu>::scope scratch{on};
  walk* const walks = make_each<walk>(on, scratch, arguments);
  parallel_for(on, arguments.batch * arguments.heads, [&](std::int64_t item, int thread) {
    walks[thread].forward(item / arguments.heads, item % arguments.heads, outputs);
  });
}

/// The gradients of the global traversal with respect to everything in `arguments`.
template <class Recurrence, class Position, int Dims, class T>
void linear_reduction_backward(execution<cpu>& on, const recurrence_arguments<Recurrence, Dims, T, cpu>& arguments,
                               const recurrence_gradients<Dims, T, cpu>& gradients) {
  using pullback = global_pullback<Recurrence, Position, Dims, T>;
  execution<cpu>::scope scratch{on};
  pullback* const pullbacks = make_each<pullback>(on, scratch, arguments);
  parallel_for(on, arguments.batch * arguments.heads, [&](std::int64_t item, int thread) {
    pullbacks[thread].backward(item / arguments.heads, item % arguments.heads, gradients);
  });
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
