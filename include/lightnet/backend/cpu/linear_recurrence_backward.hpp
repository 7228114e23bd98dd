// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/linear_recurrence.hpp>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// What the gradients of every traversal share: tiles for the gradients of a chunk, D (the gradient with respect to U in
/// the frame at hand) and r (what the tokens already seen owe the normaliser, with the factor 1 / Z), the way from the
/// encoded factors back to q, k and v, and the ends of a sequence.
template <class Walk>
struct recurrence_pullback : Walk {
  using base = Walk;
  using typename base::arguments, typename base::gradients, typename base::position, typename base::recurrence;
  using T = typename base::value_type;
  using sequence_type = typename base::sequence_type;
  using base::rows, base::keys, base::stored, base::values, base::b, base::h, base::first, base::count;
  using base::from, base::state;

  tile<T> dout;                                      // [rows, e]
  tile<T> dread, dwrite, dread_plain, dwrite_plain;  // [rows, d'] twice, [rows, d] twice
  tile<T> dq, dv, dlogit, dkappa;                    // [rows, d], [rows, e], [rows, d], [rows, d]
  tile<T> d, d_transposed, state_transposed;         // [d', e], [e, d'], [e, d']
  T* r;                                              // [d]
  T* dangle;                                         // [angles]

  recurrence_pullback(const arguments& a, execution<cpu>::scope& scratch)
      : base(a, scratch),
        dout{base::make(scratch, rows, a.values)},
        dread{base::make(scratch, rows, stored)},
        dwrite{base::make(scratch, rows, stored)},
        dread_plain{position::encodes ? base::make(scratch, rows, keys) : dread},
        dwrite_plain{position::encodes ? base::make(scratch, rows, keys) : dwrite},
        dq{base::make(scratch, rows, keys)},
        dv{base::make(scratch, rows, values)},
        dlogit{base::make(scratch, rows, keys)},
        dkappa{base::make(scratch, rows, keys)},
        d{base::make(scratch, stored, a.values)},
        d_transposed{base::make(scratch, values, stored)},
        state_transposed{base::make(scratch, values, stored)},
        r{scratch.take<T>(keys)},
        dangle{scratch.take<T>(keys)} {}

  void load_gradients(const gradients& out) const {
    for (std::int64_t t = 0; t < rows; ++t) base::load_row(out.o, t, dout, from->values, T(0));
  }

  /// to [d] = rowsum(left * right) of two [d', e] matrices, the rows of an encoded key added up.
  void row_sums(const tile<T>& left, const tile<T>& right, T* to) const {
    std::fill_n(to, keys, T(0));
    for (std::int64_t i = 0; i < from->stored_keys; ++i) {
      T sum = T(0);
      for (std::int64_t j = 0; j < from->values; ++j) sum += left.row(i)[j] * right.row(i)[j];
      to[i % from->keys] += sum;
    }
  }

  /// D and r from the gradient of the final state, the walk standing there: dU = dS / Z, and dz enters through Z.
  void begin_gradient(const gradients& out) {
    if (out.log_decay && !out.accumulate) out.log_decay(b, h) = T(0);
    for (std::int64_t j = 0; out.theta && !out.accumulate && j < out.theta.extent(2); ++j) out.theta(b, h, j) = T(0);
    base::load_state(out.final_state.sum, d);
    std::fill_n(r, keys, T(0));
    if constexpr (base::sums) {
      row_sums(d, state, r);
      for (std::int64_t i = 0; i < from->keys; ++i) {
        const T by = base::reciprocal(base::carried_normaliser[i]);
        const T dz = out.final_state.z ? out.final_state.z(b, h, i) : T(0);
        r[i] = (r[i] * by - dz) * by;
        base::running[i] = by;
      }
      base::scale_rows(d, d, base::running);
    }
  }

  /// From the gradient of an encoded row to that of the row; adds what the angles get.
  void decode(const tile<T>& plain, const tile<T>& dencoded, const tile<T>& dplain, std::int64_t row,
              const gradients& out) const {
    if constexpr (position::encodes) {
      const std::int64_t angles = from->cosine.extent(2);
      const std::int64_t share = out.theta.extent(2);
      T* const to = out.theta && row < count ? dangle : nullptr;
      if (to) std::fill_n(to, angles, T(0));
      position::pull(plain.row(row), dencoded.row(row), dplain.row(row), to, base::cosine(row), base::sine(row),
                     from->keys, angles);
      for (std::int64_t j = 0; to && j < angles; ++j) {
        out.theta(b, h, j % share) += out.coordinate(base::token(row), j) * to[j];
      }
    }
  }

  void store_queries(const gradients& out) const {
    for (std::int64_t t = 0; t < count; ++t) store_gradient(t, dq, out.q, out.accumulate, from->keys);
  }

  void store_keys_and_values(const gradients& out) const {
    const tile<T>& dk = recurrence::logits == logits_from::keys ? dlogit : dkappa;
    for (std::int64_t t = 0; t < count; ++t) {
      store_gradient(t, dk, out.k, out.accumulate, from->keys);
      store_gradient(t, dv, out.v, out.accumulate, from->values);
    }
  }

  /// The end of a walk back: dS_0 = Z_0 D and dz_0 = rowsum(dS_0 * S_0) - Z_0 r, D and r being in the frame of the
  /// initial state. What is summed over the tokens of a sequence with a bad entry is NaN.
  void end_gradient(const gradients& out) {
    const bool bad = base::any_poison;
    constexpr T nan = std::numeric_limits<T>::quiet_NaN();
    if (bad && out.log_decay) out.log_decay(b, h) = nan;
    for (std::int64_t j = 0; bad && out.theta && j < out.theta.extent(2); ++j) out.theta(b, h, j) = nan;
    if (!out.state) return;
    base::begin(b, h);
    row_sums(d, state, base::running);
    for (std::int64_t i = 0; out.state.z && i < from->keys; ++i) {
      out.state.z(b, h, i) = bad ? nan : base::running[i] - base::carried_normaliser[i] * r[i];
    }
    for (std::int64_t i = 0; i < from->stored_keys; ++i) {
      for (std::int64_t j = 0; j < from->values; ++j) {
        out.state.sum(b, h, i, j) = bad ? nan : base::carried_normaliser[i % from->keys] * d.row(i)[j];
      }
    }
  }

 private:
  /// A sequence and head that saw a bad entry has no gradient: NaN, but where a token is masked.
  void store_gradient(std::int64_t t, const tile<T>& source, const sequence_type& to, bool accumulate,
                      std::int64_t channels) const {
    if (base::any_poison && base::on[t]) {
      std::fill_n(source.row(t), channels, std::numeric_limits<T>::quiet_NaN());
    }
    base::store_row(t, source, to, accumulate, channels, false);
  }
};

/// The gradient of the causal walk. One sweep forward keeps the state at the start of each chunk, one sweep back
/// carries D, the gradient with respect to U in the frame of the chunk's end:
///   dP = tril(do V^T),  dqhat = do U^T + dP khat,  dkhat = V D^T + dP^T qhat,  dv = khat D + tril(qhat khat^T)^T do,
///   D <- 2^(m - f) (D + qhat^T do).
/// With A = khat * dkhat (by log w) and R = qhat * dqhat (by -log Z), a logit's gradient is, for weights that are summed,
/// A_s - w_s sum_{t >= s} R_t / Z_t, and for a decay sum_{t >= s} (R_t - A_t).
template <class Recurrence, class Position, int Dims, class T>
struct causal_pullback : recurrence_pullback<causal_walk<Recurrence, Position, Dims, T>> {
  using base = recurrence_pullback<causal_walk<Recurrence, Position, Dims, T>>;
  using typename base::arguments, typename base::gradients;
  using base::rows, base::keys, base::stored, base::values, base::b, base::h, base::count, base::v, base::read;
  using base::write, base::weight, base::inverse, base::rescale, base::from, base::state, base::entered, base::scores;
  using base::dout, base::dread, base::dwrite, base::dv, base::dlogit, base::dkappa, base::d, base::r;

  tile<T> v_transposed;         // [e, rows]
  tile<T> key_term, read_term;  // [rows, d]: A and R
  tile<T> d_start;              // [d', e]: D before the chunk
  T* r_start;                   // [d]
  T* tail;                      // [d]: a sum from the last row up
  T* kept_state;                // [chunks + 1, d', e]
  T* kept_normaliser;           // [chunks + 1, d]
  std::int32_t* kept_exponent;  // [chunks + 1, d]
  std::int64_t* run_last;       // [rows]

  causal_pullback(const arguments& a, execution<cpu>::scope& scratch)
      : base(a, scratch),
        v_transposed{base::make(scratch, values, rows)},
        key_term{base::make(scratch, rows, keys)},
        read_term{base::make(scratch, rows, keys)},
        d_start{base::make(scratch, stored, a.values)},
        r_start{scratch.take<T>(keys)},
        tail{scratch.take<T>(keys)},
        kept_state{scratch.take<T>((base::chunks() + 1) * stored * values)},
        kept_normaliser{scratch.take<T>((base::chunks() + 1) * keys)},
        kept_exponent{scratch.take<std::int32_t>((base::chunks() + 1) * keys)},
        run_last{scratch.take<std::int64_t>(rows)} {}

  void keep(std::int64_t index) {
    std::copy_n(state.data, stored * values, kept_state + index * stored * values);
    std::copy_n(base::carried_normaliser, keys, kept_normaliser + index * keys);
    std::copy_n(base::carried_exponent, keys, kept_exponent + index * keys);
  }

  void restore(std::int64_t index) {
    std::copy_n(kept_state + index * stored * values, stored * values, state.data);
    std::copy_n(kept_normaliser + index * keys, keys, base::carried_normaliser);
    std::copy_n(kept_exponent + index * keys, keys, base::carried_exponent);
  }

  /// The states at the start of each chunk, and at the end of the last.
  void sweep_forward(std::int64_t chunks) {
    for (std::int64_t i = 0; i < chunks; ++i) {
      keep(i);
      base::absorb_chunk(i);
    }
    keep(chunks);
  }

  void backward(std::int64_t batch, std::int64_t head, const gradients& out) {
    base::begin(batch, head);
    sweep_forward(base::chunks());
    base::begin_gradient(out);
    for (std::int64_t i = base::chunks(); i-- > 0;) backward_chunk(i, out);
    base::end_gradient(out);
  }

  void backward_chunk(std::int64_t index, const gradients& out) {
    if constexpr (!base::sums) {  // a decay's sum starts anew from rowsum(S * dS): over long sequences it loses digits
      restore(index + 1);
      base::row_sums(state, d, r);
    }
    restore(index);
    base::load(index, true);
    base::load_gradients(out);
    base::weigh();
    base::transpose(v, rows, values, v_transposed);
    for (tile<T>* const t : {&dv, &key_term, &read_term, &dlogit, &dkappa, &d_start}) {
      std::fill_n(t->data, (t == &d_start ? stored : rows) * t->stride, T(0));
    }
    std::fill_n(r_start, keys, T(0));
    std::int64_t runs = 0;
    for (std::int64_t start = 0; start < rows; start = run_last[runs++] + 1) run_last[runs] = base::last_of_run(start);
    for (std::int64_t run = runs; run-- > 0;) {
      backward_run(run == 0 ? 0 : run_last[run - 1] + 1, run_last[run], run + 1 == runs, out);
    }
    finish_logits(out);
    base::store_queries(out);
    base::store_keys_and_values(out);
    std::swap(d, d_start);
    std::swap(r, r_start);
  }

  void backward_run(std::int64_t start, std::int64_t last, bool final_run, const gradients& out) {
    const std::int64_t depth = from->stored_keys, length = last - start + 1;
    base::enter_run(start, last);
    base::scale_rows(state, entered, rescale);
    if (final_run) {
      if constexpr (!base::sums) {
        for (std::int64_t i = 0; i < keys; ++i) base::running[i] = inverse.row(last)[i];
        base::scale_rows(d, d, base::running);
      }
      base::transpose(d, stored, values, base::d_transposed);
      multiply(v.data, v.stride, 1, base::d_transposed.data, base::d_transposed.stride, dwrite.data, dwrite.stride,
               rows, stored, values, false);
      multiply(write.data, write.stride, 1, d.data, d.stride, dv.data, dv.stride, rows, values, depth, true);
      base::scale_rows(d, d_start, rescale);
      for (std::int64_t i = 0; i < keys; ++i) r_start[i] = rescale[i] * r[i];
    } else {
      std::fill_n(dwrite.data, rows * dwrite.stride, T(0));
    }
    // Through the reading of the state.
    base::transpose(entered, stored, values, base::state_transposed);
    multiply(dout.row(start), dout.stride, 1, base::state_transposed.data, base::state_transposed.stride,
             dread.row(start), dread.stride, length, stored, values, false);
    // Through the triangle: dP, then P, in the same place.
    base::lower_triangle(dout, v_transposed, values, start, last);
    multiply(scores.row(start), scores.stride, 1, write.data, write.stride, dread.row(start), dread.stride, length,
             stored, last + 1, true);
    multiply(scores.row(start), 1, scores.stride, read.row(start), read.stride, dwrite.data, dwrite.stride, last + 1,
             stored, length, true);
    base::transpose(write, last + 1, depth, base::write_transposed);
    base::lower_triangle(read, base::write_transposed, depth, start, last);
    multiply(scores.row(start), 1, scores.stride, dout.row(start), dout.stride, dv.data, dv.stride, last + 1, values,
             length, true);
    // qhat^T do in the frame of the chunk's start.
    multiply(read.row(start), 1, read.stride, dout.row(start), dout.stride, entered.data, entered.stride, depth, values,
             length, false);
    for (std::int64_t i = 0; i < depth; ++i) {
      const T by = rescale[i % from->keys];
      for (std::int64_t j = 0; j < values; ++j) d_start.row(i)[j] += by * entered.row(i)[j];
    }
    gather_terms(start, last, final_run, out);
  }

  /// From the encoded factors' gradients to those of q, of kappa, and of log w and log Z.
  void gather_terms(std::int64_t start, std::int64_t last, bool final_run, const gradients& out) {
    for (std::int64_t s = 0; s <= last; ++s) {
      base::decode(base::plain_write, dwrite, base::dwrite_plain, s, out);
      for (std::int64_t i = 0; i < keys; ++i) {
        key_term.row(s)[i] += base::plain_write.row(s)[i] * base::dwrite_plain.row(s)[i];
        if constexpr (Recurrence::keyed) dkappa.row(s)[i] += weight.row(s)[i] * base::dwrite_plain.row(s)[i];
      }
    }
    for (std::int64_t t = start; t <= last; ++t) {
      base::decode(base::plain_read, dread, base::dread_plain, t, out);
      for (std::int64_t i = 0; i < keys; ++i) {
        base::dq.row(t)[i] = base::dread_plain.row(t)[i] * inverse.row(t)[i];
        read_term.row(t)[i] = base::plain_read.row(t)[i] * base::dread_plain.row(t)[i];
      }
    }
    if constexpr (base::sums) {
      std::fill_n(tail, keys, T(0));
      for (std::int64_t s = last; s >= 0; --s) {
        for (std::int64_t i = 0; i < keys; ++i) {
          if (s >= start) tail[i] += read_term.row(s)[i] * inverse.row(s)[i];
          dlogit.row(s)[i] -= weight.row(s)[i] * (tail[i] + (final_run ? r[i] : T(0)));
        }
      }
      for (std::int64_t i = 0; i < keys; ++i) r_start[i] += rescale[i] * tail[i];
    }
  }

  /// The gradients of the logits from those of log w and log Z.
  void finish_logits(const gradients& out) {
    if constexpr (base::sums) {
      for (std::int64_t i = 0; i < rows * dlogit.stride; ++i) dlogit.data[i] += key_term.data[i];
    } else {
      std::copy_n(r, keys, tail);
      T total = T(0);
      for (std::int64_t t = rows; t-- > 0;) {
        for (std::int64_t i = 0; i < from->keys; ++i) {
          tail[i] += read_term.row(t)[i] - key_term.row(t)[i];
          dlogit.row(t)[i] = tail[i];
          if (base::on[t]) total += tail[i];
        }
      }
      if (out.log_decay) out.log_decay(b, h) += total;
    }
  }
};

/// The gradients of the causal traversal with respect to everything in `arguments`.
template <class Recurrence, class Position, int Dims, class T>
void linear_recurrence_backward(execution<cpu>& on, const recurrence_arguments<Recurrence, Dims, T, cpu>& arguments,
                                const recurrence_gradients<Dims, T, cpu>& gradients) {
  using pullback = causal_pullback<Recurrence, Position, Dims, T>;
  execution<cpu>::scope scratch{on};
  pullback* const pullbacks = make_each<pullback>(on, scratch, arguments);
  parallel_for(on, arguments.batch * arguments.heads, [&](std::int64_t item, int thread) {
    pullbacks[thread].backward(item / arguments.heads, item % arguments.heads, gradients);
  });
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
