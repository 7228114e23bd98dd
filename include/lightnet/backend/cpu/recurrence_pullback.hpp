// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/recurrence_walk.hpp>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// What the gradients of every traversal share: tiles for the gradients of a chunk, the way from the encoded factors back
/// to q, kappa and the logits, and the ends of a line. States and D, the gradient by U, are kept as [e, d'].
template <class Recurrence, class Position, int Dims, class T>
struct recurrence_pullback : recurrence_walk<Recurrence, Position, Dims, T, true> {
  using base = recurrence_walk<Recurrence, Position, Dims, T, true>;
  using typename base::A, typename base::arguments, typename base::lane;
  using gradients = recurrence_gradients<Dims, T, cpu>;
  static constexpr bool tied = Recurrence::logits == logits_from::keys;
  using base::rows, base::keys, base::stored, base::values, base::width, base::line, base::h, base::count;
  using base::v, base::read, base::write, base::plain_read, base::plain_write, base::weight, base::inverse, base::from;
  using base::make;

  /// D and r, what the tokens already seen owe the normaliser (with the factor 1 / Z), beside what the walk carries.
  struct carry_type : base::carry_type {
    tile<A> d;  // [e, d']
    A* r;       // [width]

    carry_type(const recurrence_sizes& sizes, execution<cpu>::scope& scratch, const arguments& a, bool with_input)
        : base::carry_type(sizes, scratch, a, with_input),
          d{this->make(scratch, true)},
          r{scratch.take<A>(sizes.width)} {}
  };

  tile<A> dout;                       // [rows, e]
  tile<A> dread, dwrite;              // [rows, d']
  tile<A> dread_plain, dwrite_plain;  // [rows, d]
  tile<A> read_term, key_term;        // [rows, width]: R = qhat * dqhat, A = khat * dkhat
  tile<A> dq, dv, dkappa, dlogit;     // [rows, d], [rows, e], [rows, d], [rows, width]: where gradients are computed,
  tile<A> dq_room, dv_room, dkappa_room, dlogit_room;  // and tiles for what cannot be computed in place
  tile<A> d;                                           // [e, d']: D at the chunk's end, in the frame of its last run
  A *dangle, *dtheta;                                  // [angles]; the chunk's part of the gradient by theta
  A dhead_logit = A(0);                                // and of that by the logit of a head
  std::int64_t line_index = 0;                         // whose part of the shared gradients is written

  recurrence_pullback(const arguments& a, execution<cpu>::scope& scratch, std::int64_t usual_rows = 32)
      : base(a, scratch, usual_rows),
        dout{make(scratch, rows, a.values)},
        dread{make(scratch, rows, stored)},
        dwrite{make(scratch, rows, stored)},
        dread_plain{Position::encodes ? make(scratch, rows, keys) : dread},
        dwrite_plain{Position::encodes ? make(scratch, rows, keys) : dwrite},
        read_term{make(scratch, rows, width)},
        key_term{make(scratch, rows, width)},
        dq_room{make(scratch, rows, keys)},
        dv_room{make(scratch, rows, values)},
        dkappa_room{make(scratch, rows, base::keyed ? keys : 0)},
        dlogit_room{make(scratch, rows, width)},
        d{base::make_any(scratch, values, stored)},
        dangle{scratch.take<A>(keys)},
        dtheta{scratch.take<A>(keys)} {
    std::fill_n(dtheta, keys, A(0));
  }

  /// to [width] = the sums of left * right, two [e, d'] matrices, over e and over what shares a weight.
  void sum_products(const tile<A>& left, const tile<A>& right, A* to) const {
    std::fill_n(to, width, A(0));
    for (std::int64_t i = 0; i < stored; i += base::lane_width) {
      lane sum{};
      for (std::int64_t j = 0; j < from->values; ++j) {
        sum = multiply_add(load_lanes(left.row(j) + i), load_lanes(right.row(j) + i), sum);
      }
      if constexpr (Recurrence::per_channel && !Position::encodes) {
        store_lanes(to + i, sum);
      } else {
        for (std::int64_t l = 0; l < base::lane_width && i + l < from->stored_keys; ++l) {
          to[Recurrence::per_channel ? (i + l) % from->keys : 0] += sum[l];
        }
      }
    }
    if constexpr (!Recurrence::per_channel) std::fill_n(to, width, to[0]);
  }

  /// D and r from the gradient of the final state, the carry standing there: dU = dS / Z, and dz enters through Z.
  void begin_gradient(carry_type& carry, std::int64_t index, const token_line& of_line, std::int64_t head,
                      const gradients& out) {
    line_index = index;
    line = of_line;
    h = head;
    if (out.head_logits) out.head_logits(line_index, h) = A(0);
    for (std::int64_t j = 0; out.theta && j < out.theta.extent(2); ++j) out.theta(line_index, h, j) = A(0);
    base::load_state(out.final_state.sum, carry.d);
    std::fill_n(carry.r, width, A(0));
    if constexpr (base::sums) {
      sum_products(carry.d, carry.state, carry.r);
      A* const by = base::rescale;
      for (std::int64_t i = 0; i < width; ++i) {
        const std::int64_t channel = std::min(i, from->weights() - 1);
        const A z = carry.normaliser[i];
        by[i] = z == A(0) ? A(0) : A(1) / z;
        const A dz = out.final_state.z ? out.final_state.z(line.sequence, h, channel) : A(0);
        carry.r[i] = (carry.r[i] * by[i] - dz) * by[i];
      }
      base::scale(carry.d, carry.d, by);
    }
  }

  /// The end of a walk back: dS_0 = Z_0 D and dz_0 = rowsum(dS_0 * S_0) - Z_0 r, D and r being in the frame of the
  /// initial state. What is summed over the tokens of a line with a bad entry is NaN.
  void end_gradient(carry_type& carry, std::int64_t index, const token_line& of_line, std::int64_t head, bool poisoned,
                    const gradients& out) {
    line_index = index;
    line = of_line;
    h = head;
    constexpr A nan = std::numeric_limits<A>::quiet_NaN();
    if (poisoned && out.head_logits) out.head_logits(line_index, h) = nan;
    for (std::int64_t j = 0; poisoned && out.theta && j < out.theta.extent(2); ++j) out.theta(line_index, h, j) = nan;
    if (!out.state) return;
    base::begin(carry, line, h);
    A* const sums_of_rows = base::rescale;
    sum_products(carry.d, carry.state, sums_of_rows);
    for (std::int64_t i = 0; out.state.z && i < from->weights(); ++i) {
      out.state.z(line.sequence, h, i) = poisoned ? nan : sums_of_rows[i] - carry.normaliser[i] * carry.r[i];
    }
    for (std::int64_t i = 0; i < from->stored_keys; ++i) {
      const A z = base::of(carry.normaliser, i % from->keys);
      for (std::int64_t j = 0; j < from->values; ++j) {
        out.state.sum(line.sequence, h, i, j) = poisoned ? nan : z * carry.d.row(j)[i];
      }
    }
  }

  /// From the gradient of an encoded row to that of the row; adds what the angles get.
  void decode(const tile<A>& plain, const tile<A>& dencoded, const tile<A>& dplain, std::int64_t row,
              const gradients& out) const {
    if constexpr (Position::encodes) {
      const std::int64_t angles = from->cosine.extent(2);
      const std::int64_t share = out.theta.extent(2);
      A* const to = out.theta && row < count ? dangle : nullptr;
      if (to) std::fill_n(to, angles, A(0));
      Position::pull(plain.row(row), dencoded.row(row), dplain.row(row), to, base::cosine(row), base::sine(row),
                     from->keys, angles);
      for (std::int64_t j = 0; to && j < angles; ++j) {
        dtheta[j % share] += out.coordinate(base::token(row) - line.origin, j) * to[j];
      }
    }
  }

  /// dq and R of rows [start, last], from dread.
  void gather_reads(std::int64_t start, std::int64_t last, const gradients& out) {
    if constexpr (Position::encodes) {
      for (std::int64_t t = start; t <= last; ++t) decode(plain_read, dread, dread_plain, t, out);
    }
    each_channel(
        start, last, read_term, false,
        [&](std::int64_t t, std::int64_t c, const lane& z) {
          const lane dqhat = load_lanes(dread_plain.row(t) + c);
          store_lanes(dq.row(t) + c, dqhat * z);
          return load_lanes(plain_read.row(t) + c) * dqhat;
        },
        inverse);
  }

  /// Adds the shares of rows [0, last] to dkappa and A, from dwrite.
  void gather_keys(std::int64_t last, bool add, const gradients& out) {
    if constexpr (Position::encodes) {
      for (std::int64_t s = 0; s <= last; ++s) decode(plain_write, dwrite, dwrite_plain, s, out);
    }
    each_channel(
        0, last, key_term, add,
        [&](std::int64_t s, std::int64_t c, const lane& w) {
          const lane dkhat = load_lanes(dwrite_plain.row(s) + c);
          if constexpr (base::keyed) {
            A* const to = dkappa.row(s) + c;
            store_lanes(to, add ? load_lanes(to) + w * dkhat : w * dkhat);
          }
          return load_lanes(plain_write.row(s) + c) * dkhat;
        },
        base::running ? base::normaliser : weight);
  }

  /// Where the gradients of this chunk are computed: in place, or in a tile that is copied from there.
  void place_queries(bool poisoned, const gradients& out) {
    dq = base::place(out.q, dq_room, poisoned || out.accumulate);
  }
  void place_keys_and_values(bool poisoned, const gradients& out) {
    const bool in_tile = poisoned || out.accumulate || base::is_cut;
    dv = base::place(out.v, dv_room, in_tile);
    dkappa = dkappa_room;
    if constexpr (Recurrence::kappa == kappa_of::key) dkappa = base::place(out.k, dkappa_room, in_tile);
    dlogit = dlogit_room;
    if constexpr (Recurrence::per_channel && !base::has_complement) {
      if constexpr (tied) dlogit = base::place(out.k, dlogit_room, in_tile);
      if constexpr (Recurrence::logits == logits_from::tokens) {
        dlogit = base::place(out.logits, dlogit_room, in_tile);
      }
    }
  }

  void store_queries(bool poisoned, const gradients& out) const {
    if (dq.data == dq_room.data) store_gradient(poisoned, dq, out.q, from->keys, out.accumulate);
  }

  void store_keys_and_values(bool poisoned, const gradients& out) {
    if constexpr (base::has_complement) {
      each_channel(
          0, rows - 1, dlogit, true,
          [&](std::int64_t t, std::int64_t c, const lane&) {
            return (load_lanes(base::kappa.row(t) + c) - A(1)) * load_lanes(dkappa.row(t) + c);
          },
          weight);
    } else if (!tied && dkappa.data == dkappa_room.data) {
      store_gradient(poisoned, dkappa, out.k, from->keys, out.accumulate);
    } else if (tied && dlogit.data == dlogit_room.data) {
      store_gradient(poisoned, dlogit, out.k, from->keys, out.accumulate);
    }
    if (dv.data == dv_room.data) store_gradient(poisoned, dv, out.v, from->values, out.accumulate);
    if constexpr (Recurrence::logits == logits_from::tokens) {
      if (dlogit.data == dlogit_room.data) {
        store_gradient(poisoned, dlogit, out.logits, from->weights(), out.accumulate);
      }
    }
    if (out.head_logits) {
      A of_head = A(0);
      for (std::int64_t t = rows; t-- > 0;) of_head += base::on[t] ? dlogit.row(t)[0] : A(0);
      dhead_logit = of_head;
    }
  }

  /// Adds the chunk's parts of what the line has one gradient for; in the order of the chunks.
  void add_parts(const gradients& out) {
    for (std::int64_t j = 0; out.theta && j < out.theta.extent(2); ++j) {
      out.theta(line_index, h, j) += dtheta[j];
      dtheta[j] = A(0);
    }
    if (out.head_logits) out.head_logits(line_index, h) += dhead_logit;
    dhead_logit = A(0);
  }

  /// Calls term(row, column, factor) for every register of rows [start, last], the factor being that of the weights'
  /// tile, and puts the terms, summed over what shares a weight, into `to`.
  template <class Term>
  void each_channel(std::int64_t start, std::int64_t last, const tile<A>& to, bool add, const Term& term,
                    const tile<A>& by) {
    for (std::int64_t t = start; t <= last; ++t) {
      A* const row = to.row(t);
      if constexpr (Recurrence::per_channel) {
        for (std::int64_t c = 0; c < keys; c += base::lane_width) {
          const lane value = term(t, c, load_lanes(by.row(t) + c));
          store_lanes(row + c, add ? load_lanes(row + c) + value : value);
        }
      } else {
        lane of_head{};
        for (std::int64_t c = 0; c < keys; c += base::lane_width) of_head += term(t, c, load_lanes(by.row(t)));
        const A sum = sum_of_lanes<A>(of_head);
        store_lanes(row, all_lanes<lane>(add ? row[0] + sum : sum));
      }
    }
  }

 private:
  /// A line and head that saw a bad entry has no gradient: NaN, but where a token is masked.
  template <class Sequence>
  void store_gradient(bool poisoned, const tile<A>& source, const Sequence& to, std::int64_t channels,
                      bool accumulate) const {
    for (std::int64_t t = 0; to && poisoned && t < count; ++t) {
      if (base::on[t]) std::fill_n(source.row(t), channels, std::numeric_limits<A>::quiet_NaN());
    }
    base::store_rows(source, to, accumulate, channels, false);
  }
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
