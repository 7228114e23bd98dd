// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/execution.hpp>
#include <lightnet/backend/cpu/tile.hpp>
#include <lightnet/backend/linear_recurrence.hpp>
#include <lightnet/core/concepts.hpp>
#include <lightnet/core/math.hpp>

#include <algorithm>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Frames within one run of rows stay this close: 64 / ln 2, so that nothing overflows in float or bfloat16 range.
inline constexpr std::int32_t frame_range = 92;

/// More rows than this would only make the triangle of a chunk larger, and its sums longer.
inline constexpr std::int64_t most_rows = 256;

/// One chunk of one sequence and head, in the scratch memory of a thread: what it reads, and the factors
///   khat_s = kappa_s w_s 2^-f,   qhat_t = q_t / (Z_t 2^-f)
/// of its matrix products in a frame f, a power of two a channel.
///
/// Frames are exact, so they change no bit; what they buy is that no factor overflows. A chunk whose running frame
/// climbs by more than `frame_range` is cut into runs of rows, each evaluated in the frame of its own last row.
template <class Recurrence, class Position, int Dims, class T>
struct recurrence_tile {
  using arguments = recurrence_arguments<Recurrence, Dims, T, cpu>;
  static constexpr bool sums = Recurrence::normaliser == normaliser_of::sum;

  const arguments* from;
  std::int64_t rows, keys, stored, values;  // of the chunk, padded: d, d', e in whole registers
  std::int64_t b, h, first, count;          // where the chunk lies; count rows of it are tokens

  tile<T> q, kappa, v;                 // [rows, d], [rows, d], [rows, e], as read
  tile<T> mantissa, weight, inverse;   // [rows, d]: w = mantissa 2^exponent, w 2^-f, 1 / (Z 2^-f)
  tile<std::int32_t> exponent, frame;  // [rows, d]; frame: the largest exponent so far
  tile<T> read, write;                 // [rows, d']: qhat and khat, encoded
  tile<T> plain_read, plain_write;     // [rows, d]: the same before the encoding
  std::int32_t* carried_exponent;      // [d] m and
  T* carried_normaliser;               // [d] Z at the chunk's start
  T* rescale;                          // [d] 2^(m - f)
  T* running;                          // [d] sums along the rows: of log decays, and of weights
  T* running_error;                    // [d] the rounding error of the first
  T* settled;                          // [d] of the second, the segments before the one at hand
  bool* on;                            // [rows]: a token that is not masked
  std::int64_t poisoned;               // the first token with a bad logit, or `tokens`
  std::int64_t* poisoned_column;       // [e]: the first token with a bad value, or `tokens`
  bool any_poison;

  recurrence_tile(const arguments& a, execution<cpu>::scope& scratch)
      : from{&a},
        rows{std::clamp<std::int64_t>(a.tokens, 1, std::min(a.chunk, most_rows))},
        keys{whole_lanes<T>(a.keys)},
        stored{Position::encodes ? whole_lanes<T>(a.stored_keys) : whole_lanes<T>(a.keys)},
        values{whole_lanes<T>(a.values)},
        q{make<T>(scratch, keys)},
        kappa{make<T>(scratch, Recurrence::keyed ? keys : 0)},
        v{make<T>(scratch, values)},
        mantissa{make<T>(scratch, keys)},
        weight{make<T>(scratch, keys)},
        inverse{make<T>(scratch, keys)},
        exponent{make<std::int32_t>(scratch, keys)},
        frame{make<std::int32_t>(scratch, keys)},
        read{make<T>(scratch, stored)},
        write{make<T>(scratch, stored)},
        plain_read{Position::encodes ? make<T>(scratch, keys) : read},
        plain_write{Position::encodes ? make<T>(scratch, keys) : write},
        carried_exponent{scratch.take<std::int32_t>(keys)},
        carried_normaliser{scratch.take<T>(keys)},
        rescale{scratch.take<T>(keys)},
        running{scratch.take<T>(keys)},
        running_error{scratch.take<T>(keys)},
        settled{scratch.take<T>(keys)},
        on{scratch.take<bool>(rows)},
        poisoned_column{scratch.take<std::int64_t>(values)} {
    std::fill_n(read.data, rows * stored, T(0));  // the padding beyond d' stays zero
    std::fill_n(write.data, rows * stored, T(0));
  }

  std::int64_t chunks() const { return (from->tokens + rows - 1) / rows; }

  /// Begins a sequence and head: the normaliser before its first token, from the initial state where there is one.
  void begin(std::int64_t batch, std::int64_t head) {
    b = batch;
    h = head;
    poisoned = from->tokens;
    std::fill_n(poisoned_column, values, from->tokens);
    any_poison = false;
    restart(Recurrence::sink ? 0 : empty_exponent, Recurrence::sink ? T(1) : T(0));
    if constexpr (Recurrence::framed) {
      if (from->state) {
        for (std::int64_t i = 0; i < from->keys; ++i) {
          carried_exponent[i] = std::max(from->state.exponent(b, h, i), empty_exponent);
          carried_normaliser[i] = carried_exponent[i] == empty_exponent ? T(0) : from->state.normaliser(b, h, i);
        }
      }
    } else {
      restart(0, T(1));
    }
  }

  void restart(std::int32_t m, T normaliser) {
    std::fill_n(carried_exponent, keys, m);
    std::fill_n(carried_normaliser, keys, normaliser);
  }

  std::int64_t token(std::int64_t row) const { return from->reversed ? from->tokens - 1 - (first + row) : first + row; }

  /// Reads chunk `index`: q too where `with_queries`. Rows past the last token and masked ones are neutral, and so are
  /// bad entries, which are remembered.
  void load(std::int64_t index, bool with_queries) {
    first = index * rows;
    count = std::min(rows, from->tokens - first);
    for (std::int64_t r = 0; r < rows; ++r) {
      on[r] = r < count && (!from->mask || from->mask(b, token(r)));
      if (with_queries) load_row(from->q, r, q, from->keys, T(0));
      load_row(from->v, r, v, from->values, T(0));
      if constexpr (Recurrence::keyed) load_row(from->k, r, kappa, from->keys, T(0));
      // mantissa holds the logits until `weigh`
      if constexpr (Recurrence::logits == logits_from::keys) {
        load_row(from->k, r, mantissa, from->keys, -std::numeric_limits<T>::infinity());
      } else {
        T logit = T(0);
        if constexpr (Recurrence::logits == logits_from::head) logit = from->log_decay(h);
        if (!on[r]) logit = Recurrence::weight == weight_of::exponential ? -std::numeric_limits<T>::infinity() : T(0);
        std::fill_n(mantissa.row(r), keys, logit);
      }
    }
    if constexpr (Recurrence::logits == logits_from::keys) {
      clean(mantissa, from->keys, -std::numeric_limits<T>::infinity(), false,
            [this](std::int64_t r, std::int64_t) { poisoned = std::min(poisoned, first + r); });
    }
    clean(v, from->values, T(0), true, [this](std::int64_t r, std::int64_t column) {
      poisoned_column[column] = std::min(poisoned_column[column], first + r);
    });
  }

  /// Turns logits into weights, mantissa 2^exponent, and walks the frame down the rows.
  void weigh() {
    std::fill_n(running, keys, T(0));
    std::fill_n(running_error, keys, T(0));
    const std::int32_t* before = carried_exponent;
    for (std::int64_t r = 0; r < rows; ++r) {
      T* const p = mantissa.row(r);
      std::int32_t* const n = exponent.row(r);
      std::int32_t* const f = frame.row(r);
      LIGHTNET_OMP(omp simd)
      for (std::int64_t i = 0; i < keys; ++i) {
        compensated<T> logit{p[i], T(0)};
        if constexpr (Recurrence::weight == weight_of::inverse_decay) {
          constexpr T least = T(-1e5);  // e^-1e5 is zero in every type, and sums of it keep their digits
          logit = compensated<T>{running[i], running_error[i]}.plus(-(p[i] < least ? least : p[i]));
          running[i] = logit.sum;
          running_error[i] = logit.error;
        }
        const scaled<T> w = scaled_exponential(logit.sum, logit.error);
        p[i] = w.mantissa;
        n[i] = w.exponent;
        f[i] = n[i] > before[i] ? n[i] : before[i];
      }
      before = f;
    }
  }

  /// The last row of the run that starts at row `start`.
  std::int64_t last_of_run(std::int64_t start) const {
    if (start == 0 && !jumps(0, rows - 1, true)) return rows - 1;
    std::int64_t last = start;
    while (last + 1 < rows && !jumps(start, last + 1, false)) ++last;
    return last;
  }

  /// The factors of rows [start, last] in the frame of `last`, and the weights of all rows up to it. The normaliser is
  /// summed exactly as `multiply` sums U, so values of 1 give U = Z to the bit.
  void enter_run(std::int64_t start, std::int64_t last) {
    const std::int32_t* const f = frame.row(last);
    LIGHTNET_OMP(omp simd)
    for (std::int64_t i = 0; i < keys; ++i) {
      rescale[i] = scale_by_power_of_two(T(1), carried_exponent[i] - f[i]);
      running[i] = T(0);
      settled[i] = T(0);
    }
    for (std::int64_t r = 0; r <= last; ++r) {
      weigh_row(r, f);
      encode(plain_write, write, r);
      if constexpr (sums) {
        const T* const w = weight.row(r);
        const bool settle = r % segment == 0;
        LIGHTNET_OMP(omp simd)
        for (std::int64_t i = 0; i < keys; ++i) {
          settled[i] += settle ? running[i] : T(0);
          running[i] = (settle ? T(0) : running[i]) + w[i];
        }
      }
      if (r >= start) enter_query(r);
    }
  }

  /// qhat of row r: its query over the normaliser so far.
  void enter_query(std::int64_t r) {
    T* const z = inverse.row(r);
    T* const to = plain_read.row(r);
    const T* const w = weight.row(r);
    const T* const query = q.row(r);
    LIGHTNET_OMP(omp simd)
    for (std::int64_t i = 0; i < keys; ++i) {
      z[i] = reciprocal(sums ? normaliser(i) : w[i]);
      to[i] = query[i] * z[i];
    }
    encode(plain_read, read, r);
  }

  /// Z of channel i at the row that was entered last.
  T normaliser(std::int64_t i) const { return rescale[i] * carried_normaliser[i] + (settled[i] + running[i]); }

  /// The weight of one row in frame f, and kappa times it.
  void weigh_row(std::int64_t r, const std::int32_t* f) {
    T* const w = weight.row(r);
    T* const to = plain_write.row(r);
    const T* const p = mantissa.row(r);
    const std::int32_t* const n = exponent.row(r);
    LIGHTNET_OMP(omp simd)
    for (std::int64_t i = 0; i < keys; ++i) w[i] = scale_by_power_of_two(p[i], n[i] - f[i]);
    if constexpr (Recurrence::keyed) {
      for (std::int64_t i = 0; i < keys; ++i) to[i] = kappa.row(r)[i] * w[i];
    } else {
      for (std::int64_t i = 0; i < keys; ++i) to[i] = w[i];
    }
  }

  /// Leaves the chunk whose last run was entered last: m and Z at its end.
  void leave() {
    const std::int32_t* const f = frame.row(rows - 1);
    for (std::int64_t i = 0; i < keys; ++i) {
      carried_exponent[i] = f[i];
      if constexpr (sums) {
        carried_normaliser[i] = normaliser(i);
      } else {
        carried_normaliser[i] = weight.row(rows - 1)[i];
      }
    }
  }

  void encode(const tile<T>& plain, const tile<T>& encoded, std::int64_t r) const {
    if constexpr (Position::encodes) {
      Position::apply(plain.row(r), encoded.row(r), cosine(r), sine(r), from->keys, from->cosine.extent(2));
    }
  }
  const T* cosine(std::int64_t r) const { return table(from->cosine, r); }
  const T* sine(std::int64_t r) const { return table(from->sine, r); }

  static T reciprocal(T z) { return z == T(0) ? T(0) : T(1) / (z == T(0) ? T(1) : z); }

  /// Reads row r of a sequence into a tile; a row that is off becomes `neutral`, and so does the padding.
  void load_row(const head_sequence<Dims, const T, cpu>& sequence, std::int64_t r, const tile<T>& to,
                std::int64_t channels, T neutral) const {
    T* const row = to.row(r);
    std::int64_t i = 0;
    if (on[r]) {
      const T* const source = sequence.token(b, h, token(r));
      const std::int64_t stride = sequence.channel_stride();
      if (stride == 1) {
        for (; i < channels; ++i) row[i] = source[i];
      } else {
        for (; i < channels; ++i) row[i] = source[i * stride];
      }
    }
    for (; i < to.stride; ++i) row[i] = neutral;
  }

 private:
  template <class U>
  tile<U> make(execution<cpu>::scope& scratch, std::int64_t columns) const {
    return {scratch.take<U>(rows * columns), columns};
  }

  const T* table(const dynamic_view<3, const T, cpu>& angles, std::int64_t r) const {
    const std::int64_t head = angles.extent(0) == 1 ? 0 : h;
    return angles.data() + head * angles.stride(0) + (r < count ? token(r) : 0) * angles.stride(1);
  }

  /// Whether the frame of row `last` is too far from the frame at the start: of the chunk where `whole`, else of row
  /// `start`. An empty channel counts from its first key.
  bool jumps(std::int64_t start, std::int64_t last, bool whole) const {
    const std::int32_t* const end = frame.row(last);
    const std::int32_t* const begin = whole ? carried_exponent : frame.row(start);
    bool wide = false;
    for (std::int64_t i = 0; i < keys; ++i) wide |= end[i] - begin[i] > frame_range;
    if (!wide) return false;
    for (std::int64_t i = 0; i < keys; ++i) {
      std::int32_t from_frame = begin[i];
      for (std::int64_t r = start; from_frame == empty_exponent && r <= last; ++r) from_frame = frame.row(r)[i];
      if (!(end[i] - from_frame <= frame_range)) return true;
    }
    return false;
  }

  template <class Remember>
  void clean(const tile<T>& t, std::int64_t columns, T neutral, bool negative_too, const Remember& remember) {
    const T infinity = std::numeric_limits<T>::infinity();
    bool bad = false;
    for (std::int64_t r = 0; r < rows; ++r) {
      const T* const row = t.row(r);
      int bad_row = 0;
      LIGHTNET_OMP(omp simd reduction(| : bad_row))
      for (std::int64_t i = 0; i < columns; ++i) {
        bad_row |= !(row[i] < infinity) || (negative_too && row[i] == -infinity);
      }
      bad |= bad_row != 0;
    }
    if (!bad) return;
    any_poison = true;
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t i = 0; i < columns; ++i) {
        T& x = t.row(r)[i];
        if (x < infinity && !(negative_too && x == -infinity)) continue;
        x = neutral;
        remember(r, i);
      }
    }
  }
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
