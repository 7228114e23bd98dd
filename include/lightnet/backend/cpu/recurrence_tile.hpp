// SPDX-License-Identifier: Apache-2.0
#pragma once

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
template <class Recurrence, class Position, int Dims, class T>
struct recurrence_tile : recurrence_rows<Recurrence, Position, Dims, T> {
  using base = recurrence_rows<Recurrence, Position, Dims, T>;
  using typename base::A, typename base::arguments, typename base::lane, typename base::exponent_lane;
  using carry_type = recurrence_carry<A>;
  using exponent_type = typename carry_type::exponent_type;
  using base::rows, base::keys, base::stored, base::width, base::line, base::h, base::first, base::count, base::from;
  using base::q, base::kappa, base::logit, base::on, base::bad, base::any_poison, base::decays, base::keyed;
  using base::each_register, base::lane_width;

  static constexpr bool sums = Recurrence::normaliser == normaliser_of::sum;
  static constexpr bool running = Recurrence::weight == weight_of::running_sum;
  static constexpr bool weights_are_keys = !keyed && Recurrence::per_channel && !running;  // khat = w

  tile<A> mantissa;                  // [rows, width]: w = mantissa 2^exponent
  tile<exponent_type> exponent;      // [rows, width]
  tile<A> weight, normaliser;        // [rows, width]: the weights in frame f, and Z 2^-f
  tile<A> inverse;                   // [rows, width]: 1 / (Z 2^-f)
  tile<exponent_type> frame;         // [rows, width]: the largest exponent so far, where the chunk is cut
  tile<A> plain_read, plain_write;   // [rows, d]: qhat and khat
  tile<A> read, write;               // [rows, d']: the same, encoded
  exponent_type *begin_frame, *top;  // [width]: m at the chunk's start, and its frame at the end
  A* begin_normaliser;               // [width]: Z at the chunk's start
  A *rescale, *keep, *gain;          // [width]: 2^(m - f); the next state is keep U + gain khat^T V
  bool is_cut = false;               // into runs

  recurrence_tile(const arguments& a, execution<cpu>::scope& scratch, std::int64_t usual_rows, std::int64_t row_step)
      : base(a, scratch, usual_rows, row_step),
        mantissa{base::template make<A>(scratch, width)},
        exponent{base::template make<exponent_type>(scratch, width)},
        weight{base::template make<A>(scratch, width)},
        normaliser{sums ? base::template make<A>(scratch, width) : weight},
        inverse{base::template make<A>(scratch, width)},
        frame{base::template make<exponent_type>(scratch, width)},
        plain_read{base::template make<A>(scratch, keys)},
        plain_write{weights_are_keys ? weight : base::template make<A>(scratch, keys)},
        read{Position::encodes ? base::template make<A>(scratch, stored) : plain_read},
        write{Position::encodes ? base::template make<A>(scratch, stored) : plain_write},
        begin_frame{scratch.take<exponent_type>(width)},
        top{scratch.take<exponent_type>(width)},
        begin_normaliser{scratch.take<A>(width)},
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
    return weights[Recurrence::per_channel ? i : 0];
  }

  /// Turns logits into weights, mantissa 2^exponent, and finds the largest exponent. Bad logits become neutral.
  void weigh() {
    if (!weigh_rows()) return;
    base::clean_logits();
    weigh_rows();
  }

  /// The same for logits as they are; whether there were bad ones among them.
  bool weigh_rows() {
    exponent_lane found{};
    each_register(width, [&](std::int64_t c) {
      exponent_lane most = exponent_lane{} + empty_exponent;
      compensated<lane> total{};
      scaled<lane> product{all_lanes<lane>(A(1)), exponent_lane{}};
      for (std::int64_t r = 0; r < rows; ++r) {
        lane x = load_lanes(logit.row(r) + c);
        found |= base::bad_logit(x);
        scaled<lane> w;
        if constexpr (Recurrence::kappa == kappa_of::complement)
          store_lanes(base::k_room.row(r) + c, one_minus_exponential(x));
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
        store_lanes(mantissa.row(r) + c, w.mantissa);
        store_exponents(exponent.row(r) + c, w.exponent);
        most = w.exponent > most ? w.exponent : most;
      }
      store_exponents(top + c, most);
    });
    if constexpr (Recurrence::kappa == kappa_of::complement) kappa = {base::k_room.data, base::k_room.stride};
    return base::any_lane(found);
  }

  /// Puts the chunk after what was carried to it: its frame, its weights in that frame, the running normaliser; and
  /// carries all but the state on.
  void enter(carry_type& carry) {
    if (any_poison) carry.bad.add(bad);
    if (carry.bad.any) bad.copy(carry.bad);
    enter_after(carry.exponent, carry.normaliser);
    if constexpr (sums) {
      std::copy_n(top, width, carry.exponent);
      std::copy_n(normaliser.row(rows - 1), width, carry.normaliser);
    } else {
      for (std::int64_t i = 0; i < width; ++i) carry.decay[i] *= keep[i];
    }
  }

  /// The same after m and Z, carrying nothing on.
  void enter_after(const exponent_type* m, const A* z) {
    std::copy_n(m, width, begin_frame);
    std::copy_n(z, width, begin_normaliser);
    for (std::int64_t i = 0; i < width; ++i) top[i] = std::max(top[i], begin_frame[i]);
    is_cut = cut();
    enter_frame(rows - 1, end_frame());
    each_register(width, [&](std::int64_t c) {  // a decay starts the next chunk in a new frame
      const lane by = sums ? all_lanes<lane>(A(1)) : reciprocal(load_lanes(normaliser.row(rows - 1) + c));
      store_lanes(gain + c, by);
      store_lanes(keep + c, by * load_lanes(rescale + c));
    });
  }

  /// The frame of the last run, in which the chunk joins the state. A decay that is not cut stays in that of its start.
  const exponent_type* end_frame() const { return sums || is_cut ? top : begin_frame; }

  /// Whether the frame of the last run differs from that of what was carried to the chunk.
  bool moved() const {
    return std::any_of(rescale, rescale + width, [](A by) { return by != A(1); });
  }

  /// Whether the chunk has to be cut into runs; then it knows the frame of every row.
  bool cut() {
    bool wide = false;
    for (std::int64_t i = 0; i < width; ++i) {
      wide |= top[i] - (begin_frame[i] == empty_exponent ? lowest_exponent(i, top[i]) : begin_frame[i]) > frame_range;
    }
    if (!wide) return false;
    const exponent_type* before = begin_frame;
    for (std::int64_t r = 0; r < rows; ++r) {
      exponent_type* const f = frame.row(r);
      for (std::int64_t i = 0; i < width; ++i) f[i] = std::max(exponent.row(r)[i], before[i]);
      before = f;
    }
    return true;
  }

  /// The last row of the run that starts at row `start` of a chunk that is cut.
  std::int64_t last_of_run(std::int64_t start) const {
    std::int64_t last = start;
    while (last + 1 < rows && !jumps(start, last + 1)) ++last;
    return last;
  }

  /// The weights of rows [0, last] in frame f, and their normaliser. It is summed exactly as `multiply` sums U, so values
  /// of 1 give U = Z to the bit.
  void enter_frame(std::int64_t last, const exponent_type* f) {
    each_register(width, [&](std::int64_t c) {
      const exponent_lane to = load_exponents(f + c);
      const lane by = lower_by_power_of_two(all_lanes<lane>(A(1)), load_exponents(begin_frame + c) - to);
      store_lanes(rescale + c, by);
      const lane before = by * load_lanes(begin_normaliser + c);
      lane sum{}, settled{};  // the weights of the segment at hand, and of those before it
      for (std::int64_t r = 0; r <= last; ++r) {
        const lane p = load_lanes(mantissa.row(r) + c);
        const exponent_lane n = load_exponents(exponent.row(r) + c) - to;
        lane w;
        if constexpr (sums) {
          w = lower_by_power_of_two(p, n);
          if (r % segment == 0) {
            settled += sum;
            sum = lane{};
          }
          sum += w;
          store_lanes(normaliser.row(r) + c, before + (settled + sum));
        } else {  // in the frame of the chunk's start the exponents of a decay are positive
          const exponent_lane up = n > 0 ? n : exponent_lane{}, down = n > 0 ? exponent_lane{} : n;
          w = lower_by_power_of_two(p, down) * raise(up);
        }
        store_lanes(weight.row(r) + c, w);
      }
    });
  }

  /// khat of rows [0, last].
  void enter_keys(std::int64_t last) {
    const tile<A>& factor = running ? normaliser : weight;
    if constexpr (!weights_are_keys) {
      each_register(keys, [&](std::int64_t c) {
        for (std::int64_t r = 0; r <= last; ++r) {
          const lane w = load_lanes(factor.row(r) + (Recurrence::per_channel ? c : 0));
          if constexpr (keyed) {
            store_lanes(plain_write.row(r) + c, load_lanes(kappa.row(r) + c) * w);
          } else {
            store_lanes(plain_write.row(r) + c, w);
          }
        }
      });
    }
    if constexpr (Position::encodes) {
      for (std::int64_t r = 0; r <= last; ++r) encode(plain_write, write, r);
    }
  }

  /// qhat of rows [start, last].
  void enter_queries(std::int64_t start, std::int64_t last) {
    const auto row = [&](std::int64_t r, std::int64_t c, const lane& by) {
      store_lanes(plain_read.row(r) + c, load_lanes(q.row(r) + c) * by);
    };
    each_register(width, [&](std::int64_t c) {
      for (std::int64_t r = start; r <= last; ++r) {
        const lane by = reciprocal(load_lanes(normaliser.row(r) + c));
        store_lanes(inverse.row(r) + c, by);
        if constexpr (Recurrence::per_channel) row(r, c, by);
      }
    });
    if constexpr (!Recurrence::per_channel) {
      each_register(keys, [&](std::int64_t c) {
        for (std::int64_t r = start; r <= last; ++r) row(r, c, load_lanes(inverse.row(r)));
      });
    }
    if constexpr (Position::encodes) {
      for (std::int64_t r = start; r <= last; ++r) encode(plain_read, read, r);
    }
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

  static exponent_lane load_exponents(const exponent_type* at) {
    exponent_lane value;
    std::memcpy(&value, at, sizeof value);
    return value;
  }
  static void store_exponents(exponent_type* at, const exponent_lane& value) { std::memcpy(at, &value, sizeof value); }

 private:
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

  /// The lowest exponent of weight i that is not empty; `none` where all are.
  exponent_type lowest_exponent(std::int64_t i, exponent_type none) const {
    exponent_type low = none;
    for (std::int64_t r = 0; r < rows; ++r) {
      const exponent_type n = exponent.row(r)[i];
      low = n != empty_exponent && n < low ? n : low;
    }
    return low;
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
