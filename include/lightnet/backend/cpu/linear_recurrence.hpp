// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/amx_chunk.hpp>
#include <lightnet/backend/cpu/recurrence_tile.hpp>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// What all walks along the chunks of a line share: the state that they carry, [d', e] or, where Transposed, [e, d'], so
/// that the factors of its rows run along registers.
template <class Recurrence, class Position, int Dims, class T, bool Transposed>
struct recurrence_walk : recurrence_tile<Recurrence, Position, Dims, T> {
  using base = recurrence_tile<Recurrence, Position, Dims, T>;
  using typename base::A, typename base::arguments;
  using recurrence = Recurrence;
  using position = Position;
  using element_type = T;
  using state_type = typename Recurrence::template state<A, cpu>;
  using base::rows, base::keys, base::stored, base::values, base::width, base::line, base::h, base::first, base::count;
  using base::v, base::write, base::from, base::keep, base::gain, base::rescale;

  struct carry_type : recurrence_carry<A> {
    carry_type(const recurrence_sizes& sizes, execution<cpu>::scope& scratch, const arguments&, bool with_input)
        : recurrence_carry<A>(sizes, scratch, Transposed, with_input) {}
  };

  tile<A> total;        // khat^T V
  A *by_row, *by_gain;  // [d']: a factor of each row of the state

  recurrence_walk(const arguments& a, execution<cpu>::scope& scratch, std::int64_t usual_rows,
                  std::int64_t row_step = 1)
      : base(a, scratch, usual_rows, row_step),
        total{Transposed ? make(scratch, values, stored) : make(scratch, stored, values)},
        by_row{make(scratch, 1, stored).data},  // what pads them is zero
        by_gain{make(scratch, 1, stored).data} {}

  static tile<A> make(execution<cpu>::scope& scratch, std::int64_t height, std::int64_t columns) {
    const std::int64_t stride = whole_lanes<A>(columns);
    A* const data = scratch.take<A>(height * stride);
    std::fill_n(data, height * stride, A(0));
    return {data, stride};
  }

  /// Begins a line: what is carried before its first token, from the initial state where there is one.
  void begin(recurrence_carry<A>& carry, const token_line& of_line, std::int64_t head) {
    line = of_line;
    h = head;
    carry.open();
    carry.bad.any = true;
    carry.bad.clear(line.length);
    const std::int64_t weights = from->weights();
    std::fill_n(carry.exponent, width, Recurrence::framed && !Recurrence::sink ? empty_exponent : 0);
    std::fill_n(carry.normaliser, width, Recurrence::framed && !Recurrence::sink ? A(0) : A(1));
    std::fill_n(carry.decay, width, A(1));
    if (from->state) {
      for (std::int64_t i = 0; i < width; ++i) {
        const std::int64_t channel = i < weights ? i : weights - 1;
        if constexpr (Recurrence::framed) {
          const auto& given = from->state;
          carry.exponent[i] = std::max<std::int32_t>(given.exponent(line.sequence, h, channel), empty_exponent);
          const bool empty = carry.exponent[i] == empty_exponent;
          carry.normaliser[i] = empty ? A(0) : given.normaliser(line.sequence, h, channel);
        } else if (from->state.decay) {
          carry.decay[i] = from->state.decay(line.sequence, h, channel);
        }
      }
    }
    load_state(from->state.sum, carry.state);
    if constexpr (Recurrence::framed) {
      if (carry.input.data) load_state(from->state.input, carry.input);
      for (std::int64_t i = 0; from->state && i < from->stored_keys; ++i) {  // an empty channel holds nothing
        if (base::of(carry.exponent, i % from->keys) != empty_exponent) continue;
        for (std::int64_t j = 0; j < values; ++j) at(carry.state, i, j) = A(0);
      }
    }
  }

  /// Whether nothing was seen before the chunk, so that its state need not be read.
  bool fresh(std::int64_t index) const { return index == 0 && !from->state; }

  static A& at(const tile<A>& matrix, std::int64_t i, std::int64_t j) {
    return Transposed ? matrix.row(j)[i] : matrix.row(i)[j];
  }

  /// Reads a [d', e] matrix of this line and head; zero where it is not given.
  template <class U>
  void load_state(const dynamic_view<4, U, cpu>& source, const tile<A>& to) const {
    std::fill_n(to.data, stored * values, A(0));
    if (!source) return;
    for (std::int64_t i = 0; i < from->stored_keys; ++i) {
      for (std::int64_t j = 0; j < from->values; ++j) at(to, i, j) = source(line.sequence, h, i, j);
    }
  }

  /// The factors of the rows of a state: those of an encoded key share that of their channel.
  const A* spread(const A* factor, A* to) const {
    if constexpr (Recurrence::per_channel && !Position::encodes) return factor;
    for (std::int64_t i = 0; i < from->stored_keys; ++i) to[i] = base::of(factor, i % from->keys);
    return to;
  }

  /// to = factor source, row by row of [d', e].
  void scale(const tile<A>& source, const tile<A>& to, const A* factor) const {
    const A* const by = spread(factor, by_row);
    each_element([&](std::int64_t row, std::int64_t place) {
      store_lanes(to.data + place, factor_at(by, row) * load_lanes(source.data + place));
    });
  }

  /// total = khat^T V, the chunk by itself: a sum that runs through the state loses digits.
  void absorb() {
    base::enter_keys(rows - 1);
    multiply_total();
  }

  void multiply_total() {
    if constexpr (Transposed) {
      multiply(v.data, 1, v.stride, write.data, write.stride, total.data, total.stride, from->values, stored, rows,
               false, base::fetch);
    } else {
      multiply(write.data, 1, write.stride, v.data, v.stride, total.data, total.stride, from->stored_keys, values, rows,
               false, base::fetch);
    }
  }

  /// The carry's state after the chunk.
  void advance(recurrence_carry<A>& carry) {
    const A* const old = spread(keep, by_row);
    const A* const add = spread(gain, by_gain);
    A* const to = carry.state.data;
    each_element([&](std::int64_t row, std::int64_t place) {
      const auto old_part = factor_at(old, row) * load_lanes(to + place);
      store_lanes(to + place, old_part + factor_at(add, row) * load_lanes(total.data + place));
    });
    if (carry.input.data) advance_input(carry);
  }

  /// Takes in chunk `index` without reading it.
  void absorb_chunk(recurrence_carry<A>& carry, const token_line& of_line, std::int64_t head, std::int64_t index) {
    base::load(of_line, head, index, false);
    base::weigh();
    carry.normaliser_turn.wait(index);
    base::enter(carry);
    carry.normaliser_turn.pass(index);
    absorb();
    carry.state_turn.wait(index);
    advance(carry);
    carry.state_turn.pass(index);
  }

  /// Writes the final state: NaN where a bad entry reached it.
  void store_state(const recurrence_carry<A>& carry, const token_line& of_line, std::int64_t head,
                   const state_type& to) const {
    if (!to) return;
    constexpr A nan = std::numeric_limits<A>::quiet_NaN();
    const bool all_bad = carry.bad.token < of_line.length;
    const auto store = [&](const tile<A>& source, const dynamic_view<4, A, cpu>& target) {
      for (std::int64_t i = 0; i < from->stored_keys; ++i) {
        for (std::int64_t j = 0; j < from->values; ++j) {
          target(of_line.sequence, head, i, j) =
              all_bad || carry.bad.column[j] < of_line.length ? nan : at(source, i, j);
        }
      }
    };
    store(carry.state, to.sum);
    if constexpr (Recurrence::framed) {
      if (to.input) store(carry.input, to.input);
      for (std::int64_t i = 0; i < from->weights(); ++i) {
        to.exponent(of_line.sequence, head, i) = static_cast<std::int32_t>(carry.exponent[i]);
        to.normaliser(of_line.sequence, head, i) = all_bad ? nan : carry.normaliser[i];
      }
    } else if (to.decay) {
      for (std::int64_t i = 0; i < from->weights(); ++i)
        to.decay(of_line.sequence, head, i) = all_bad ? nan : carry.decay[i];
    }
  }

  /// Writes the rows of the chunk: zero where a token is masked, NaN where a bad entry reached it.
  template <class Sequence>
  void store_rows(const tile<A>& source, const Sequence& to, bool accumulate, std::int64_t channels,
                  bool with_poison) const {
    if (!to) return;
    const bool check = with_poison && base::bad.any;
    const bool plain = base::whole && !check && !accumulate && to.channel_stride() == 1;
    for (std::int64_t r = 0; r < count; ++r) {
      auto* const target = to.token(line.batch, h, base::token(r));
      if (plain) {
        base::copy_dense(source.row(r), target, channels);
      } else {
        store_row(r, source.row(r), target, to.channel_stride(), accumulate, channels, check && base::on[r]);
      }
    }
  }

  /// Calls body(row of [d', e], offset) for every register of a state's tile.
  template <class Body>
  void each_element(const Body& body) const {
    const std::int64_t height = Transposed ? from->values : from->stored_keys, across = Transposed ? stored : values;
    for (std::int64_t i = 0; i < height; ++i) {
      for (std::int64_t j = 0; j < across; j += lane_count<A>) body(Transposed ? j : i, i * across + j);
    }
  }

  /// The factors of a register of a state's tile.
  static lanes<A> factor_at(const A* factor, std::int64_t row) {
    return Transposed ? load_lanes(factor + row) : all_lanes<lanes<A>>(factor[row]);
  }

 private:
  template <class U>
  void store_row(std::int64_t r, const A* source, U* target, std::int64_t stride, bool accumulate,
                 std::int64_t channels, bool check) const {
    for (std::int64_t j = 0; j < channels; ++j) {
      A x = base::on[r] ? source[j] : A(0);
      if (check && base::bad.reaches(first + r, j)) x = std::numeric_limits<A>::quiet_NaN();
      target[j * stride] = static_cast<U>(accumulate ? static_cast<A>(target[j * stride]) + x : x);
    }
  }

  /// X <- X + sum of kappa v^T, the inputs without a weight.
  void advance_input(recurrence_carry<A>& carry) {
    if constexpr (base::keyed) {
      for (std::int64_t r = 0; r < rows; ++r) {
        std::copy_n(base::kappa.row(r), keys, base::plain_write.row(r));
        base::encode(base::plain_write, write, r);
      }
      multiply(write.data, 1, write.stride, v.data, v.stride, total.data, total.stride, from->stored_keys, values, rows,
               false);
      for (std::int64_t i = 0; i < from->stored_keys * values; ++i) carry.input.data[i] += total.data[i];
    }
  }
};

/// The causal walk over one line and head at a time, in chunks (arXiv 2405.21022, appendix A.1, without logarithms):
///   o = qhat U + tril(qhat khat^T) V,   U <- 2^(m - f) U + khat^T V.
/// Least traffic a token and head: 2 d + 2 e elements, and those of the logits; one pass over the state a chunk.
template <class Recurrence, class Position, int Dims, class T>
struct causal_walk : recurrence_walk<Recurrence, Position, Dims, T, false> {
  using base = recurrence_walk<Recurrence, Position, Dims, T, false>;
  using typename base::A, typename base::arguments, typename base::carry_type;
  using base::rows, base::stored, base::values, base::line, base::h, base::count, base::v, base::read, base::write;
  using base::from, base::rescale, base::make;

  tile<A> scores, o, write_transposed;  // [rows, rows], [rows, e], [d', rows]
  tile<A> state, entered;               // [d', e]: U before the chunk, and in the frame of a run
  std::conditional_t<std::is_same_v<T, bfloat16>, amx_chunk, no_amx> amx;

  causal_walk(const arguments& a, execution<cpu>::scope& scratch)
      : base(a, scratch, decltype(amx)::usual_rows(), decltype(amx)::row_step()),
        scores{make(scratch, rows, rows)},
        o{make(scratch, rows, a.values)},
        write_transposed{make(scratch, stored, rows)},
        state{make(scratch, stored, a.values)},
        entered{make(scratch, stored, a.values)},
        amx{base::size, scratch} {}

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
        walk.forward_chunk(team.shared(), carry, of_line, head, index, onward, out);
      });
    });
    heads.each([&](std::int64_t head, const carry_type& carry) { base::store_state(carry, of_line, head, out.state); });
  }

 private:
  template <class Outputs>
  void forward_chunk(bool shared, carry_type& carry, const token_line& of_line, std::int64_t head, std::int64_t index,
                     bool onward, const Outputs& out) {
    base::load(of_line, head, index, true);
    base::weigh();
    carry.normaliser_turn.wait(index);
    base::enter(carry);
    carry.normaliser_turn.pass(index);
    base::enter_keys(rows - 1);
    if (onward) {
      if (amx.usable()) {
        amx.absorb(write, v, base::total, rows, from->stored_keys, values);
      } else {
        base::multiply_total();
      }
    }
    if (shared) {  // the next chunk waits for the state, so it is read from a copy
      carry.state_turn.wait(index);
      std::copy_n(carry.state.data, stored * values, state.data);
      if (onward) base::advance(carry);
      carry.state_turn.pass(index);
      if (carry.input.data) base::enter_keys(rows - 1);  // its sum took their place
    }
    const tile<A> before = shared ? state : carry.state;
    const bool fresh = base::fresh(index);
    const tile<A> none{nullptr, 0};
    if (base::is_cut) {
      for (std::int64_t start = 0, last; start < rows; start = last + 1) {
        last = base::last_of_run(start);
        base::enter_frame(last, base::frame.row(last));
        base::enter_keys(last);
        base::scale(before, entered, rescale);
        read_run(start, last, fresh ? none : entered);
      }
    } else {
      if (!fresh && base::moved()) base::scale(before, entered, rescale);
      read_run(0, rows - 1, fresh ? none : base::moved() ? entered : before);
    }
    if (!shared && onward) base::advance(carry);
    base::store_rows(o, out.o, out.accumulate, from->values, true);
  }

  /// The outputs of rows [start, last], whose factors are in the frame of `old`, the state before the chunk.
  void read_run(std::int64_t start, std::int64_t last, const tile<A>& old) {
    base::enter_queries(start, last);
    if (amx.usable()) {
      return amx.read(read, write, v, old, scores, o, rows, from->stored_keys, values, start, last);
    }
    transpose(write, last + 1, from->stored_keys, write_transposed);
    lower_triangle(read, write_transposed, scores, from->stored_keys, start, last, base::fetch);
    multiply_triangle(scores, v, o, values, start, last, false, base::fetch);
    if (old.data == nullptr) return;
    multiply(read.row(start), read.stride, 1, old.data, old.stride, o.row(start), o.stride, last + 1 - start, values,
             from->stored_keys, true, base::fetch);
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
