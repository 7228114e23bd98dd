// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/parallel.hpp>
#include <lightnet/backend/cpu/recurrence_tile.hpp>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// The causal walk over one sequence and head at a time, in chunks (arXiv 2405.21022, appendix A.1, without logarithms):
///   o = qhat U + tril(qhat khat^T) V,   U <- 2^(m - f) U + khat^T V,
/// and its gradient, the same walk the other way. Least traffic a token and head: 2 d + 2 e elements forward, one pass
/// over the state a chunk.
template <class Recurrence, class Position, int Dims, class T>
struct causal_walk : recurrence_tile<Recurrence, Position, Dims, T> {
  using base = recurrence_tile<Recurrence, Position, Dims, T>;
  using arguments = typename base::arguments;
  using outputs = recurrence_outputs<Recurrence, Dims, T, cpu>;
  using gradients = recurrence_gradients<Dims, T, cpu>;
  using recurrence = Recurrence;
  using position = Position;
  using value_type = T;
  using sequence_type = head_sequence<Dims, T, cpu>;
  using base::rows, base::keys, base::stored, base::values, base::b, base::h, base::first, base::count;
  using base::v, base::read, base::write, base::plain_read, base::plain_write, base::weight, base::inverse;
  using base::rescale, base::running, base::from;

  static constexpr std::int64_t strip = 16;  // rows of the triangle computed together

  tile<T> scores, o, write_transposed;  // [rows, rows], [rows, e], [d', rows]
  tile<T> state, entered;               // [d', e]: U at the chunk's start, and in the frame of a run

  causal_walk(const arguments& a, execution<cpu>::scope& scratch)
      : base(a, scratch),
        scores{make(scratch, rows, rows)},
        o{make(scratch, rows, a.values)},
        write_transposed{make(scratch, stored, rows)},
        state{make(scratch, stored, a.values)},
        entered{make(scratch, stored, a.values)} {}

  static tile<T> make(execution<cpu>::scope& scratch, std::int64_t height, std::int64_t width) {
    const std::int64_t stride = whole_lanes<T>(width);
    T* const data = scratch.take<T>(height * stride);
    std::fill_n(data, height * stride, T(0));
    return {data, stride};
  }

  void begin(std::int64_t batch, std::int64_t head) {
    base::begin(batch, head);
    load_state(from->state.sum, state);
    for (std::int64_t i = 0; i < from->stored_keys; ++i) {  // an empty channel holds nothing, whatever lies there
      if (base::carried_exponent[i % from->keys] == empty_exponent) std::fill_n(state.row(i), values, T(0));
    }
  }

  /// Reads a [d', e] matrix of this sequence and head; zero where it is not given.
  template <class U>
  void load_state(const dynamic_view<4, U, cpu>& source, const tile<T>& to) const {
    std::fill_n(to.data, stored * to.stride, T(0));
    if (!source) return;
    for (std::int64_t i = 0; i < from->stored_keys; ++i) {
      for (std::int64_t j = 0; j < from->values; ++j) to.row(i)[j] = source(b, h, i, j);
    }
  }

  /// to = 2^(m - f) from, row by row; the rows of an encoded key share the factor of their channel.
  void scale_rows(const tile<T>& source, const tile<T>& to, const T* factor) const {
    for (std::int64_t i = 0; i < from->stored_keys; ++i) {
      const T by = factor[i % from->keys];
      for (std::int64_t j = 0; j < values; ++j) to.row(i)[j] = by * source.row(i)[j];
    }
  }

  /// The whole chunk's weights in the frame of its end, no queries: what a walk that only keeps the state needs.
  void enter_end() {
    base::enter_run(rows, rows - 1);
    scale_rows(state, entered, rescale);
  }

  /// state = entered + khat^T V, in the frame of the last run; a decay then starts a new frame. The chunk is summed by
  /// itself before it joins the state: a sum that runs through the state loses digits.
  void update_state() {
    multiply(write.data, 1, write.stride, v.data, v.stride, state.data, state.stride, from->stored_keys, values, rows,
             false);
    for (std::int64_t i = 0; i < from->stored_keys * state.stride; ++i) state.data[i] += entered.data[i];
    base::leave();
    if constexpr (!base::sums) {
      for (std::int64_t i = 0; i < keys; ++i) running[i] = T(1) / base::carried_normaliser[i];
      scale_rows(state, state, running);
      base::restart(0, T(1));
    }
  }

  /// Takes in chunk `index` without reading it.
  void absorb_chunk(std::int64_t index) {
    base::load(index, false);
    base::weigh();
    enter_end();
    update_state();
  }

  /// scores = tril(left right^T) for rows [start, last]: later columns are zero by selection. `right` is transposed.
  void lower_triangle(const tile<T>& left, const tile<T>& right, std::int64_t depth, std::int64_t start,
                      std::int64_t last) const {
    for (std::int64_t r = start; r <= last; r += strip) {
      const std::int64_t end = std::min(r + strip, last + 1);
      multiply(left.row(r), left.stride, 1, right.data, right.stride, scores.row(r), scores.stride, end - r,
               whole_lanes<T>(end), depth, false);
      for (std::int64_t t = r; t < end; ++t) std::fill(scores.row(t) + t + 1, scores.row(t) + scores.stride, T(0));
    }
  }

  static void transpose(const tile<T>& source, std::int64_t height, std::int64_t width, const tile<T>& to) {
    for (std::int64_t r = 0; r < height; ++r) {
      for (std::int64_t i = 0; i < width; ++i) to.row(i)[r] = source.row(r)[i];
    }
  }

  void forward_chunk(std::int64_t index, const outputs& out) {
    base::load(index, true);
    base::weigh();
    for (std::int64_t start = 0, last; start < rows; start = last + 1) {
      last = base::last_of_run(start);
      base::enter_run(start, last);
      scale_rows(state, entered, rescale);
      transpose(write, last + 1, from->stored_keys, write_transposed);
      lower_triangle(read, write_transposed, from->stored_keys, start, last);
      for (std::int64_t r = start; r <= last; r += strip) {
        const std::int64_t end = std::min(r + strip, last + 1);
        multiply(scores.row(r), scores.stride, 1, v.data, v.stride, o.row(r), o.stride, end - r, values, end, false);
        multiply(read.row(r), read.stride, 1, entered.data, entered.stride, o.row(r), o.stride, end - r, values,
                 from->stored_keys, true);
      }
    }
    update_state();
    for (std::int64_t r = 0; r < count; ++r) store_row(r, o, out.o, out.accumulate, from->values, true);
  }

  /// Writes row r: zero where the token is masked, NaN where a bad entry reached it.
  void store_row(std::int64_t r, const tile<T>& source, const sequence_type& to, bool accumulate, std::int64_t channels,
                 bool poison) const {
    if (!to) return;
    T* const target = to.token(b, h, base::token(r));
    const std::int64_t stride = to.channel_stride();
    const bool check = poison && base::any_poison && base::on[r];
    if (base::on[r] && !check && !accumulate && stride == 1) {
      std::copy_n(source.row(r), channels, target);
      return;
    }
    constexpr T nan = std::numeric_limits<T>::quiet_NaN();
    for (std::int64_t j = 0; j < channels; ++j) {
      T x = base::on[r] ? source.row(r)[j] : T(0);
      if (check) {
        if (first + r >= base::poisoned || first + r >= base::poisoned_column[j]) x = nan;
      }
      target[j * stride] = accumulate ? target[j * stride] + x : x;
    }
  }

  void forward(std::int64_t batch, std::int64_t head, const outputs& out) {
    begin(batch, head);
    for (std::int64_t i = 0; i < base::chunks(); ++i) forward_chunk(i, out);
    store_state(out.state);
  }

  void store_state(const typename Recurrence::template state<T, cpu>& to) const {
    if (!to) return;
    constexpr T nan = std::numeric_limits<T>::quiet_NaN();
    const bool bad = base::poisoned < from->tokens;
    for (std::int64_t i = 0; i < from->stored_keys; ++i) {
      for (std::int64_t j = 0; j < from->values; ++j) {
        to.sum(b, h, i, j) = bad || base::poisoned_column[j] < from->tokens ? nan : state.row(i)[j];
      }
    }
    if constexpr (Recurrence::framed) {
      for (std::int64_t i = 0; i < from->keys; ++i) {
        to.exponent(b, h, i) = base::carried_exponent[i];
        to.normaliser(b, h, i) = bad ? nan : base::carried_normaliser[i];
      }
    }
  }
};

/// The outputs o and the final state of the causal traversal.
template <class Recurrence, class Position, int Dims, class T>
void linear_recurrence_forward(execution<cpu>& on, const recurrence_arguments<Recurrence, Dims, T, cpu>& arguments,
                               const recurrence_outputs<Recurrence, Dims, T, cpu>& outputs) {
  using walk = causal_walk<Recurrence, Position, Dims, T>;
  execution<cpu>::scope scratch{on};
  walk* const walks = make_each<walk>(on, scratch, arguments);
  parallel_for(on, arguments.batch * arguments.heads, [&](std::int64_t item, int thread) {
    walks[thread].forward(item / arguments.heads, item % arguments.heads, outputs);
  });
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
