// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/product.hpp>
#include <lightnet/backend/cpu/recurrence_rows.hpp>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Frames within one run of rows stay this close: 64 / ln 2, so that nothing overflows in float or bfloat16 range.
inline constexpr std::int32_t frame_range = 92;

/// A log decay that leaves nothing: e^-1e4 is zero in every type, and the sum of a chunk of them keeps its digits.
inline constexpr int reset_logit = -10000;

/// One chunk of one line and head, in the scratch memory of a thread: what it reads, and the factors
///   khat_s = kappa_s w_s 2^-f,   qhat_t = q_t / (Z_t 2^-f)
/// of its matrix products in a frame f, a power of two for each weight.
///
/// Frames are exact, so they change no bit; what they buy is that no factor overflows. A chunk whose running frame
/// climbs by more than `frame_range` is cut into runs of rows, each evaluated in the frame of its own last row.
///
/// Weights are worked out a register of channels at a time, down all rows, in as little memory as that takes: what a chunk
/// needs would not fit the nearest cache otherwise. Only a gradient keeps all of it.
template <class Recurrence, class Position, int Dims, class T, bool WithGradients>
struct recurrence_tile : recurrence_rows<Recurrence, Position, Dims, T> {
  using base = recurrence_rows<Recurrence, Position, Dims, T>;
  using typename base::A, typename base::arguments, typename base::lane, typename base::exponent_lane;
  using carry_type = recurrence_carry<A>;
  using exponent_type = typename carry_type::exponent_type;
  using base::rows, base::keys, base::stored, base::width, base::line, base::h, base::first, base::count, base::from;
  using base::q, base::kappa, base::logit, base::on, base::bad, base::any_poison, base::decays, base::keyed;
  using base::each_register, base::lane_width;

  static constexpr bool per_channel = Recurrence::per_channel;
  static constexpr bool sums = Recurrence::normaliser == normaliser_of::sum;
  static constexpr bool running = Recurrence::weight == weight_of::running_sum;
  static constexpr bool weights_are_keys = WithGradients && !keyed && per_channel && !running;  // khat = w
  static constexpr bool keeps_keys = WithGradients || Position::encodes;                        // row by row
  static constexpr bool keeps_factors =
      WithGradients || !per_channel;  // weight, inverse and, where it is the key, normaliser

  A* mantissa;                      // [panels, rows, lanes]: w = mantissa 2^exponent
  exponent_type* exponent;          // [panels, rows, lanes]
  std::int64_t panel_step = 1;      // 0 where all channels share the first panel, one after another
  tile<A> weight, normaliser;       // [rows, width]: the weights in frame f, and Z 2^-f where it is the key
  tile<A> inverse;                  // [rows, width]: 1 / (Z 2^-f)
  tile<exponent_type> frame;        // [rows, width]: the largest exponent so far, where the chunk is cut
  tile<A> plain_read, plain_write;  // [rows, d]: qhat and khat; of khat only a register's channels but where it is kept
  tile<A> read, write;              // [rows, d']: the same, encoded
  tile<A> write_transposed;         // [d', rows]
  exponent_type *begin_frame, *top;  // [width]: m at the chunk's start, and its frame at the end
  A *begin_normaliser,
      *end_normaliser;       // [width]: Z at the chunk's start and at its end, there in the last frame entered
  A *rescale, *keep, *gain;  // [width]: 2^(m - f); the next state is keep U + gain khat^T V
  bool is_cut = false;       // into runs

  recurrence_tile(const arguments& a, execution<cpu>::scope& scratch, std::int64_t usual_rows, std::int64_t row_step)
      : base(a, scratch, usual_rows, row_step),
        mantissa{scratch.take<A>(rows * width)},
        exponent{scratch.take<exponent_type>(rows * width)},
        weight{base::template make<A>(scratch, keeps_factors ? width : 0)},
        normaliser{running ? base::template make<A>(scratch, width) : weight},
        inverse{base::template make<A>(scratch, keeps_factors ? width : 0)},
        frame{base::template make<exponent_type>(scratch, width)},
        plain_read{base::template make<A>(scratch, keys)},
        plain_write{weights_are_keys ? weight : base::template make<A>(scratch, keeps_keys ? keys : lane_width)},
        read{Position::encodes ? base::template make<A>(scratch, stored) : plain_read},
        write{Position::encodes ? base::template make<A>(scratch, stored) : plain_write},
        write_transposed{scratch.take<A>(stored * whole_lanes<A>(rows)), whole_lanes<A>(rows)},
        begin_frame{scratch.take<exponent_type>(width)},
        top{scratch.take<exponent_type>(width)},
        begin_normaliser{scratch.take<A>(width)},
        end_normaliser{scratch.take<A>(width)},
        rescale{scratch.take<A>(width)},
        keep{scratch.take<A>(width)},
        gain{scratch.take<A>(width)} {
    if constexpr (Position::encodes) {  // the padding beyond d' stays zero
      std::fill_n(read.data, rows * stored, A(0));
      std::fill_n(write.data, rows * stored, A(0));
    }
  }

  /// What a row of weights holds for channel i of the key.
  template <class U>
  static U of(const U* weights, std::int64_t i) {
    return weights[per_channel ? i : 0];
  }

  /// Puts the chunk after what was carried to it: its frame, and its factors in that frame, qhat too where `with_queries`
  /// and the chunk is not cut; not yet encoded. Carries all but the state on.
  void enter(carry_type& carry, bool with_queries) {
    enter_after(carry.exponent, carry.normaliser, with_queries);
    carry_on(carry);
  }
  /// The same where `weigh` was called: what takes long does not have to wait for the chunks before.
  void enter_weighed(carry_type& carry, bool with_queries) {
    begin_after(carry.exponent, carry.normaliser);
    place_weighed(with_queries);
    carry_on(carry);
  }

  /// Turns all logits into weights. Bad logits become neutral.
  void weigh() {
    panel_step = 1;
    const auto weigh_all = [&] {
      exponent_lane found{};
      each_register(width, [&](std::int64_t c) { found |= weigh_register(c); });
      return any_lane(found);
    };
    if (!weigh_all()) return;
    base::clean_logits();
    weigh_all();
  }

  /// The same after m and Z, carrying nothing on.
  void enter_after(const exponent_type* m, const A* z, bool with_queries) {
    begin_after(m, z);
    panel_step = 0;
    is_cut = false;
    bool simple = true;  // no bad logits, no cut
    each_register(width, [&](std::int64_t c) {
      simple = simple && !any_lane(weigh_register(c)) && !any_lane(place_register(c));
      if (simple) enter_register(c, with_queries ? 0 : rows, rows - 1, end_frame());
    });
    if (!simple) {
      weigh();
      place_weighed(with_queries);
    } else {
      enter_heads(with_queries ? 0 : rows, rows - 1);
      hand_on();
    }
  }

  /// The frame of the last run, in which the chunk joins the state. A decay that is not cut stays in that of its start.
  const exponent_type* end_frame() const { return sums || is_cut ? top : begin_frame; }

  /// Whether the frame of the last run differs from that of what was carried to the chunk.
  bool moved() const {
    exponent_lane found{};
    each_register(width, [&](std::int64_t c) { found |= load_lanes(rescale + c) != all_lanes<lane>(A(1)); });
    return any_lane(found);
  }

  /// The last row of the run that starts at row `start` of a chunk that is cut.
  std::int64_t last_of_run(std::int64_t start) const {
    std::int64_t last = start;
    while (last + 1 < rows && !jumps(start, last + 1)) ++last;
    return last;
  }

  /// The weights of rows [0, last] in frame f, their normaliser and khat, and qhat of rows [start, last]; not yet encoded.
  void enter_run(std::int64_t start, std::int64_t last, const exponent_type* f) {
    each_register(width, [&](std::int64_t c) { enter_register(c, start, last, f); });
    enter_heads(start, last);
  }

  /// Encodes what enter_run gave, and transposes the keys.
  void encode_run(std::int64_t start, std::int64_t last) const {
    if constexpr (Position::encodes) {
      for (std::int64_t r = 0; r <= last; ++r) encode(plain_write, write, r);
      for (std::int64_t r = start; r <= last; ++r) encode(plain_read, read, r);
    }
    if constexpr (keeps_keys) transpose(write, last + 1, stored, write_transposed);
  }

  /// q and kappa as the factors, as they are.
  void enter_plain(bool with_queries) {
    const lane one = all_lanes<lane>(A(1));
    for (const tile<A>& t : {weight, inverse}) std::fill_n(t.data, rows * t.stride, A(1));
    each_register(keys, [&](std::int64_t c) {
      for (std::int64_t r = 0; r < rows; ++r) enter_key(r, c, one);
      leave_keys(c, rows - 1);
      for (std::int64_t r = 0; with_queries && r < rows; ++r) enter_query(r, c, one);
    });
    encode_run(with_queries ? 0 : rows, rows - 1);
  }

  void encode(const tile<A>& plain, const tile<A>& encoded, std::int64_t r) const {
    if constexpr (Position::encodes) {
      Position::apply(plain.row(r), encoded.row(r), cosine(r), sine(r), from->keys, from->cosine.extent(2));
    }
  }
  const A* cosine(std::int64_t r) const { return table(from->cosine, r); }
  const A* sine(std::int64_t r) const { return table(from->sine, r); }

  /// 1 / z; 0 for the normaliser of an empty channel.
  static lane reciprocal(const lane& z) {
    const lane one = all_lanes<lane>(A(1));
    return z == lane{} ? lane{} : reciprocal_lanes<A>(z == lane{} ? one : z);
  }

 private:
  /// Carries m and Z, or the decay, and what was bad from this chunk to the next.
  void carry_on(carry_type& carry) {
    if (any_poison) carry.bad.add(bad);
    if (carry.bad.any) bad.copy(carry.bad);
    if constexpr (sums) {
      std::copy_n(top, width, carry.exponent);
      std::copy_n(end_normaliser, width, carry.normaliser);
    } else {
      for (std::int64_t i = 0; i < width; ++i) carry.decay[i] *= keep[i];
    }
  }

  /// Turns the logits of the channels from c on into weights, mantissa 2^exponent, and finds the largest exponent; returns
  /// where there were bad ones.
  exponent_lane weigh_register(std::int64_t c) {
    exponent_lane found{}, most = exponent_lane{} + empty_exponent;
    compensated<lane> total{};
    scaled<lane> product{all_lanes<lane>(A(1)), exponent_lane{}};
    A* const mantissas = mantissa + panel(c);
    exponent_type* const exponents = exponent + panel(c);
    for (std::int64_t r = 0; r < rows; ++r) {
      lane x = load_as<A>(logit.row(r) + c);
      found |= base::bad_logit(x);
      scaled<lane> w;
      if constexpr (base::has_complement) {
        store_lanes(base::k_room.row(r) + c, one_minus_exponential(x));
      }
      if constexpr (Recurrence::with_sign) {
        w = divide(product, x);
        product = w;
      } else if constexpr (!decays) {
        w = scaled_exponential(x);
      } else {
        const lane least = all_lanes<lane>(reset_logit);
        x = x < least ? least : x;
        total = total.plus(-x);
        w = scaled_exponential(total.sum, total.error);
      }
      store_lanes(mantissas + r * lane_width, w.mantissa);
      store_lanes(exponents + r * lane_width, w.exponent);
      most = w.exponent > most ? w.exponent : most;
    }
    if constexpr (base::has_complement) kappa = {base::k_room.data, base::k_room.stride};
    store_lanes(top + c, most);
    return found;
  }

  /// Where the weights of the channels from c on lie.
  std::int64_t panel(std::int64_t c) const { return c * rows * panel_step; }

  void begin_after(const exponent_type* m, const A* z) {
    std::copy_n(m, width, begin_frame);
    std::copy_n(z, width, begin_normaliser);
  }

  /// Puts a chunk whose weights are all known after m and Z.
  void place_weighed(bool with_queries) {
    exponent_lane wide{};
    each_register(width, [&](std::int64_t c) { wide |= place_register(c); });
    is_cut = any_lane(wide);
    if (is_cut) find_frames();
    enter_run(with_queries && !is_cut ? 0 : rows, rows - 1, end_frame());
    hand_on();
  }

  /// What becomes of the state at the chunk's end. A decay starts the next chunk in a new frame.
  void hand_on() {
    each_register(width, [&](std::int64_t c) {
      const lane by = sums ? all_lanes<lane>(A(1)) : reciprocal(load_lanes(end_normaliser + c));
      store_lanes(gain + c, by);
      store_lanes(keep + c, by * load_lanes(rescale + c));
    });
  }

  /// Puts the weights of the channels from c on after what was carried: their frame at the chunk's end; returns where it
  /// moves too far within the chunk. An empty channel counts from its first key.
  exponent_lane place_register(std::int64_t c) const {
    exponent_lane low = load_lanes(begin_frame + c), end = load_lanes(top + c);
    end = low > end ? low : end;
    store_lanes(top + c, end);
    const exponent_lane empty = low == empty_exponent;
    if (any_lane(empty)) {
      exponent_lane least = end;
      for (std::int64_t r = 0; r < rows; ++r) {
        const exponent_lane n = load_lanes(exponent + panel(c) + r * lane_width);
        least = n != empty_exponent && n < least ? n : least;
      }
      low = empty ? least : low;
    }
    return end - low > frame_range;
  }

  /// The frame of every row of a chunk that is cut.
  void find_frames() {
    each_register(width, [&](std::int64_t c) {
      exponent_lane most = load_lanes(begin_frame + c);
      for (std::int64_t r = 0; r < rows; ++r) {
        const exponent_lane n = load_lanes(exponent + panel(c) + r * lane_width);
        most = n > most ? n : most;
        store_lanes(frame.row(r) + c, most);
      }
    });
  }

  /// enter_run for the channels from c on. The normaliser is summed exactly as `multiply` sums U, so values of 1 give
  /// U = Z to the bit.
  void enter_register(std::int64_t c, std::int64_t start, std::int64_t last, const exponent_type* f) {
    const exponent_lane to = load_lanes(f + c);
    const lane by = lower_by_power_of_two(all_lanes<lane>(A(1)), load_lanes(begin_frame + c) - to);
    store_lanes(rescale + c, by);
    const A* const mantissas = mantissa + panel(c);
    const exponent_type* const exponents = exponent + panel(c);
    const lane before = by * load_lanes(begin_normaliser + c);
    lane z = before, settled{};
    for (std::int64_t first_row = 0; first_row <= last; first_row += segment) {
      lane sum{};
      for (std::int64_t r = first_row; r < std::min(first_row + segment, last + 1); ++r) {
        const lane p = load_lanes(mantissas + r * lane_width);
        const exponent_lane n = load_lanes(exponents + r * lane_width) - to;
        lane w;
        if constexpr (sums) {
          w = lower_by_power_of_two(p, n);
          sum += w;
          z = before + (settled + sum);
        } else {  // in the frame of the chunk's start the exponents of a decay are positive
          const exponent_lane up = n > 0 ? n : exponent_lane{}, down = n > 0 ? exponent_lane{} : n;
          z = w = lower_by_power_of_two(p, down) * raise(up);
        }
        if constexpr (per_channel) enter_key(r, c, running ? z : w);
        if constexpr (keeps_factors) {
          if constexpr (!weights_are_keys) store_lanes(weight.row(r) + c, w);
          if constexpr (running) store_lanes(normaliser.row(r) + c, z);
        }
        if (r < start) continue;
        const lane inverted = reciprocal(z);
        if constexpr (per_channel) enter_query(r, c, inverted);
        if constexpr (keeps_factors) store_lanes(inverse.row(r) + c, inverted);
      }
      settled += sum;
    }
    store_lanes(end_normaliser + c, z);
    if constexpr (per_channel) leave_keys(c, last);
  }

  /// enter_run for the keys and queries of a weight that all channels of a head share.
  void enter_heads(std::int64_t start, std::int64_t last) {
    if constexpr (!per_channel) {
      each_register(keys, [&](std::int64_t c) {
        for (std::int64_t r = 0; r <= last; ++r) enter_key(r, c, load_lanes((running ? normaliser : weight).row(r)));
        leave_keys(c, last);
        for (std::int64_t r = start; r <= last; ++r) enter_query(r, c, load_lanes(inverse.row(r)));
      });
    }
  }

  void enter_key(std::int64_t r, std::int64_t c, const lane& factor) const {
    A* const to = plain_write.row(r) + (keeps_keys ? c : 0);
    if constexpr (keyed) {
      store_lanes(to, load_as<A>(kappa.row(r) + c) * factor);
    } else {
      store_lanes(to, factor);
    }
  }
  /// After the channels from c on of all keys were entered.
  void leave_keys(std::int64_t c, std::int64_t last) const {
    if constexpr (!keeps_keys) transpose(plain_write, last + 1, lane_width, write_transposed.from(c));
  }
  void enter_query(std::int64_t r, std::int64_t c, const lane& factor) const {
    store_lanes(plain_read.row(r) + c, load_as<A>(q.row(r) + c) * factor);
  }

  const A* table(const dynamic_view<3, const A, cpu>& angles, std::int64_t r) const {
    const std::int64_t head = angles.extent(0) == 1 ? 0 : h;
    return angles.data() + head * angles.stride(0) + (r < count ? base::token(r) - line.origin : 0) * angles.stride(1);
  }

  /// 2^n for n from 0 to some more than `frame_range`.
  static lane raise(const exponent_lane& n) { return (lane)((n + binary<A>::bias) << binary<A>::mantissa); }

  /// x / a, lane by lane.
  static scaled<lane> divide(const scaled<lane>& x, const lane& a) {
    scaled<lane> y;
    for (std::int64_t i = 0; i < lane_width; ++i) {
      const scaled<A> one = divide_scaled(scaled<A>{x.mantissa[i], static_cast<std::int32_t>(x.exponent[i])}, a[i]);
      y.mantissa[i] = one.mantissa;
      y.exponent[i] = one.exponent;
    }
    return y;
  }

  /// Whether the frame of row `last` is too far from that of row `start`. An empty channel counts from its first key.
  bool jumps(std::int64_t start, std::int64_t last) const {
    for (std::int64_t i = 0; i < width; ++i) {
      const exponent_type end = frame.row(last)[i];
      exponent_type low = frame.row(start)[i];
      for (std::int64_t r = start + 1; low == empty_exponent && r <= last; ++r) low = frame.row(r)[i];
      if (!(end - low <= frame_range)) return true;
    }
    return false;
  }
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
