// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/recurrence_walk.hpp>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// The causal walk over one line and head at a time, in chunks (arXiv 2405.21022, appendix A.1, without logarithms):
///   o = qhat U + tril(qhat khat^T) V,   U <- 2^(m - f) U + khat^T V.
/// Least traffic a token and head: 2 d + 2 e elements, and those of the logits; one pass over the state a chunk.
template <class Recurrence, class Position, int Dims, class T>
struct causal_walk : recurrence_walk<Recurrence, Position, Dims, T, false> {
  using base = recurrence_walk<Recurrence, Position, Dims, T, false>;
  using typename base::A, typename base::arguments, typename base::carry_type;
  using base::rows, base::stored, base::values, base::line, base::v, base::read, base::write_transposed;
  using base::from, base::rescale, base::make, base::shared, base::amx;

  tile<A> scores, o;  // [rows, rows], [rows, e]
  tile<A> state;      // [d', e]: U before the chunk, where others change it
  tile<A> entered;    // [rows, d']: qhat in the frame of U

  causal_walk(const arguments& a, execution<cpu>::scope& scratch)
      : base(a, scratch, decltype(base::amx)::usual_rows()),
        scores{make(scratch, rows, rows)},
        o{make(scratch, rows, a.values)},
        state{make(scratch, stored, a.values)},
        entered{make(scratch, rows, stored)} {}

  /// Some heads of a line: `out` has the outputs o and the state.
  template <class Outputs>
  void forward(const crew<causal_walk>& team, const head_group<carry_type>& heads, const Outputs& out) {
    const token_line of_line = from->lines[heads.line_index];
    const std::int64_t chunks = base::size.chunks(of_line.length);
    heads.each([&](std::int64_t head, carry_type& carry) { base::begin(carry, of_line, head); });
    team.each_chunk(chunks, [&](causal_walk& walk, std::int64_t index) {
      const bool onward = index + 1 < chunks || out.state;
      heads.each([&](std::int64_t head, carry_type& carry) {
        const auto [next_head, next] = heads.after(head, index, team.step());
        walk.fetch.expect(of_line, next_head, next * rows, rows, from->q, from->k, from->v, from->logits, out.o);
        walk.forward_chunk(carry, of_line, head, index, onward, out);
      });
    });
    heads.each([&](std::int64_t head, const carry_type& carry) { base::store_state(carry, of_line, head, out.state); });
  }

 private:
  template <class Outputs>
  void forward_chunk(carry_type& carry, const token_line& of_line, std::int64_t head, std::int64_t index, bool onward,
                     const Outputs& out) {
    base::load(of_line, head, index, true);
    base::enter(carry, index, true);
    const bool fresh = base::fresh(index), at_once = base::at_once();
    base::encode_run(base::is_cut ? rows : 0, rows - 1);
    if (onward && !at_once) base::multiply_total();
    if (shared) {  // the next chunk waits for the state, so it is read from a copy
      carry.state_turn.wait(index);
      if (!fresh) std::copy_n(carry.state.data, stored * values, state.data);
      if (onward) add_total(carry);
      carry.state_turn.pass(index);
      if (carry.input.data) enter_again();  // its sum took the place of the keys
    }
    const tile<A> before = fresh ? tile<A>{nullptr, 0} : shared ? state : carry.state;
    const tile<A> to = base::place(out.o, o, base::bad.any || out.accumulate);
    if (base::is_cut) {
      for (std::int64_t start = 0, last; start < rows; start = last + 1) {
        last = base::last_of_run(start);
        base::enter_run(start, last, base::frame.row(last));
        base::encode_run(start, last);
        read_run(start, last, before, to);
      }
    } else {
      read_run(0, rows - 1, before, to);
    }
    if (onward && at_once) {
      if (base::is_cut) enter_again();
      base::absorb(carry, index, carry.state.data);
    } else if (onward && !shared) {
      add_total(carry);
    }
    if (to.data == o.data) base::store_rows(o, out.o, out.accumulate, from->values, true);
  }

  /// The keys in the frame of the chunk's end.
  void enter_again() {
    base::enter_run(rows, rows - 1, base::end_frame());
    base::encode_run(rows, rows - 1);
  }

  /// The outputs of rows [start, last], whose factors are in the frame of a run; `before` is the state before the chunk.
  void read_run(std::int64_t start, std::int64_t last, const tile<A>& before, const tile<A>& to) {
    tile<A> read_old = read;  // q in the frame of the state
    if (before.data != nullptr && base::moved()) enter_old_frame(start, last, read_old = entered);
    if (amx.usable()) {
      return amx.read(read, read_old, write_transposed, v, before, scores, to, rows, from->stored_keys, values, start,
                      last);
    }
    lower_triangle(read, write_transposed, scores, from->stored_keys, start, last, base::fetch);
    const auto rows_of = destination<A>::in(to.from(start));
    if (before.data == nullptr) {
      multiply_triangle(scores, v, rows_of, values, start, last, base::fetch);
    } else {
      multiply_triangle(scores, v, rows_of, values, start, last, base::fetch,
                        factors<A>::of(read_old.from(start), before, from->stored_keys));
    }
  }

  /// to = qhat of rows [start, last] in the frame of the state before the chunk.
  void enter_old_frame(std::int64_t start, std::int64_t last, const tile<A>& to) const {
    const A* const by = base::spread(rescale, base::by_row);
    base::each_register(stored, [&](std::int64_t c) {
      for (std::int64_t r = start; r <= last; ++r) {
        store_lanes(to.row(r) + c, load_lanes(read.row(r) + c) * load_lanes(by + c));
      }
    });
  }

  void add_total(carry_type& carry) {
    base::advance(base::next(carry.state.data, carry.state.data, base::keep, base::gain), base::total);
    if (carry.input.data) base::advance_input(carry);
  }
};

/// The outputs o and the final state of one pass of an ordered traversal.
template <class Recurrence, class Position, int Dims, class T, class Outputs>
void linear_recurrence_forward(execution<cpu>& on, const recurrence_arguments<Recurrence, Dims, T, cpu>& arguments,
                               const Outputs& outputs) {
  using walk = causal_walk<Recurrence, Position, Dims, T>;
  bool with_input = false;
  if constexpr (Recurrence::framed) with_input = static_cast<bool>(outputs.state.input);
  for_each_line<walk, typename walk::carry_type>(
      on, arguments, with_input, true,
      [&](const auto& heads, const auto& team) { team.walks[0].forward(team, heads, outputs); });
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
