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
  using base::key_term, base::read_term, base::dlogit, base::d, base::total, base::make;

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
      return base::carry_type::bytes(sizes) * std::max<std::int64_t>(3, chunks);
    }
    tile<A> state_at(std::int64_t index) const {
      return {kept_state + index * this->size.stored * this->size.values, this->size.stored};
    }
  };

  tile<A> scores, dscores;              // [rows, rows]: P and dP
  tile<A> v_transposed, dv_transposed;  // [e, rows]
  tile<A> dtotal;                       // [e, d']: qhat^T do, in the frame of the chunk's start
  A *r, *r_start, *ones;                // [width]: r at the chunk's end, what the chunk adds to it; 1
  std::int64_t last_start = 0;          // the first row of the last run

  causal_pullback(const arguments& a, execution<cpu>::scope& scratch)
      : base(a, scratch),
        scores{make(scratch, rows, rows)},
        dscores{make(scratch, rows, rows)},
        v_transposed{make(scratch, values, rows)},
        dv_transposed{make(scratch, values, rows)},
        dtotal{base::make_any(scratch, values, stored)},
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
    team.each_turn(chunks, direction::onward, [&](causal_pullback* walks, const chunk_turn& turn) {
      heads.each([&](std::int64_t head, carry_type& carry) {
        for (std::int64_t i = 0; i < turn.count; ++i) {
          const auto [next_head, next] = heads.after(head, turn.first + i, team.step());
          walks[i].fetch.expect(of_line, next_head, next * rows, rows, from->k, from->v, from->logits);
        }
        if (team.shared()) return sweep_turn(walks, carry, of_line, head, turn);
        walks->sweep_chunk(carry, of_line, head, turn.first, turn.first + 1 < chunks || out.final_state);
      });
    });
    heads.each([&](std::int64_t head, carry_type& carry) {
      base::begin_gradient(carry, heads.line_index, of_line, head, out);
      carry.open();
    });
    team.each_turn(chunks, direction::back, [&](causal_pullback* walks, const chunk_turn& turn) {
      heads.each([&](std::int64_t head, carry_type& carry) {
        for (std::int64_t i = 0; i < turn.count; ++i) {
          walks[i].line_index = heads.line_index;
          const auto [next_head, next] = heads.after(head, turn.first + i, -team.step());
          if (next >= 0) walks[i].expect(heads.carry_of(next_head), of_line, next_head, next, out);
        }
        backward_turn(walks, carry, of_line, head, turn, team.shared(), chunks, out);
      });
    });
    heads.each([&](std::int64_t head, carry_type& carry) {
      base::end_gradient(carry, heads.line_index, of_line, head, carry.bad.any, out);
    });
  }

 private:
  /// Asks for what the gradients of chunk `index` will read and write.
  void expect(const carry_type& carry, const token_line& of_line, std::int64_t head, std::int64_t index,
              const gradients& out) {
    base::fetch.expect(of_line, head, index * rows, rows, from->q, from->k, from->v, from->logits, out.o, out.q, out.k,
                       out.v, out.logits);
    base::fetch.expect_too(carry.state_at(index).data, stored * values * static_cast<std::int64_t>(sizeof(A)));
  }

  /// Keeps what stands before chunk `index` and, where something comes after it, takes it in.
  void sweep_chunk(carry_type& carry, const token_line& of_line, std::int64_t head, std::int64_t index, bool onward) {
    base::load(of_line, head, index, false);
    base::enter(carry, false);
    keep_normaliser(carry, index);
    if (!onward) return;
    base::encode_run(rows, rows - 1);
    base::absorb(carry, carry.state_at(index + 1).data);
  }

  /// The same for the chunks of a turn, while other threads work on others.
  static void sweep_turn(causal_pullback* walks, carry_type& carry, const token_line& of_line, std::int64_t head,
                         const chunk_turn& turn) {
    base::enter_turn(walks, carry, of_line, head, turn, false);
    base::multiply_totals(walks, turn, carry.state_at(turn.first).data);
    typename base::change changes[most_chunks];
    for (std::int64_t i = 0; i < turn.count; ++i) {
      walks[i].keep_normaliser(carry, turn.first + i);
      changes[i] = walks[i].absorbed(i > 0 ? carry.state_at(turn.first + i).data : nullptr);
    }
    carry.state_turn.pass(turn.number, [&] {
      A* const after = carry.state_at(turn.first + turn.count).data;
      walks->hand_over(carry.state.data, changes, turn, after);
      carry.state.data = after;
    });
  }

  void keep_normaliser(carry_type& carry, std::int64_t index) const {
    std::copy_n(base::begin_normaliser, width, carry.kept_normaliser + index * width);
    std::copy_n(base::begin_frame, width, carry.kept_exponent + index * width);
  }

  /// The gradients of the chunks of a turn, the last first. Where threads share the line, each chunk has D after it in `d`.
  static void backward_turn(causal_pullback* walks, carry_type& carry, const token_line& of_line, std::int64_t head,
                            const chunk_turn& turn, bool is_shared, std::int64_t chunks, const gradients& out) {
    const auto each = [&](const auto& body) {
      for (std::int64_t i = turn.count; i-- > 0;) {
        const std::int64_t index = turn.first + i;
        body(walks[i], index, index + 1 < chunks || out.final_state);  // else D after it is zero
      }
    };
    each([&](causal_pullback& walk, std::int64_t index, bool) {
      walk.backward_reads(carry, of_line, head, index, out);
      if ((is_shared || index > 0 || out.state) && !walk.joins_at_once()) {
        walk.gather_total(walk.last_start, walk.rows - 1);
      }
    });
    if (is_shared) {
      carry.state_turn.pass(turn.number, [&] {
        std::copy_n(carry.d.data, walks->stored * walks->values, walks[turn.count - 1].d.data);
        each([&](causal_pullback& walk, std::int64_t index, bool) {
          const bool is_last = index == turn.first;
          walk.join_gradient(walk.d.data, is_last ? carry.d.data : (&walk - 1)->d.data, is_last);
        });
        finish_streaming();
      });
    }
    each([&](causal_pullback& walk, std::int64_t index, bool end_known) {
      walk.backward_writes(carry, index, end_known, is_shared ? walk.d : carry.d, out);
    });
    carry.normaliser_turn.pass(
        turn.number, [&] { each([&](causal_pullback& walk, std::int64_t, bool) { walk.pass_normaliser(carry); }); });
    each([&](causal_pullback& walk, std::int64_t index, bool) {
      if (!is_shared && (index > 0 || out.state)) walk.join_gradient(carry.d.data, carry.d.data, false);
      walk.finish_logits();
      walk.store_queries(carry.bad.any, out);
      walk.store_keys_and_values(carry.bad.any, out);
    });
    carry.parts_turn.pass(turn.number,
                          [&] { each([&](causal_pullback& walk, std::int64_t, bool) { walk.add_parts(out); }); });
  }

  /// Reads chunk `index`: the gradients that need nothing of what comes after it.
  void backward_reads(const carry_type& carry, const token_line& of_line, std::int64_t head, std::int64_t index,
                      const gradients& out) {
    base::load(of_line, head, index, true);
    base::copy_rows(out.o, dout, A(0));
    base::enter_after(carry.kept_exponent + index * width, carry.kept_normaliser + index * width, true);
    transpose(v, rows, values, v_transposed);
    begin_chunk(carry.bad.any, out);
    const tile<A> before = base::fresh(index) ? tile<A>{nullptr, 0} : carry.state_at(index);
    last_start = 0;
    if (base::is_cut) {
      for (std::int64_t last; (last = base::last_of_run(last_start)) < rows - 1; last_start = last + 1) {
        base::enter_run(last_start, last, base::frame.row(last));
        read_backward(last_start, last, before, out);
        gather_total(last_start, last);
        write_backward(last_start, last, nullptr);
        base::gather_keys(last, true, out);
        if constexpr (base::sums && !base::running) spread_reads(last_start, last);
      }
      base::enter_run(last_start, rows - 1, base::end_frame());
    }
    read_backward(last_start, rows - 1, before, out);
  }

  /// The gradients through what comes after chunk `index`; `after` is D there.
  void backward_writes(const carry_type& carry, std::int64_t index, bool end_known, const tile<A>& after,
                       const gradients& out) {
    const tile<A> later = enter_gradient(carry, index, end_known, after);
    write_backward(last_start, rows - 1, end_known ? &later : nullptr);
    transpose(dv_transposed, from->values, rows, dv);
    base::gather_keys(rows - 1, base::is_cut, out);
    if constexpr (base::running) sum_differences();
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

  /// D at the chunk's end in the frame of the last run, and r there for a decay, where it starts anew from rowsum(S * dS):
  /// over long sequences a sum that runs on loses digits.
  tile<A> enter_gradient(const carry_type& carry, std::int64_t index, bool end_known, const tile<A>& after) {
    if constexpr (base::sums) {
      return after;
    } else {
      std::fill_n(r, width, A(0));
      if (!end_known) return after;
      base::sum_products(carry.state_at(index + 1), after, r);
      base::scale(after, d, base::gain);  // may be where it was
      return d;
    }
  }

  /// Whether what the chunk adds to D is added as it is computed.
  bool joins_at_once() const { return base::at_once() && !base::is_cut; }

  /// D at the chunk's start from that at its end; another thread may read it next.
  void join_gradient(const A* after, A* before, bool is_handed) {
    auto to = base::next(before, after, base::keep, base::is_cut ? ones : rescale);
    to.is_handed = is_handed;
    if (!joins_at_once()) return base::advance(to, dtotal);
    multiply(to, from->values, stored, factors<A>::transposed(dout, read, rows), base::fetch);
  }
  /// r at the chunk's end, and the carry's at its start.
  void pass_normaliser(carry_type& carry) const {
    for (std::int64_t i = 0; base::sums && i < width; ++i) {
      r[i] = carry.r[i];
      carry.r[i] = rescale[i] * r[i] + r_start[i];
    }
  }

  /// Plain inputs: what the normaliser owes for the chunk's rows, R - A.
  void sum_differences() {
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

  /// The gradients of the logits from those of log w and log Z.
  void finish_logits() {
    base::each_register(width, [&](std::int64_t c) {
      const lane later = load_lanes(r + c);
      lane sum = later;
      for (std::int64_t t = rows; t-- > 0;) {
        A* const to = dlogit.row(t) + c;
        if constexpr (base::running) {
          store_lanes(to, load_lanes(to) - load_lanes(weight.row(t) + c) * later);
        } else if constexpr (base::sums) {
          const lane reads = load_lanes(read_term.row(std::max(t, last_start)) + c) + later;
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
