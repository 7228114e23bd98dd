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
  using base::rows, base::stored, base::values, base::width, base::v, base::read, base::write, base::write_transposed;
  using base::weight, base::inverse, base::rescale, base::from, base::dout, base::dread, base::dwrite, base::dv;
  using base::key_term, base::read_term, base::dlogit, base::d, base::total, base::make, base::shared;

  /// The states at the start of every chunk and at the end, and m and Z at the start.
  struct carry_type : base::carry_type {
    A *kept_state, *kept_normaliser;  // [chunks + 1, e, d'], [chunks, width]
    exponent_type* kept_exponent;     // [chunks, width]

    carry_type(const recurrence_sizes& sizes, execution<cpu>::scope& scratch, const arguments& a, bool with_input)
        : base::carry_type(sizes, scratch, a, with_input) {
      const std::int64_t chunks = sizes.chunks(sizes.longest);
      kept_state = scratch.take<A>((chunks + 1) * sizes.stored * sizes.values);
      kept_normaliser = scratch.take<A>(chunks * sizes.width);
      kept_exponent = scratch.take<exponent_type>(chunks * sizes.width);
    }
    /// All that is kept, since it is written and read once more.
    static std::int64_t bytes(const recurrence_sizes& sizes) {
      const std::int64_t chunks = sizes.chunks(sizes.longest);
      return base::carry_type::bytes(sizes) * std::max<std::int64_t>(3, chunks / 32);
    }
    tile<A> state_at(std::int64_t index) const {
      return {kept_state + index * this->size.stored * this->size.values, this->size.stored};
    }
  };

  tile<A> scores, dscores;              // [rows, rows]: P and dP
  tile<A> v_transposed, dv_transposed;  // [e, rows]
  tile<A> dtotal;                       // [e, d']: qhat^T do, in the frame of the chunk's start
  A *r, *r_start, *ones;                // [width]: r at the chunk's end, what the chunk adds to it; 1

  causal_pullback(const arguments& a, execution<cpu>::scope& scratch)
      : base(a, scratch),
        scores{make(scratch, rows, rows)},
        dscores{make(scratch, rows, rows)},
        v_transposed{make(scratch, values, rows)},
        dv_transposed{make(scratch, values, rows)},
        dtotal{make(scratch, values, stored)},
        r{scratch.take<A>(width)},
        r_start{scratch.take<A>(width)},
        ones{scratch.take<A>(width)} {
    std::fill_n(ones, width, A(1));
  }

  void backward(const crew<causal_pullback>& team, const head_group<carry_type>& heads, const gradients& out) {
    const token_line of_line = from->lines[heads.line_index];
    const std::int64_t chunks = base::size.chunks(of_line.length);
    heads.each([&](std::int64_t head, carry_type& carry) {
      carry.state = carry.state_at(0);
      base::begin(carry, of_line, head);
    });
    team.each_chunk(chunks, [&](causal_pullback& walk, std::int64_t index) {
      heads.each([&](std::int64_t head, carry_type& carry) {
        const auto [next_head, next] = heads.after(head, index, team.step());
        walk.fetch.expect(of_line, next_head, next * rows, rows, from->k, from->v, from->logits);
        walk.sweep_chunk(carry, of_line, head, index, index + 1 < chunks || out.final_state);
      });
    });
    heads.each([&](std::int64_t head, carry_type& carry) {
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
          const tile<A> before = heads.carry_of(next_head).state_at(next);
          walk.fetch.expect_too(before.data, stored * values * static_cast<std::int64_t>(sizeof(A)));
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
    base::enter(carry, index, false);
    std::copy_n(base::begin_normaliser, width, carry.kept_normaliser + index * width);
    std::copy_n(base::begin_frame, width, carry.kept_exponent + index * width);
    if (!onward) return;
    base::encode_run(rows, rows - 1);
    base::absorb(carry, index, carry.state_at(index + 1).data);
  }

  void backward_chunk(carry_type& carry, const token_line& of_line, std::int64_t head, std::int64_t index,
                      std::int64_t turn, const gradients& out) {
    const bool end_known = turn > 0 || out.final_state;  // else D is zero at the chunk's end
    const bool start_needed = index > 0 || out.state;
    base::load(of_line, head, index, true);
    base::copy_rows(out.o, dout, A(0));
    base::enter_after(carry.kept_exponent + index * width, carry.kept_normaliser + index * width, true);
    transpose(v, rows, values, v_transposed);
    begin_chunk(carry.bad.any, out);
    const tile<A> before = base::fresh(index) ? tile<A>{nullptr, 0} : carry.state_at(index);
    std::int64_t start = 0;
    if (base::is_cut) {
      for (std::int64_t last; (last = base::last_of_run(start)) < rows - 1; start = last + 1) {
        base::enter_run(start, last, base::frame.row(last));
        read_backward(start, last, before, out);
        if (start_needed) gather_total(start, last);
        write_backward(start, last, nullptr);
        base::gather_keys(last, true, out);
        if constexpr (base::sums && !base::running) spread_reads(start, last);
      }
      base::enter_run(start, rows - 1, base::end_frame());
    }
    read_backward(start, rows - 1, before, out);
    const bool at_once = base::at_once() && !base::is_cut;
    if (start_needed && !at_once) gather_total(start, rows - 1);

    carry.state_turn.wait(turn);
    const tile<A> later = take_gradient(carry, index, end_known);
    if constexpr (!base::running) {
      if (shared && start_needed) pass_gradient(carry);
      carry.state_turn.pass(turn);
    }
    write_backward(start, rows - 1, end_known ? &later : nullptr);
    transpose(dv_transposed, from->values, rows, dv);
    base::gather_keys(rows - 1, base::is_cut, out);
    finish_logits(start);
    if (start_needed && (base::running || !shared)) {
      if (at_once) {
        multiply(base::next(carry.d.data, carry.d.data, base::keep, rescale), from->values, stored,
                 factors<A>::transposed(dout, read, rows), base::fetch);
        pass_normaliser(carry);
      } else {
        pass_gradient(carry);
      }
    }
    if constexpr (base::running) carry.state_turn.pass(turn);
    base::store_queries(carry.bad.any, out);
    base::store_keys_and_values(carry.bad.any, out);
    base::add_parts(carry, turn, out);
  }

  void begin_chunk(bool poisoned, const gradients& out) {
    base::place_queries(poisoned, out);
    base::place_keys_and_values(poisoned, out);
    std::fill_n(r_start, width, A(0));
    if (!base::is_cut) return;
    for (const tile<A>& t : {dlogit, key_term, base::dkappa}) std::fill_n(t.data, rows * t.stride, A(0));
    std::fill_n(dtotal.data, values * stored, A(0));
  }

  /// What rows [start, last] give the queries. `before` is the state before the chunk.
  void read_backward(std::int64_t start, std::int64_t last, const tile<A>& before, const gradients& out) {
    const auto dread_rows = destination<A>::in(dread.from(start));
    base::encode_run(start, last);
    lower_triangle(dout, v_transposed, dscores, from->values, start, last, base::fetch);
    lower_triangle(read, write_transposed, scores, from->stored_keys, start, last, base::fetch);
    if (before.data == nullptr) {
      multiply_triangle(dscores, write, dread_rows, stored, start, last, base::fetch);
    } else {
      tile<A> old = before;  // in the frame of the run
      if (base::moved()) base::scale(before, old = total, rescale);
      multiply_triangle(dscores, write, dread_rows, stored, start, last, base::fetch,
                        factors<A>::of(dout.from(start), old, from->values));
    }
    base::gather_reads(start, last, out);
    if constexpr (base::sums && !base::running) sum_reads(start, last);
  }

  /// What rows [start, last] give the keys and values, and, through `later`, what comes after the chunk.
  void write_backward(std::int64_t start, std::int64_t last, const tile<A>* later) {
    const auto dwrite_rows = destination<A>::in(dwrite);
    const auto dv_columns = destination<A>::onto(dv_transposed, start > 0);
    const auto through_scores = factors<A>::transposed(dout.from(start), scores.from(start), last + 1 - start);
    if (later == nullptr) {
      multiply_triangle_transposed(dscores, read, dwrite_rows, stored, start, last, base::fetch);
      multiply(dv_columns, from->values, scores.stride, through_scores, base::fetch);
    } else {
      multiply_triangle_transposed(dscores, read, dwrite_rows, stored, start, last, base::fetch,
                                   factors<A>::of(v, *later, from->values));
      multiply(dv_columns, from->values, scores.stride, through_scores,
               factors<A>::of(*later, write_transposed, from->stored_keys), base::fetch);
    }
  }

  /// dtotal = qhat^T do, summed over the runs in the frame of the chunk's start.
  void gather_total(std::int64_t start, std::int64_t last) {
    const auto product = factors<A>::transposed(dout.from(start), read.from(start), last + 1 - start);
    if (!base::is_cut) return multiply(destination<A>::in(dtotal), from->values, stored, product, base::fetch);
    multiply(destination<A>::in(total), from->values, stored, product);
    base::advance(base::next(dtotal.data, dtotal.data, ones, rescale), total);
  }

  /// Makes R / Z of rows [start, last] the sum over the rows from there on, and adds the whole of it to what goes to r.
  void sum_reads(std::int64_t start, std::int64_t last) {
    base::each_register(width, [&](std::int64_t c) {
      lane sum{};
      for (std::int64_t t = last; t >= start; --t) {
        A* const term = read_term.row(t) + c;
        sum = multiply_add(load_lanes(term), load_lanes(inverse.row(t) + c), sum);
        store_lanes(term, sum);
      }
      A* const to = r_start + c;
      store_lanes(to, load_lanes(to) + load_lanes(rescale + c) * sum);
    });
  }

  /// Adds what rows [start, last], whose reads are summed, give the logits of rows [0, last] through the normaliser.
  void spread_reads(std::int64_t start, std::int64_t last) const {
    base::each_register(width, [&](std::int64_t c) {
      for (std::int64_t s = 0; s <= last; ++s) {
        A* const to = dlogit.row(s) + c;
        const lane later = load_lanes(read_term.row(std::max(s, start)) + c);
        store_lanes(to, load_lanes(to) - load_lanes(weight.row(s) + c) * later);
      }
    });
  }

  /// D and r at the chunk's end, D in the frame of the last run. A decay's r starts anew from rowsum(S * dS): over long
  /// sequences a sum that runs on loses digits.
  tile<A> take_gradient(const carry_type& carry, std::int64_t index, bool end_known) {
    if (!end_known) {
      std::fill_n(r, width, A(0));
      return d;
    }
    if constexpr (base::sums) {
      std::copy_n(carry.r, width, r);
      if (!shared) return carry.d;
      std::copy_n(carry.d.data, values * stored, d.data);
    } else {
      base::sum_products(carry.state_at(index + 1), carry.d, r);
      base::scale(carry.d, d, base::gain);
    }
    return d;
  }

  /// D and r at the chunk's start.
  void pass_gradient(carry_type& carry) {
    base::advance(base::next(carry.d.data, carry.d.data, base::keep, base::is_cut ? ones : rescale), dtotal);
    pass_normaliser(carry);
  }
  void pass_normaliser(carry_type& carry) const {
    for (std::int64_t i = 0; base::sums && i < width; ++i) carry.r[i] = rescale[i] * carry.r[i] + r_start[i];
  }

  /// The gradients of the logits from those of log w and log Z, the last run beginning at row `start`.
  void finish_logits(std::int64_t start) {
    if constexpr (base::running) {
      for (std::int64_t t = 0; t < rows; ++t) std::fill_n(dlogit.row(t), width, A(0));
      for (std::int64_t i = 0; i < rows * width; ++i) read_term.data[i] -= key_term.data[i];
      for (std::int64_t begin = 0, last; begin < rows; begin = last + 1) {
        last = base::is_cut ? base::last_of_run(begin) : rows - 1;
        if (base::is_cut) {
          base::enter_run(begin, last, last == rows - 1 ? base::end_frame() : base::frame.row(last));
        }
        sum_reads(begin, last);
        spread_reads(begin, last);
      }
    }
    base::each_register(width, [&](std::int64_t c) {
      const lane later = load_lanes(r + c);
      lane sum = later;
      for (std::int64_t t = rows; t-- > 0;) {
        A* const to = dlogit.row(t) + c;
        if constexpr (base::running) {
          store_lanes(to, load_lanes(to) - load_lanes(weight.row(t) + c) * later);
        } else if constexpr (base::sums) {
          const lane reads = load_lanes(read_term.row(std::max(t, start)) + c) + later;
          const lane value = load_lanes(key_term.row(t) + c) - load_lanes(weight.row(t) + c) * reads;
          store_lanes(to, base::is_cut ? load_lanes(to) + value : value);
        } else {
          sum += load_lanes(read_term.row(t) + c) - load_lanes(key_term.row(t) + c);
          const lane reset = all_lanes<lane>(reset_logit);  // what does not depend on the state before has no gradient
          store_lanes(to, load_as<A>(base::logit.row(t) + c) <= reset ? lane{} : sum);
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
      on, arguments, false, true,
      [&](const auto& heads, const auto& team) { team.walks[0].backward(team, heads, gradients); });
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
