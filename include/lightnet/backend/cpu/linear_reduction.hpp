// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/recurrence_pullback.hpp>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// What both ways through the global traversal of a commutative recurrence share: one reduction gives the total
/// (m, Z, U), then every token reads it. An encoding that mixes channels of different weights needs the weights normalised
/// before it: then a first pass finds (m, Z), and khat carries 1 / Z.
template <class Recurrence, class Position, class Walk>
struct global_reduction : Walk {
  using base = Walk;
  using typename base::A, typename base::arguments, typename base::lane;
  using base::rows, base::keys, base::values, base::width, base::line, base::h, base::v, base::write, base::from;

  static constexpr bool normalise_first = Recurrence::per_channel && Position::mixes_channels;

  struct carry_type : base::carry_type {
    A* inverse;       // [width]: 1 / Z_N
    tile<A> d_plain;  // [d', e]: D once more, for a gradient
    carry_type(const recurrence_sizes& sizes, execution<cpu>::scope& scratch, const arguments& a, bool with_input)
        : base::carry_type(sizes, scratch, a, with_input),
          inverse{scratch.take<A>(sizes.width)},
          d_plain{this->make(scratch, false)} {}
  };

  /// A reduction has no triangle, so that more rows only save passes over the state.
  global_reduction(const arguments& a, execution<cpu>::scope& scratch) : base(a, scratch, 64) {}

  /// The totals of all tokens and the initial states. What is bad anywhere is bad everywhere.
  template <class Crew, class Heads>
  void reduce(const Crew& team, const Heads& heads, const token_line& of_line) {
    const std::int64_t chunks = base::size.chunks(of_line.length);
    heads.each([&](std::int64_t head, carry_type& carry) { base::begin(carry, of_line, head); });
    team.each_turn(chunks, direction::onward, [&](auto* walks, const chunk_turn& turn) {
      heads.each([&](std::int64_t head, carry_type& carry) {
        for (std::int64_t i = 0; i < turn.count; ++i) {
          const auto [next_head, next] = heads.after(head, turn.first + i, team.step());
          walks[i].fetch.expect(of_line, next_head, next * rows, rows, from->k, from->v, from->logits);
        }
        if (!team.shared()) return walks->absorb_chunk(carry, of_line, head, turn.first);
        base::enter_turn(walks, carry, of_line, head, turn, false);
        if constexpr (normalise_first) return;
        base::multiply_totals(walks, turn, carry.state.data);
        typename base::change changes[most_chunks];
        for (std::int64_t i = 0; i < turn.count; ++i) changes[i] = walks[i].absorbed(nullptr);
        carry.state_turn.pass(turn.number,
                              [&] { walks->hand_over(carry.state.data, changes, turn, carry.state.data); });
      });
    });
    heads.each([&](std::int64_t, carry_type& carry) {
      for (std::int64_t i = 0; i < width; ++i) {
        carry.inverse[i] = carry.normaliser[i] == A(0) ? A(0) : A(1) / carry.normaliser[i];
      }
      carry.open();
    });
    if constexpr (normalise_first) {
      team.each_turn(chunks, direction::onward, [&](auto* walks, const chunk_turn& turn) {
        heads.each([&](std::int64_t head, carry_type& carry) {
          for (std::int64_t i = 0; i < turn.count; ++i) {
            walks[i].weigh_chunk(carry, of_line, head, turn.first + i);
            walks[i].multiply_total();
          }
          carry.state_turn.pass(turn.number, [&] { add_totals(walks, turn, carry.state); });
        });
      });
    }
    heads.each([&](std::int64_t, carry_type& carry) {
      carry.open();
      if (!carry.bad.any) return;
      if (carry.bad.token < of_line.length) carry.bad.token = 0;
      for (std::int64_t j = 0; j < from->values; ++j) {
        if (carry.bad.column[j] < of_line.length) carry.bad.column[j] = 0;
      }
    });
  }

  /// Takes in chunk `index`: its weights, and unless these have to be normalised first, its product.
  void absorb_chunk(carry_type& carry, const token_line& of_line, std::int64_t head, std::int64_t index) {
    base::load(of_line, head, index, false);
    base::enter(carry, false);
    if constexpr (normalise_first) return;
    base::encode_run(rows, rows - 1);
    base::absorb(carry, carry.state.data);
  }

  /// to += the products of some chunks.
  template <class Walks>
  static void add_totals(const Walks* walks, const chunk_turn& turn, const tile<A>& to) {
    walks->each_element([&](std::int64_t, std::int64_t place) {
      lane sum = load_lanes(to.data + place);
      for (std::int64_t i = 0; i < turn.count; ++i) sum += load_lanes(walks[i].total.data + place);
      store_lanes(to.data + place, sum);
    });
  }

  /// Reads chunk `index` and its weights in the frame of the total.
  void weigh_chunk(const carry_type& carry, const token_line& of_line, std::int64_t head, std::int64_t index) {
    base::load(of_line, head, index, false);
    base::enter_after(carry.exponent, carry.normaliser, false);
    if constexpr (normalise_first) {
      base::each_register(width, [&](std::int64_t c) {
        const lane by = load_lanes(carry.inverse + c);
        for (std::int64_t r = 0; r < rows; ++r) {
          A* const key = base::plain_write.row(r) + c;
          store_lanes(key, load_lanes(key) * by);
          if constexpr (base::weights_are_keys || !base::keeps_factors) continue;
          A* const w = base::weight.row(r) + c;
          store_lanes(w, load_lanes(w) * by);
        }
      });
    }
    base::encode_run(rows, rows - 1);
  }
};

/// The global traversal, o = q (U_N / Z_N), which for the additive recurrence is Q (softmax over tokens(K))^T V. Least
/// traffic a token and head: 2 d + 2 e elements, and those of the logits.
template <class Recurrence, class Position, int Dims, class T>
struct global_walk : global_reduction<Recurrence, Position, recurrence_walk<Recurrence, Position, Dims, T, false>> {
  using base = global_reduction<Recurrence, Position, recurrence_walk<Recurrence, Position, Dims, T, false>>;
  using typename base::A, typename base::arguments;
  using base::rows, base::values, base::from, base::normalise_first, base::amx;

  struct carry_type : base::carry_type {
    typename decltype(base::amx)::packed_state packed;  // U_N / Z_N once more, where it is read on AMX
    carry_type(const recurrence_sizes& sizes, execution<cpu>::scope& scratch, const arguments& a, bool with_input)
        : base::carry_type(sizes, scratch, a, with_input), packed{sizes, scratch} {}
  };

  tile<A> o_room;  // [rows, e]

  global_walk(const arguments& a, execution<cpu>::scope& scratch)
      : base(a, scratch), o_room{base::make(scratch, rows, a.values)} {}

  template <class Outputs>
  void forward(const crew<global_walk>& team, const head_group<carry_type>& heads, const Outputs& out) {
    const token_line of_line = from->lines[heads.line_index];
    base::reduce(team, heads, of_line);
    heads.each([&](std::int64_t head, carry_type& carry) {
      base::store_state(carry, of_line, head, out.state);
      if constexpr (!normalise_first) base::scale(carry.state, carry.state, carry.inverse);
      if (amx.usable()) amx.pack(carry.state, from->stored_keys, values, carry.packed);
    });
    team.each_turn(base::size.chunks(of_line.length), direction::onward,
                   [&](global_walk* walks, const chunk_turn& turn) {
                     heads.each([&](std::int64_t head, const carry_type& carry) {
                       for (std::int64_t i = 0; i < turn.count; ++i) {
                         const auto [next_head, next] = heads.after(head, turn.first + i, team.step());
                         walks[i].fetch.expect(of_line, next_head, next * rows, rows, from->q, out.o);
                         walks[i].read_state(carry, of_line, head, turn.first + i, out);
                       }
                     });
                   });
  }

 private:
  /// The outputs of chunk `index`.
  template <class Outputs>
  void read_state(const carry_type& carry, const token_line& of_line, std::int64_t head, std::int64_t index,
                  const Outputs& out) {
    base::move_to(of_line, head, index);
    base::bad.copy(carry.bad);
    tile<const A> queries{base::read.data, base::read.stride};
    if constexpr (Position::encodes || !std::is_same_v<A, T>) {
      base::copy_rows(from->q, base::plain_read, A(0));
      for (std::int64_t r = 0; Position::encodes && r < rows; ++r) base::encode(base::plain_read, base::read, r);
    } else {
      base::load_queries();
      queries = base::q;
    }
    const tile<A> o = base::place(out.o, o_room, base::bad.any || out.accumulate);
    if (amx.usable()) {
      amx.read(queries, carry.packed, o, base::count, from->stored_keys);
    } else {
      multiply(destination<A>::in(o), base::count, values,
               factors<A>{queries.data, queries.stride, 1, carry.state.data, carry.state.stride, from->stored_keys},
               base::fetch);
    }
    if (o.data == o_room.data) base::store_rows(o, out.o, out.accumulate, from->values, true);
  }
};

/// The gradient of the global traversal:
///   D = sum_t qhat_t^T do_t in the frame of the total,  dq = (do U^T) / Z,  dv = khat D,
///   dk = khat * (V D^T - r),  r = sum_t R_t / Z.
template <class Recurrence, class Position, int Dims, class T>
struct global_pullback : global_reduction<Recurrence, Position, recurrence_pullback<Recurrence, Position, Dims, T>> {
  using base = global_reduction<Recurrence, Position, recurrence_pullback<Recurrence, Position, Dims, T>>;
  using typename base::A, typename base::arguments, typename base::gradients, typename base::carry_type;
  using typename base::lane;
  using base::rows, base::keys, base::stored, base::values, base::width, base::line, base::h, base::v, base::read;
  using base::write, base::weight, base::from, base::dout, base::dread, base::dwrite, base::dv;
  using base::normalise_first;

  tile<A> ones;  // [rows, width]

  global_pullback(const arguments& a, execution<cpu>::scope& scratch)
      : base(a, scratch), ones{base::make(scratch, rows, width)} {
    std::fill_n(ones.data, rows * ones.stride, A(1));
  }

  void backward(const crew<global_pullback>& team, const head_group<carry_type>& heads, const gradients& out) {
    const token_line of_line = from->lines[heads.line_index];
    const std::int64_t chunks = base::size.chunks(of_line.length);
    // body(walk, head, carry, index) for every chunk, and after those of a turn, in order, add(walks, turn, carry) and their
    // parts; expect(walk, head, row) asks for what the thread's next chunk reads and writes.
    const auto each_chunk = [&](const auto& expect, const auto& body, const auto& add) {
      team.each_turn(chunks, direction::onward, [&](global_pullback* walks, const chunk_turn& turn) {
        heads.each([&](std::int64_t head, carry_type& carry) {
          for (std::int64_t i = 0; i < turn.count; ++i) {
            walks[i].line_index = heads.line_index;
            const auto [next_head, next] = heads.after(head, turn.first + i, team.step());
            expect(walks[i], next_head, next * rows);
            body(walks[i], head, carry, turn.first + i);
          }
          carry.state_turn.pass(turn.number, [&] {
            add(walks, turn, carry);
            for (std::int64_t i = 0; i < turn.count; ++i) walks[i].add_parts(out);
          });
        });
      });
      heads.each([&](std::int64_t, carry_type& carry) { carry.open(); });
    };
    const auto add_nothing = [](const global_pullback*, const chunk_turn&, const carry_type&) {};
    const auto expect_keys = [&](global_pullback& walk, std::int64_t head, std::int64_t row) {
      walk.fetch.expect(of_line, head, row, rows, from->k, from->v, from->logits, out.k, out.v, out.logits);
    };
    base::reduce(team, heads, of_line);
    heads.each([&](std::int64_t head, carry_type& carry) {
      base::begin_gradient(carry, heads.line_index, of_line, head, out);
    });
    each_chunk([&](global_pullback& walk, std::int64_t head,
                   std::int64_t row) { walk.fetch.expect(of_line, head, row, rows, from->q, out.o, out.q); },
               [&](global_pullback& walk, std::int64_t head, const carry_type& carry, std::int64_t index) {
                 walk.read_chunk(carry, of_line, head, index);
                 walk.backward_queries(carry, out);
               },
               [](const global_pullback* walks, const chunk_turn& turn, const carry_type& carry) {
                 for (std::int64_t i = 0; i < turn.count; ++i)
                   walks[i].add_terms(carry, walks[i].read_term, walks[i].inverse);
                 base::add_totals(walks, turn, carry.d);
               });
    heads.each([&](std::int64_t, carry_type& carry) { transpose(carry.d, from->values, stored, carry.d_plain); });
    if constexpr (normalise_first) {  // weights that are normalised first owe the normaliser sum_s A_s
      heads.each([&](std::int64_t, carry_type& carry) { std::fill_n(carry.r, width, A(0)); });
      gradients without_angles = out;
      without_angles.theta = {};
      each_chunk(
          expect_keys,
          [&](global_pullback& walk, std::int64_t head, const carry_type& carry, std::int64_t index) {
            walk.pull_keys(carry, of_line, head, index, without_angles);
          },
          [&](const global_pullback* walks, const chunk_turn& turn, const carry_type& carry) {
            for (std::int64_t i = 0; i < turn.count; ++i) walks[i].add_terms(carry, walks[i].key_term, ones);
          });
    }
    each_chunk(
        expect_keys,
        [&](global_pullback& walk, std::int64_t head, const carry_type& carry, std::int64_t index) {
          walk.backward_keys(carry, of_line, head, index, out);
        },
        add_nothing);
    heads.each([&](std::int64_t head, carry_type& carry) {
      enter_initial_frame(carry, of_line, head);
      base::end_gradient(carry, heads.line_index, of_line, head, carry.bad.any, out);
    });
  }

 private:
  /// Reads the queries of chunk `index`, qhat = q / Z.
  void read_chunk(const carry_type& carry, const token_line& of_line, std::int64_t head, std::int64_t index) {
    base::move_to(of_line, head, index);
    base::bad.copy(carry.bad);
    base::load_queries();
    const lane one = all_lanes<lane>(A(1));
    base::each_register(keys, [&](std::int64_t c) {
      const lane by = normalise_first ? one : load_lanes(carry.inverse + (Recurrence::per_channel ? c : 0));
      for (std::int64_t r = 0; r < rows; ++r) {
        store_lanes(base::plain_read.row(r) + c, load_as<A>(base::q.row(r) + c) * by);
      }
    });
    for (std::int64_t r = 0; Position::encodes && r < rows; ++r) base::encode(base::plain_read, read, r);
  }

  void backward_queries(const carry_type& carry, const gradients& out) {
    base::copy_rows(out.o, dout, A(0));
    multiply(destination<A>::in(dread), rows, stored, factors<A>::of(dout, carry.state, from->values), base::fetch);
    multiply(destination<A>::in(base::total), from->values, stored, factors<A>::transposed(dout, read, rows),
             base::fetch);
    for (std::int64_t r = 0; r < rows; ++r) {
      std::copy_n(normalise_first ? ones.row(r) : carry.inverse, width, base::inverse.row(r));
    }
    base::place_queries(carry.bad.any, out);
    base::gather_reads(0, rows - 1, out);
    base::store_queries(carry.bad.any, out);
  }

  /// Adds the sums of terms * by over the rows to r.
  void add_terms(const carry_type& carry, const tile<A>& terms, const tile<A>& by) const {
    base::each_register(width, [&](std::int64_t c) {
      lane sum{};
      for (std::int64_t t = 0; t < rows; ++t) {
        sum = multiply_add(load_lanes(terms.row(t) + c), load_lanes(by.row(t) + c), sum);
      }
      store_lanes(carry.r + c, load_lanes(carry.r + c) + sum);
    });
  }

  /// The gradient of the weights of chunk `index`.
  void pull_keys(const carry_type& carry, const token_line& of_line, std::int64_t head, std::int64_t index,
                 const gradients& out) {
    base::weigh_chunk(carry, of_line, head, index);
    base::place_keys_and_values(carry.bad.any, out);
    multiply(destination<A>::in(dwrite), rows, stored, factors<A>::of(v, carry.d, from->values), base::fetch);
    base::gather_keys(rows - 1, false, out);
  }

  void backward_keys(const carry_type& carry, const token_line& of_line, std::int64_t head, std::int64_t index,
                     const gradients& out) {
    pull_keys(carry, of_line, head, index, out);
    multiply(destination<A>::in(dv), rows, values, factors<A>::of(write, carry.d_plain, from->stored_keys),
             base::fetch);
    base::each_register(width, [&](std::int64_t c) {
      const lane r = load_lanes(carry.r + c);
      for (std::int64_t t = 0; t < rows; ++t) {
        store_lanes(base::dlogit.row(t) + c, load_lanes(base::key_term.row(t) + c) - load_lanes(weight.row(t) + c) * r);
      }
    });
    base::store_keys_and_values(carry.bad.any, out);
  }

  /// D and r as the initial state sees them: it joined the total with the factor 2^(m_0 - m_N).
  void enter_initial_frame(carry_type& carry, const token_line& of_line, std::int64_t head) {
    typename base::exponent_type* const total_exponent = base::top;
    std::copy_n(carry.exponent, width, total_exponent);
    const bool poisoned = carry.bad.any;
    base::begin(carry, of_line, head);
    carry.bad.any = poisoned;
    for (std::int64_t i = 0; i < width; ++i) {
      base::rescale[i] = lower_by_power_of_two(A(1), static_cast<std::int32_t>(carry.exponent[i] - total_exponent[i]));
      carry.r[i] *= base::rescale[i];
    }
    base::scale(carry.d, carry.d, base::rescale);
  }
};

/// The outputs o and the final state of the global traversal.
template <class Recurrence, class Position, int Dims, class T, class Outputs>
void linear_reduction_forward(execution<cpu>& on, const recurrence_arguments<Recurrence, Dims, T, cpu>& arguments,
                              const Outputs& outputs) {
  using walk = global_walk<Recurrence, Position, Dims, T>;
  for_each_line<walk, typename walk::carry_type>(on, arguments, false, true, [&](const auto& heads, const auto& team) {
    team.walks[0].forward(team, heads, outputs);
  });
}

/// The gradients of the global traversal with respect to everything in `arguments`.
template <class Recurrence, class Position, int Dims, class T>
void linear_reduction_backward(execution<cpu>& on, const recurrence_arguments<Recurrence, Dims, T, cpu>& arguments,
                               const recurrence_gradients<Dims, T, cpu>& gradients) {
  using pullback = global_pullback<Recurrence, Position, Dims, T>;
  for_each_line<pullback, typename pullback::carry_type>(
      on, arguments, false, true,
      [&](const auto& heads, const auto& team) { team.walks[0].backward(team, heads, gradients); });
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
