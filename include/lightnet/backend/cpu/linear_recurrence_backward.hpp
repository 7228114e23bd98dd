// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/recurrence_pullback.hpp>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// The gradient of the causal walk. One sweep forward keeps the state at the start of each chunk, one sweep back
/// carries D, the gradient by U in the frame of the chunk's end:
///   dP = tril(do V^T),  dqhat = do U^T + dP khat,  dkhat = V D^T + dP^T qhat,  dv = khat D + tril(qhat khat^T)^T do,
///   D <- 2^(m - f) (D + qhat^T do).
/// With A = khat * dkhat (by log w) and R = qhat * dqhat (by -log Z), a logit's gradient is, for weights that are summed,
/// A_s - w_s (sum_{t >= s} R_t / Z_t + r), for plain inputs -w_s (sum_{t >= s} (R_t - A_t) / Z_t + r), and for a decay
/// r + sum_{t >= s} (R_t - A_t).
template <class Recurrence, class Position, int Dims, class T>
struct causal_pullback : recurrence_pullback<Recurrence, Position, Dims, T> {
  using base = recurrence_pullback<Recurrence, Position, Dims, T>;
  using typename base::A, typename base::arguments, typename base::gradients, typename base::lane;
  using typename base::exponent_type;
  using base::rows, base::stored, base::values, base::width, base::line, base::h, base::v, base::read, base::write;
  using base::weight, base::inverse, base::rescale, base::from, base::dout, base::dread, base::dwrite, base::dv;
  using base::key_term, base::read_term, base::dlogit, base::d, base::d_plain, base::total, base::make;

  /// The states, and m and Z, at the start of every chunk and at the end.
  struct carry_type : base::carry_type {
    A *kept_state, *kept_normaliser;  // [chunks + 1, e, d'], [chunks + 1, width]
    exponent_type* kept_exponent;     // [chunks + 1, width]

    carry_type(const recurrence_sizes& sizes, execution<cpu>::scope& scratch, const arguments& a, bool with_input)
        : base::carry_type(sizes, scratch, a, with_input) {
      const std::int64_t places = sizes.chunks(sizes.longest) + 1;
      kept_state = scratch.take<A>(places * sizes.stored * sizes.values);
      kept_normaliser = scratch.take<A>(places * sizes.width);
      kept_exponent = scratch.take<exponent_type>(places * sizes.width);
    }
    /// All that is kept, since it is written and read once more.
    static std::int64_t bytes(const recurrence_sizes& sizes) {
      const std::int64_t chunks = sizes.chunks(sizes.longest);
      return base::carry_type::bytes(sizes) * std::max<std::int64_t>(3, chunks / 32);
    }
    tile<A> state_at(std::int64_t index) const {
      return {kept_state + index * this->size.stored * this->size.values, this->size.stored};
    }
    void keep_state(std::int64_t index) const {
      std::copy_n(this->state.data, this->size.stored * this->size.values, state_at(index).data);
    }
    void keep_normaliser(std::int64_t index) const {
      std::copy_n(this->normaliser, this->size.width, kept_normaliser + index * this->size.width);
      std::copy_n(this->exponent, this->size.width, kept_exponent + index * this->size.width);
    }
  };

  tile<A> scores, dscores;                 // [rows, rows]: P and dP
  tile<A> v_transposed, write_transposed;  // [e, rows], [d', rows]
  tile<A> dtotal;                          // [e, d']: qhat^T do, in the frame of the chunk's start
  A *r, *r_start;                          // [width]: r at the chunk's end, and what the chunk adds to it

  causal_pullback(const arguments& a, execution<cpu>::scope& scratch)
      : base(a, scratch),
        scores{make(scratch, rows, rows)},
        dscores{make(scratch, rows, rows)},
        v_transposed{make(scratch, values, rows)},
        write_transposed{make(scratch, stored, rows)},
        dtotal{make(scratch, values, stored)},
        r{scratch.take<A>(width)},
        r_start{scratch.take<A>(width)} {}

  void backward(const crew<causal_pullback>& team, const head_group<carry_type>& heads, const gradients& out) {
    const token_line of_line = from->lines[heads.line_index];
    const std::int64_t chunks = base::size.chunks(of_line.length);
    heads.each([&](std::int64_t head, carry_type& carry) { base::begin(carry, of_line, head); });
    team.each_chunk(chunks, [&](causal_pullback& walk, std::int64_t index) {
      heads.each([&](std::int64_t head, carry_type& carry) {
        const auto [next_head, next] = heads.after(head, index, team.step());
        walk.fetch.expect(of_line, next_head, next * rows, rows, from->k, from->v, from->logits);
        walk.sweep_chunk(carry, of_line, head, index, index + 1 < chunks || out.final_state);
      });
    });
    heads.each([&](std::int64_t head, carry_type& carry) {
      carry.keep_state(chunks);
      base::begin_gradient(carry, heads.line_index, of_line, head, out);
      carry.open();
    });
    team.each_chunk(chunks, [&](causal_pullback& walk, std::int64_t turn) {
      walk.line_index = heads.line_index;
      heads.each([&](std::int64_t head, carry_type& carry) {
        const auto [next_head, next] = heads.after(head, chunks - 1 - turn, -team.step());
        if (next >= 0) {
          walk.fetch.expect(of_line, next_head, next * rows, rows, from->q, from->k, from->v, from->logits, out.o,
                            out.q, out.k, out.v, out.logits);
        }
        walk.backward_chunk(carry, of_line, head, chunks - 1 - turn, turn, out);
      });
    });
    heads.each([&](std::int64_t head, carry_type& carry) {
      base::end_gradient(carry, heads.line_index, of_line, head, carry.bad.any, out);
    });
  }

 private:
  /// Keeps what stands before chunk `index` and, where something comes after it, takes it in.
  void sweep_chunk(carry_type& carry, const token_line& of_line, std::int64_t head, std::int64_t index, bool onward) {
    base::load(of_line, head, index, false);
    base::weigh();
    carry.normaliser_turn.wait(index);
    carry.keep_normaliser(index);
    base::enter(carry);
    carry.normaliser_turn.pass(index);
    if (onward) base::absorb();
    carry.state_turn.wait(index);
    carry.keep_state(index);
    if (onward) base::advance(carry);
    carry.state_turn.pass(index);
  }

  void backward_chunk(carry_type& carry, const token_line& of_line, std::int64_t head, std::int64_t index,
                      std::int64_t turn, const gradients& out) {
    const bool end_known = turn > 0 || out.final_state;  // else D is zero at the chunk's end
    const bool start_needed = index > 0 || out.state;
    base::load(of_line, head, index, true);
    base::copy_rows(out.o, dout, A(0));
    base::weigh();
    base::enter_after(carry.kept_exponent + index * width, carry.kept_normaliser + index * width);
    transpose(v, rows, values, v_transposed);
    begin_chunk();
    const tile<A> before = base::fresh(index) ? tile<A>{nullptr, 0} : carry.state_at(index);
    std::int64_t start = 0;
    if (base::is_cut) {
      for (std::int64_t last; (last = base::last_of_run(start)) < rows - 1; start = last + 1) {
        base::enter_frame(last, base::frame.row(last));
        backward_run(start, last, before, start_needed, out);
        base::gather_keys(last, true, out);
        std::fill_n(dwrite.data, rows * dwrite.stride, A(0));
      }
      base::enter_frame(rows - 1, base::end_frame());
    }
    backward_run(start, rows - 1, before, start_needed, out);

    carry.state_turn.wait(turn);
    take_gradient(carry, index, end_known);
    if constexpr (!base::running) {
      if (start_needed) pass_gradient(carry);
      carry.state_turn.pass(turn);
    }
    if (end_known) {
      multiply(v.data, v.stride, 1, d.data, d.stride, dwrite.data, dwrite.stride, rows, stored, from->values, true);
      transpose(d, from->values, stored, d_plain);
      multiply(write.data, write.stride, 1, d_plain.data, d_plain.stride, dv.data, dv.stride, rows, values,
               from->stored_keys, true);
    }
    base::gather_keys(rows - 1, base::is_cut, out);
    finish_logits();
    if constexpr (base::running) {
      if (start_needed) pass_gradient(carry);
      carry.state_turn.pass(turn);
    }
    base::store_queries(carry.bad.any, out);
    base::store_keys_and_values(carry.bad.any, out);
    base::add_parts(carry, turn, out);
  }

  void begin_chunk() {
    for (const tile<A>& t : {dwrite, dv, dlogit}) std::fill_n(t.data, rows * t.stride, A(0));
    if (base::is_cut) std::fill_n(key_term.data, rows * width, A(0));
    if (base::is_cut && base::keyed) std::fill_n(base::dkappa.data, rows * base::dkappa.stride, A(0));
    if (base::is_cut || base::moved()) std::fill_n(dtotal.data, values * stored, A(0));
    std::fill_n(r_start, width, A(0));
  }

  /// What rows [start, last] give, all but what D gives. `before` is the state before the chunk.
  void backward_run(std::int64_t start, std::int64_t last, const tile<A>& before, bool start_needed,
                    const gradients& out) {
    const std::int64_t length = last + 1 - start;
    base::enter_keys(last);
    base::enter_queries(start, last);
    // Through the reading of the state.
    if (before.data != nullptr) {
      multiply(dout.row(start), dout.stride, 1, before.data, before.stride, dread.row(start), dread.stride, length,
               stored, from->values, false, base::fetch);
      if (base::moved()) scale_columns(dread, start, last);
    }
    // Through the triangle.
    lower_triangle(dout, v_transposed, dscores, from->values, start, last, base::fetch);
    multiply_triangle(dscores, write, dread, stored, start, last, before.data != nullptr, base::fetch);
    multiply_triangle_transposed(dscores, read, dwrite, stored, start, last, base::fetch);
    transpose(write, last + 1, from->stored_keys, write_transposed);
    lower_triangle(read, write_transposed, scores, from->stored_keys, start, last);
    multiply_triangle_transposed(scores, dout, dv, values, start, last);
    // qhat^T do, in the frame of the chunk's start.
    if (start_needed) {
      const bool in_parts = base::is_cut || base::moved();
      const tile<A>& product = in_parts ? total : dtotal;
      multiply(dout.row(start), 1, dout.stride, read.row(start), read.stride, product.data, product.stride,
               from->values, stored, length, false, base::fetch);
      const A* const by = base::spread(rescale, base::by_row);
      if (in_parts) {
        base::each_element([&](std::int64_t row, std::int64_t place) {
          store_lanes(dtotal.data + place,
                      load_lanes(dtotal.data + place) + load_lanes(by + row) * load_lanes(total.data + place));
        });
      }
    }
    base::gather_reads(start, last, out);
    if constexpr (base::sums && !base::running) sum_tail(start, last, read_term);
  }

  /// Adds -w_s sum_{t >= s} terms_t / Z_t over the rows [start, last] to the logits' gradients, and the whole sum to what
  /// goes to r.
  void sum_tail(std::int64_t start, std::int64_t last, const tile<A>& terms) {
    base::each_register(width, [&](std::int64_t c) {
      lane sum{};
      for (std::int64_t s = last; s >= 0; --s) {
        if (s >= start) sum = multiply_add(load_lanes(terms.row(s) + c), load_lanes(inverse.row(s) + c), sum);
        A* const to = dlogit.row(s) + c;
        store_lanes(to, load_lanes(to) - load_lanes(weight.row(s) + c) * sum);
      }
      A* const to = r_start + c;
      store_lanes(to, load_lanes(to) + load_lanes(rescale + c) * sum);
    });
  }

  void scale_columns(const tile<A>& rows_of, std::int64_t start, std::int64_t last) const {
    const A* const by = base::spread(rescale, base::by_row);
    for (std::int64_t t = start; t <= last; ++t) {
      A* const row = rows_of.row(t);
      for (std::int64_t i = 0; i < stored; i += base::lane_width) {
        store_lanes(row + i, load_lanes(row + i) * load_lanes(by + i));
      }
    }
  }

  /// D and r at the chunk's end, D in the frame of the last run. A decay's r starts anew from rowsum(S * dS): over long
  /// sequences a sum that runs on loses digits.
  void take_gradient(const carry_type& carry, std::int64_t index, bool end_known) {
    if (!end_known) {
      std::fill_n(r, width, A(0));
      return;
    }
    if constexpr (base::sums) {
      std::copy_n(carry.r, width, r);
      std::copy_n(carry.d.data, values * stored, d.data);
    } else {
      base::sum_products(carry.state_at(index + 1), carry.d, r);
      base::scale(carry.d, d, base::gain);
    }
  }

  /// D and r at the chunk's start.
  void pass_gradient(carry_type& carry) const {
    const A* const by = base::spread(base::keep, base::by_row);
    base::each_element([&](std::int64_t row, std::int64_t place) {
      A* const to = carry.d.data + place;
      store_lanes(to, load_lanes(by + row) * load_lanes(to) + load_lanes(dtotal.data + place));
    });
    for (std::int64_t i = 0; base::sums && i < width; ++i) carry.r[i] = rescale[i] * carry.r[i] + r_start[i];
  }

  /// The gradients of the logits from those of log w and log Z.
  void finish_logits() {
    if constexpr (base::running) {
      for (std::int64_t i = 0; i < rows * width; ++i) read_term.data[i] -= key_term.data[i];
      for (std::int64_t start = 0, last; start < rows; start = last + 1) {
        last = base::is_cut ? base::last_of_run(start) : rows - 1;
        if (base::is_cut) {
          base::enter_frame(last, last == rows - 1 ? base::end_frame() : base::frame.row(last));
          base::enter_queries(start, last);
        }
        sum_tail(start, last, read_term);
      }
    }
    base::each_register(width, [&](std::int64_t c) {
      lane sum = load_lanes(r + c);
      for (std::int64_t t = rows; t-- > 0;) {
        A* const to = dlogit.row(t) + c;
        if constexpr (base::sums) {
          const lane own = base::running ? lane{} : load_lanes(key_term.row(t) + c);
          store_lanes(to, load_lanes(to) + (own - load_lanes(weight.row(t) + c) * sum));
        } else {
          sum += load_lanes(read_term.row(t) + c) - load_lanes(key_term.row(t) + c);
          const lane reset = all_lanes<lane>(reset_logit);  // what does not depend on the state before has no gradient
          store_lanes(to, load_lanes(base::logit.row(t) + c) <= reset ? lane{} : sum);
        }
      }
    });
  }
};

/// The gradients of one pass of an ordered traversal with respect to everything in `arguments`.
template <class Recurrence, class Position, int Dims, class T>
void linear_recurrence_backward(execution<cpu>& on, const recurrence_arguments<Recurrence, Dims, T, cpu>& arguments,
                                const recurrence_gradients<Dims, T, cpu>& gradients) {
  using pullback = causal_pullback<Recurrence, Position, Dims, T>;
  for_each_line<pullback, typename pullback::carry_type>(
      on, arguments, false, !(gradients.head_logits || gradients.theta),
      [&](const auto& heads, const auto& team) { team.walks[0].backward(team, heads, gradients); });
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
