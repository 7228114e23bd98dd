// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/convert.hpp>
#include <lightnet/backend/cpu/recurrence_carry.hpp>
#include <lightnet/backend/cpu/row_fetcher.hpp>
#include <lightnet/core/concepts.hpp>
#include <lightnet/core/math.hpp>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// The rows of one chunk of one line and head, as a recurrence reads them: in the type of sums, in whole registers, what is
/// masked or past the end neutral, and what is bad taken out and remembered.
template <class Recurrence, class Position, int Dims, class T>
struct recurrence_rows {
  using arguments = recurrence_arguments<Recurrence, Dims, T, cpu>;
  using A = accumulator<T>;
  using lane = lanes<A>;
  using exponent_lane = exponent_of<lane>;
  static constexpr bool decays = Recurrence::weight == weight_of::inverse_decay;
  static constexpr bool keyed = Recurrence::kappa != kappa_of::one;
  static constexpr std::int64_t lane_width = lane_count<A>;
  static constexpr bool has_complement = Recurrence::kappa == kappa_of::complement;
  static constexpr bool has_sequence =
      Recurrence::logits == logits_from::keys || Recurrence::logits == logits_from::tokens;
  // What is read once is read in the type in which it is stored.
  using key_type = std::conditional_t<has_complement, A, T>;
  using logit_type = std::conditional_t<has_sequence && Recurrence::per_channel && !Recurrence::with_sign, T, A>;

  const arguments* from;
  recurrence_sizes size;
  std::int64_t rows, keys, stored, values, width;  // of the tiles: chunk, d, d', e and weights in whole registers

  token_line line{};
  std::int64_t h = 0, first = 0, count = 0;  // the head, where the chunk lies, and how many of its rows are tokens
  bool whole = false;                        // all rows are tokens, none is masked

  tile<const T> q;               // [rows, d], as read
  tile<const key_type> kappa;    // [rows, d]
  tile<const logit_type> logit;  // [rows, width]
  tile<T> q_room;                // and tiles for rows that cannot be read in place
  tile<key_type> k_room;
  tile<logit_type> logit_room;
  tile<A> v;                   // [rows, e], as read, bad entries being 0
  bool* on;                    // [rows]: a token that is not masked
  row_fetcher<Dims, T> fetch;  // of the rows after these
  bool any_poison = false;     // in this chunk
  poison bad;                  // in the chunks up to this one

  recurrence_rows(const arguments& a, execution<cpu>::scope& scratch, std::int64_t usual_rows, std::int64_t row_step)
      : from{&a},
        size{recurrence_sizes::of<Position, A>(a, usual_rows, row_step)},
        rows{size.rows},
        keys{size.keys},
        stored{size.stored},
        values{size.values},
        width{size.width},
        q_room{make<T>(scratch, keys)},
        k_room{make<key_type>(scratch, keyed ? keys : 0)},
        logit_room{make<logit_type>(scratch, width)},
        v{make<A>(scratch, values)},
        on{scratch.take<bool>(rows)},
        bad{scratch, values} {}

  std::int64_t token(std::int64_t row) const { return line.token(first + row); }

  /// Goes to chunk `index` of a line and head.
  void move_to(const token_line& of_line, std::int64_t head, std::int64_t index) {
    line = of_line;
    h = head;
    first = index * rows;
    count = std::min(rows, line.length - first);
    whole = count == rows;
    for (std::int64_t r = 0; r < rows; ++r) {
      on[r] = r < count && (!from->mask || from->mask(line.batch, token(r)));
      whole = whole && on[r];
    }
  }

  void load_queries() { q = source(from->q, q_room, T(0)); }

  /// Reads chunk `index`: q too where `with_queries`. Rows past the last token and masked ones are neutral, and so are
  /// bad entries, which are remembered.
  void load(const token_line& of_line, std::int64_t head, std::int64_t index, bool with_queries) {
    move_to(of_line, head, index);
    any_poison = false;
    bad.clear(line.length);
    if (with_queries) load_queries();
    if constexpr (Recurrence::kappa == kappa_of::key) kappa = source(from->k, k_room, T(0));
    if constexpr (Recurrence::logits == logits_from::keys) logit = source(from->k, logit_room, neutral_logit());
    if constexpr (Recurrence::logits == logits_from::tokens) logit = source(from->logits, logit_room, neutral_logit());
    load_values();
    if constexpr (Recurrence::logits == logits_from::head || Recurrence::logits == logits_from::none) {
      A number = A(0);
      if constexpr (Recurrence::logits == logits_from::head) number = from->head_logits(h);
      for (std::int64_t r = 0; r < rows; ++r) std::fill_n(logit_room.row(r), width, on[r] ? number : neutral_logit());
      logit = {logit_room.data, width};
    } else if constexpr (!Recurrence::per_channel) {
      for (std::int64_t r = 0; r < rows; ++r) std::fill_n(logit_room.row(r), width, logit.row(r)[0]);
      logit = {logit_room.data, width};
    }
  }

  /// Makes bad logits neutral, and remembers the first.
  void clean_logits() {
    any_poison = bad.any = true;
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t i = 0; i < width; ++i) {
        auto x = static_cast<A>(logit.row(r)[i]);
        if (any_lane(bad_logit(all_lanes<lane>(x)))) {
          bad.token = std::min(bad.token, first + r);
          x = static_cast<A>(neutral_logit());
        }
        logit_room.row(r)[i] = static_cast<logit_type>(x);
      }
    }
    logit = {logit_room.data, logit_room.stride};
  }

  /// Reads the rows of a sequence into a tile; rows that are off become `neutral`, and so does the padding. Calls see(row) for
  /// every row of the tile.
  template <class U, class Sequence, class See>
  void copy_rows(const Sequence& sequence, const tile<U>& to, U neutral, const See& see) const {
    const std::int64_t channels = sequence.channels(), stride = sequence.channel_stride();
    for (std::int64_t r = 0; r < rows; ++r) {
      U* const row = to.row(r);
      std::int64_t i = 0;
      if (on[r]) {
        const auto* const from_row = sequence.token(line.batch, h, token(r));
        if (stride == 1) {
          copy_dense(from_row, row, channels);
          i = channels;
        } else {
          for (; i < channels; ++i) row[i] = static_cast<U>(static_cast<A>(from_row[i * stride]));
        }
      }
      for (; i < to.stride; ++i) row[i] = neutral;
      see(row);
    }
  }
  template <class U, class Sequence>
  void copy_rows(const Sequence& sequence, const tile<U>& to, U neutral) const {
    copy_rows(sequence, to, neutral, [](const U*) {});
  }

  /// Copies dense numbers from one storage type to another.
  template <class U, class W>
  static void copy_dense(const U* source_row, W* to, std::int64_t channels) {
    std::int64_t i = 0;
    if constexpr (std::is_same_v<U, A> && std::is_same_v<W, A>) {
      for (; i + lane_width <= channels; i += lane_width) store_lanes(to + i, load_lanes(source_row + i));
    }
    convert(source_row + i, to + i, channels - i);
  }

  /// Calls body(column) for every register of a row.
  template <class Body>
  static void each_register(std::int64_t columns, const Body& body) {
    for (std::int64_t c = 0; c < columns; c += lane_width) body(c);
  }

  /// Whether the rows of a sequence lie like those of a tile of so many columns: all there, dense and evenly spaced.
  template <class Sequence>
  bool lies_as(const Sequence& sequence, std::int64_t columns) const {
    std::int64_t step = 0;
    return whole && sequence && sequence.channels() == columns && sequence.channel_stride() == 1 &&
           sequence.evenly_spaced(step);
  }
  /// Those rows.
  template <class Sequence>
  auto in_place(const Sequence& sequence) const {
    std::int64_t step = 0;
    sequence.evenly_spaced(step);
    auto* const rows_of = sequence.token(line.batch, h, token(0));
    return tile<std::remove_pointer_t<decltype(rows_of)>>{rows_of, step * line.step};
  }

  static exponent_lane bad_logit(const lane& x) {
    if constexpr (!decays) {
      return ~(x < all_lanes<lane>(std::numeric_limits<A>::infinity()));
    } else if constexpr (Recurrence::with_sign) {
      const lane one = all_lanes<lane>(A(1));
      return ~((x <= one) & (x >= -one));
    } else {
      return ~(x <= lane{});
    }
  }

  template <class U>
  tile<U> make(execution<cpu>::scope& scratch, std::int64_t columns) const {
    return {scratch.take<U>(rows * columns), columns};
  }

 private:
  /// What a token that is not there has: no weight, or no decay.
  static logit_type neutral_logit() {
    return static_cast<logit_type>(!decays ? -std::numeric_limits<A>::infinity() : Recurrence::with_sign ? A(1) : A(0));
  }

  /// The rows of a sequence: in place, where they can be read as they are, or copied.
  template <class U, class Sequence>
  tile<const U> source(const Sequence& sequence, const tile<U>& room, U neutral) const {
    if constexpr (std::is_same_v<U, T>) {
      if (lies_as(sequence, room.stride)) return in_place(sequence);
    }
    copy_rows(sequence, room, neutral);
    return {room.data, room.stride};
  }

  /// Reads the values, makes bad ones zero and remembers the first of each column.
  void load_values() {
    exponent_lane found{};
    copy_rows(from->v, v, A(0), [&](const A* row) {
      each_register(values, [&](std::int64_t c) {
        const lane x = load_lanes(row + c);
        found |= (exponent_lane)(x - x);  // 0, or NaN where x is bad
      });
    });
    if (!any_lane(found)) return;
    any_poison = bad.any = true;
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t j = 0; j < from->values; ++j) {
        A& x = v.row(r)[j];
        if (x < std::numeric_limits<A>::infinity() && x > -std::numeric_limits<A>::infinity()) continue;
        x = A(0);
        bad.column[j] = std::min(bad.column[j], first + r);
      }
    }
  }
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
