// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/amx_chunk.hpp>
#include <lightnet/backend/cpu/recurrence_tile.hpp>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// What all walks along the chunks of a line share: the state that they carry, [d', e] or, where Transposed, [e, d'], so
/// that the factors of its rows run along registers.
template <class Recurrence, class Position, int Dims, class T, bool Transposed>
struct recurrence_walk : recurrence_tile<Recurrence, Position, Dims, T, Transposed> {
  using base = recurrence_tile<Recurrence, Position, Dims, T, Transposed>;
  using typename base::A, typename base::arguments;
  using state_type = typename Recurrence::template state<A, cpu>;
  using base::rows, base::keys, base::stored, base::values, base::width, base::line, base::h, base::first, base::count;
  using base::v, base::write, base::write_transposed, base::from, base::keep, base::gain;
  static constexpr scaling scaled_by = Transposed ? scaling::columns : scaling::rows;

  struct carry_type : recurrence_carry<A> {
    carry_type(const recurrence_sizes& sizes, execution<cpu>::scope& scratch, const arguments&, bool with_input)
        : recurrence_carry<A>(sizes, scratch, Transposed, with_input) {}
  };

  tile<A> total;        // khat^T V
  A *by_row, *by_gain;  // [d']: a factor of each row of the state
  std::conditional_t<std::is_same_v<T, bfloat16> && !Transposed, amx_chunk, no_amx> amx;

  recurrence_walk(const arguments& a, execution<cpu>::scope& scratch, std::int64_t usual_rows)
      : base(a, scratch, usual_rows, decltype(amx)::row_step()),
        total{Transposed ? make_any(scratch, values, stored) : make_any(scratch, stored, values)},
        by_row{make(scratch, 1, stored).data},  // what pads them is zero
        by_gain{make(scratch, 1, stored).data},
        amx{base::size, scratch} {}

  /// What a chunk leaves in the caches while its turn lasts, about.
  static std::int64_t bytes(const recurrence_sizes& sizes) {
    const std::int64_t states = Transposed ? 2 : 1, tiles = Transposed ? 16 : 6;
    return (states * sizes.values + tiles * sizes.rows) * sizes.stored * static_cast<std::int64_t>(sizeof(A));
  }

  /// A matrix of zeros; what pads it stays zero.
  static tile<A> make(execution<cpu>::scope& scratch, std::int64_t height, std::int64_t columns) {
    const tile<A> made = make_any(scratch, height, columns);
    std::fill_n(made.data, height * made.stride, A(0));
    return made;
  }
  /// A matrix of any content.
  static tile<A> make_any(execution<cpu>::scope& scratch, std::int64_t height, std::int64_t columns) {
    const std::int64_t stride = whole_lanes<A>(columns);
    return {scratch.take<A>(height * stride), stride};
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
    if constexpr (!Recurrence::per_channel) {
      std::fill_n(to, from->stored_keys, factor[0]);
    } else if constexpr (Position::encodes) {
      for (std::int64_t i = 0; i < from->stored_keys; i += from->keys) std::copy_n(factor, from->keys, to + i);
    } else {
      return factor;
    }
    return to;
  }

  /// to = factor source, row by row of [d', e].
  void scale(const tile<A>& source, const tile<A>& to, const A* factor) const {
    const A* const by = spread(factor, by_row);
    each_element([&](std::int64_t row, std::int64_t place) {
      store_lanes(to.data + place, factor_at(by, row) * load_lanes(source.data + place));
    });
  }

  /// khat^T V, to `to`.
  template <class To>
  void multiply_keys(const To& to) {
    if constexpr (Transposed) {
      multiply(to, from->values, stored, factors<A>::transposed(v, write, rows), base::fetch);
    } else {
      multiply(to, from->stored_keys, values, factors<A>::of(write_transposed, v, rows), base::fetch);
    }
  }

  /// total = khat^T V.
  void multiply_total() {
    if (amx.usable()) {
      amx.absorb(write_transposed, v, total, rows, from->stored_keys, values);
    } else {
      multiply_keys(destination<A>::in(total));
    }
  }

  /// keep old + gain times what a product gives, as where that product goes.
  next_state<scaled_by, A> next(A* to, const A* old, const A* kept, const A* gained) const {
    return {to, old, total.stride, spread(kept, by_row), spread(gained, by_gain)};
  }

  /// The same from a product that is known.
  void advance(const next_state<scaled_by, A>& to, const tile<A>& product) const {
    each_element(
        [&](std::int64_t row, std::int64_t place) { to.advance(place, row, load_lanes(product.data + place)); });
  }

  /// Whether a chunk's product with itself is added to a state as it is computed: not in parts, since a sum that runs through
  /// the state loses digits.
  bool at_once() const { return rows <= segment && !amx.usable(); }

  /// The state at `to` after the chunk, from the one before it; the carry's from then on.
  void absorb(carry_type& carry, A* to) {
    if (!at_once()) multiply_total();
    absorb_product(carry, to);
  }
  /// The same where `total` is known, unless all happens at once.
  void absorb_product(carry_type& carry, A* to) {
    const auto after = next(to, carry.state.data, keep, gain);
    at_once() ? multiply_keys(after) : advance(after, total);
    carry.state.data = to;
    if (carry.input.data) advance_input(carry);
  }

  /// Reads the chunks of a turn and puts them after what was carried to them.
  template <class Walk>
  static void enter_turn(Walk* walks, carry_type& carry, const token_line& of_line, std::int64_t head,
                         const chunk_turn& turn, bool with_queries) {
    for (std::int64_t i = 0; i < turn.count; ++i) {
      walks[i].load(of_line, head, turn.first + i, with_queries);
      walks[i].weigh();
    }
    carry.normaliser_turn.pass(turn.number, [&] {
      for (std::int64_t i = 0; i < turn.count; ++i) walks[i].enter_weighed(carry, with_queries);
    });
    for (std::int64_t i = 0; i < turn.count; ++i) {
      walks[i].encode_run(with_queries && !walks[i].is_cut ? 0 : walks[i].rows, walks[i].rows - 1);
    }
  }

  /// The products khat^T V of the chunks of a turn; asks for the state before it, which comes from another thread.
  template <class Walk>
  static void multiply_totals(Walk* walks, const chunk_turn& turn, const A* state) {
    Walk& last = walks[turn.count - 1];
    last.fetch.expect_too(state, last.stored * last.values * static_cast<std::int64_t>(sizeof(A)));
    for (std::int64_t i = 0; i < turn.count; ++i) walks[i].multiply_total();
  }

  /// What a chunk of a turn does to a matrix [d', e] that threads hand on: keep old + gain product. Where `before` is given
  /// it gets what was there before; it may be the product's place.
  struct change {
    const A *keep, *gain;  // of its rows
    const A* product;
    A* before;
  };
  change absorbed(A* before) const { return {spread(keep, by_row), spread(gain, by_gain), total.data, before}; }
  /// Takes a matrix through the changes of a turn, to `to`, where another thread will read it.
  void hand_over(const A* old, const change* changes, const chunk_turn& turn, A* to) const {
    const auto take = [&]<int Registers>(std::int64_t factor, std::int64_t place) {
      lanes<A> value[Registers];
      for (int r = 0; r < Registers; ++r) value[r] = load_lanes(old + place + r * lane_count<A>);
      for (const change* each = changes; each != changes + turn.count; ++each) {
        const change by = *each;
        for (int r = 0; r < Registers; ++r) {
          const std::int64_t at = place + r * lane_count<A>;
          const auto fresh = load_lanes(by.product + at);
          if (by.before) store_lanes(by.before + at, value[r]);
          value[r] = blend<scaled_by>(by.keep, value[r], by.gain, fresh, factor + (Transposed ? r * lane_count<A> : 0));
        }
      }
      for (int r = 0; r < Registers; ++r) stream_lanes(to + place + r * lane_count<A>, value[r]);
      return Registers * lane_count<A>;
    };
    const std::int64_t height = Transposed ? from->values : from->stored_keys, across = Transposed ? stored : values;
    for (std::int64_t i = 0; i < height; ++i) {
      for (std::int64_t j = 0; j < across;) {
        const std::int64_t factor = Transposed ? j : i, place = i * across + j;
        j += across - j < 4 * lane_count<A> ? take.template operator()<1>(factor, place)
                                            : take.template operator()<4>(factor, place);
      }
    }
    finish_streaming();
  }

  /// X <- X + sum of kappa v^T, the inputs without a weight.
  void advance_input(carry_type& carry) {
    if constexpr (base::keyed) {
      base::enter_plain(false);
      multiply(destination<A>::in(total), from->stored_keys, values, factors<A>::of(write_transposed, v, rows));
      for (std::int64_t i = 0; i < from->stored_keys * values; ++i) carry.input.data[i] += total.data[i];
    }
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
        to.exponent(of_line.sequence, head, i) = final_exponent(static_cast<std::int32_t>(carry.exponent[i]), all_bad);
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

  /// Where the rows of a sequence are computed: in place if they can be, else in a tile from which they have to be copied.
  template <class Sequence>
  tile<A> place(const Sequence& sequence, const tile<A>& room, bool in_tile) const {
    if constexpr (std::is_same_v<A, T>) {
      if (!in_tile && base::lies_as(sequence, room.stride)) return base::in_place(sequence);
    }
    return room;
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
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
