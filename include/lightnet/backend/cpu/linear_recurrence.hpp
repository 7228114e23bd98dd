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
  using base::from, base::rescale, base::make, base::amx;

  tile<A> scores, o;  // [rows, rows], [rows, e]
  tile<A> entered;    // [rows, d']: qhat in the frame of U

  causal_walk(const arguments& a, execution<cpu>::scope& scratch)
      : base(a, scratch, decltype(base::amx)::usual_rows()),
        scores{make(scratch, rows, rows)},
        o{base::make_any(scratch, rows, a.values)},
        entered{base::make_any(scratch, rows, stored)} {}

  /// Some heads of a line: `out` has the outputs o and the state.
  template <class Outputs>
  void forward(const crew<causal_walk>& team, const head_group<carry_type>& heads, const Outputs& out) {
    const token_line of_line = from->lines[heads.line_index];
    const std::int64_t chunks = base::size.chunks(of_line.length);
    heads.each([&](std::int64_t head, carry_type& carry) { base::begin(carry, of_line, head); });
    team.each_turn(chunks, direction::onward, [&](causal_walk* walks, const chunk_turn& turn) {
      const bool onward = turn.first + turn.count < chunks || out.state;
      heads.each([&](std::int64_t head, carry_type& carry) {
        if (team.shared()) return forward_turn(walks, carry, of_line, head, turn, team, out);
        const auto [next_head, next] = heads.after(head, turn.first, team.step());
        walks->expect(of_line, next_head, next, out);
        walks->forward_chunk(carry, of_line, head, turn.first, onward, out);
      });
    });
    heads.each([&](std::int64_t head, const carry_type& carry) { base::store_state(carry, of_line, head, out.state); });
  }

 private:
  /// Asks for what chunk `index` will read and write.
  template <class Outputs>
  void expect(const token_line& of_line, std::int64_t head, std::int64_t index, const Outputs& out) {
    base::fetch.expect(of_line, head, index * rows, rows, from->q, from->k, from->v, from->logits, out.o);
  }

  template <class Outputs>
  void forward_chunk(carry_type& carry, const token_line& of_line, std::int64_t head, std::int64_t index, bool onward,
                     const Outputs& out) {
    base::load(of_line, head, index, true);
    base::enter(carry, true);
    base::encode_run(base::is_cut ? rows : 0, rows - 1);
    const bool at_once = base::at_once();
    if (onward && !at_once) base::multiply_total();
    read_chunk(base::fresh(index) ? tile<A>{nullptr, 0} : carry.state, out);
    if (!onward) return;
    if (at_once && base::is_cut) enter_again();
    base::absorb_product(carry, carry.state.data);
  }

  /// The chunks of a turn, while other threads work on others: all that does not need the state first, then the state before
  /// each, in place of the chunk's product, then the outputs.
  template <class Outputs>
  static void forward_turn(causal_walk* walks, carry_type& carry, const token_line& of_line, std::int64_t head,
                           const chunk_turn& turn, const crew<causal_walk>& team, const Outputs& out) {
    for (std::int64_t i = 0; i < turn.count; ++i) walks[i].expect(of_line, head, turn.first + i + team.step(), out);
    base::enter_turn(walks, carry, of_line, head, turn, true);
    base::multiply_totals(walks, turn, carry.state.data);
    typename base::change changes[most_chunks];
    for (std::int64_t i = 0; i < turn.count; ++i) changes[i] = walks[i].absorbed(walks[i].total.data);
    carry.state_turn.pass(turn.number, [&] { walks->hand_over(carry.state.data, changes, turn, carry.state.data); });
    for (std::int64_t i = 0; i < turn.count; ++i) {
      walks[i].read_chunk(walks[i].fresh(turn.first + i) ? tile<A>{nullptr, 0} : walks[i].total, out);
    }
  }

  /// The outputs; `before` is the state before the chunk.
  template <class Outputs>
  void read_chunk(const tile<A>& before, const Outputs& out) {
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
};

/// The outputs o and the final state of one pass of an ordered traversal.
template <class Recurrence, class Position, int Dims, class T, class Outputs>
void linear_recurrence_forward(execution<cpu>& on, const recurrence_arguments<Recurrence, Dims, T, cpu>& arguments,
                               const Outputs& outputs) {
  using walk = causal_walk<Recurrence, Position, Dims, T>;
  bool with_input = false;
  if constexpr (Recurrence::framed) with_input = static_cast<bool>(outputs.state.input);
  for_each_line<walk, typename walk::carry_type>(
      on, arguments, with_input, !with_input,
      [&](const auto& heads, const auto& team) { team.walks[0].forward(team, heads, outputs); });
}

/// Whether o of both ways along the lines was made at once: never here.
template <class Recurrence, class Position, int Dims, class T>
bool linear_recurrence_both_ways(execution<cpu>&, const recurrence_arguments<Recurrence, Dims, T, cpu>&,
                                 const head_sequence<Dims, T, cpu>&) {
  return false;
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
