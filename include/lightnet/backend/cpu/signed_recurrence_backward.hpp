// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/recurrence_pullback.hpp>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// The gradient of decays with a sign, token by token: the derivative by a decay is that by the state after it times the
/// state before it, which no division gives back where a decay is 0:
///   W <- W + q_t do_t^T,  dk_t = W v_t,  dv_t = W^T k_t,  da_t = rowsum(W * S_{t-1}),  W <- a_t W.
/// A sweep forward keeps the state before each chunk, and each chunk computes those of its tokens once more.
template <class Recurrence, class Position, int Dims, class T>
struct signed_pullback : recurrence_pullback<Recurrence, Position, Dims, T> {
  using base = recurrence_pullback<Recurrence, Position, Dims, T>;
  using typename base::A, typename base::arguments, typename base::gradients, typename base::lane;
  using base::rows, base::stored, base::values, base::width, base::v, base::from;
  using base::dout, base::dread, base::dwrite, base::dv, base::dlogit, base::make;

  struct carry_type : base::carry_type {
    A* kept_state;  // [chunks, e, d']
    carry_type(const recurrence_sizes& sizes, execution<cpu>::scope& scratch, const arguments& a, bool with_input)
        : base::carry_type(sizes, scratch, a, with_input),
          kept_state{scratch.take<A>(sizes.chunks(sizes.longest) * sizes.stored * sizes.values)} {}
  };

  A* states;       // [rows + 1, e, d']: before each row, and after the last
  A *factor, *da;  // [d']: the decay of a row, and the gradient by it

  signed_pullback(const arguments& a, execution<cpu>::scope& scratch)
      : base(a, scratch),
        states{scratch.take<A>((rows + 1) * stored * values)},
        factor{make(scratch, 1, stored).data},  // what pads it is zero
        da{scratch.take<A>(stored)} {}

  void backward(carry_type& carry, std::int64_t index_of_line, std::int64_t head, const gradients& out) {
    const std::int64_t part = stored * values;
    const token_line of_line = from->lines[index_of_line];
    const std::int64_t chunks = base::size.chunks(of_line.length);
    base::line_index = index_of_line;
    base::begin(carry, of_line, head);
    for (std::int64_t index = 0; index < chunks; ++index) {
      std::copy_n(carry.state.data, part, carry.kept_state + index * part);
      load_chunk(carry, of_line, head, index, false);
      run_forward(carry.state.data);
      std::copy_n(states + rows * part, part, carry.state.data);
    }
    base::begin_gradient(carry, index_of_line, of_line, head, out);
    for (std::int64_t index = chunks; index-- > 0;) {
      load_chunk(carry, of_line, head, index, true);
      base::copy_rows(out.o, dout, A(0));
      run_forward(carry.kept_state + index * part);
      base::place_queries(carry.bad.any, out);
      base::place_keys_and_values(carry.bad.any, out);
      run_backward(carry.d.data);
      store(carry.bad.any, out);
      base::add_parts(out);
    }
    base::end_gradient(carry, index_of_line, of_line, head, carry.bad.any, out);
  }

 private:
  /// Reads a chunk; queries and keys enter as they are, without a factor.
  void load_chunk(carry_type& carry, const token_line& of_line, std::int64_t head, std::int64_t index, bool backwards) {
    base::load(of_line, head, index, backwards);
    if (base::any_poison) carry.bad.add(base::bad);
    base::enter_plain(backwards);
  }

  const A* decay_of(std::int64_t r) const { return base::spread(base::logit.row(r), factor); }

  /// Calls body(offset in a state, row of [e], register of [d']) for every register of a state.
  template <class Body>
  void each_place(const Body& body) const {
    for (std::int64_t j = 0; j < from->values; ++j) {
      for (std::int64_t i = 0; i < stored; i += base::lane_width) body(j * stored + i, j, i);
    }
  }

  /// The states of all rows, from the one before the chunk.
  void run_forward(const A* before) {
    std::copy_n(before, stored * values, states);
    for (std::int64_t r = 0; r < rows; ++r) {
      const A* const a = decay_of(r);
      const A* const old = states + r * stored * values;
      A* const next = states + (r + 1) * stored * values;
      each_place([&](std::int64_t place, std::int64_t j, std::int64_t i) {
        store_lanes(next + place, load_lanes(a + i) * load_lanes(old + place) +
                                      base::v.row(r)[j] * load_lanes(base::write.row(r) + i));
      });
    }
  }

  /// From W after the chunk to W before it.
  void run_backward(A* w) {
    for (const tile<A>& t : {dread, dwrite}) std::fill_n(t.data, rows * t.stride, A(0));
    for (std::int64_t r = rows; r-- > 0;) {
      const A* const a = decay_of(r);
      const A* const old = states + r * stored * values;
      std::fill_n(da, stored, A(0));
      for (std::int64_t j = 0; j < from->values; ++j) {
        const A by = dout.row(r)[j], value = v.row(r)[j];
        lane sum{};
        for (std::int64_t i = 0; i < stored; i += base::lane_width) {
          const std::int64_t place = j * stored + i;
          const lane grown = load_lanes(w + place) + by * load_lanes(base::read.row(r) + i);
          A* const to_read = dread.row(r) + i;
          A* const to_write = dwrite.row(r) + i;
          store_lanes(to_read, load_lanes(to_read) + by * load_lanes(old + stored * values + place));
          store_lanes(to_write, load_lanes(to_write) + value * grown);
          store_lanes(da + i, load_lanes(da + i) + grown * load_lanes(old + place));
          sum = multiply_add(grown, load_lanes(base::write.row(r) + i), sum);
          store_lanes(w + place, load_lanes(a + i) * grown);
        }
        dv.row(r)[j] = sum_of_lanes<A>(sum);
      }
      std::fill_n(dlogit.row(r), width, A(0));
      for (std::int64_t i = 0; i < from->stored_keys; ++i) {
        dlogit.row(r)[Recurrence::per_channel ? i % from->keys : 0] += da[i];
      }
    }
  }

  void store(bool poisoned, const gradients& out) {
    base::gather_reads(0, rows - 1, out);
    base::gather_keys(rows - 1, false, out);
    base::store_queries(poisoned, out);
    base::store_keys_and_values(poisoned, out);
  }
};

/// The gradients of one pass of an ordered traversal of a recurrence with a sign.
template <class Recurrence, class Position, int Dims, class T>
void signed_recurrence_backward(execution<cpu>& on, const recurrence_arguments<Recurrence, Dims, T, cpu>& arguments,
                                const recurrence_gradients<Dims, T, cpu>& gradients) {
  using pullback = signed_pullback<Recurrence, Position, Dims, T>;
  for_each_line<pullback, typename pullback::carry_type>(
      on, arguments, false, false, [&](const auto& heads, const auto& team) {
        heads.each(
            [&](std::int64_t head, auto& carry) { team.walks[0].backward(carry, heads.line_index, head, gradients); });
      });
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
