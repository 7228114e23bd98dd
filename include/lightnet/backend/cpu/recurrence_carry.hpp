// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/parallel.hpp>
#include <lightnet/backend/cpu/tile.hpp>
#include <lightnet/backend/recurrence_arguments.hpp>
#include <lightnet/core/math.hpp>

#include <algorithm>
#include <utility>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// More rows than this would only make the triangle of a chunk larger, and its sums longer.
inline constexpr std::int64_t most_rows = 256;

/// The sizes of the tiles of a recurrence, in whole registers where they are the length of a row.
struct recurrence_sizes {
  std::int64_t rows, keys, stored, values, width;  // chunk, d, d', e and the weights of a token
  std::int64_t longest;                            // tokens of the longest line
  bool in_steps;                                   // chunks are multiples of what the processor multiplies at once

  /// `usual` rows where the arguments do not say how many; lines that are shorter have fewer, in multiples of `step` where
  /// what is wanted is one: the lengths of the other lines must not change how a line is computed.
  template <class Position, class A, class Arguments>
  static recurrence_sizes of(const Arguments& a, std::int64_t usual, std::int64_t step) {
    const std::int64_t longest = a.lines.longest(), wanted = a.chunk > 0 ? std::min(a.chunk, most_rows) : usual;
    const std::int64_t multiple = wanted % step == 0 ? step : 1;
    return {std::clamp<std::int64_t>((longest + multiple - 1) / multiple * multiple, 1, wanted),
            whole_lanes<A>(a.keys),
            Position::encodes ? whole_lanes<A>(a.stored_keys) : whole_lanes<A>(a.keys),
            whole_lanes<A>(a.values),
            whole_lanes<A>(a.weights()),
            longest,
            multiple > 1};
  }
  std::int64_t chunks(std::int64_t length) const { return (length + rows - 1) / rows; }
};

/// From which token on the outputs of a line are NaN: all columns of them, and each column. Counted along the line.
struct poison {
  std::int64_t token = 0;
  std::int64_t* column;  // [e]
  std::int64_t columns;
  bool any = false;

  poison(execution<cpu>::scope& scratch, std::int64_t count)
      : column{scratch.take<std::int64_t>(count)}, columns{count} {}

  void clear(std::int64_t length) {
    if (!any && token == length) return;  // nothing came since the last time
    any = false;
    token = length;
    std::fill_n(column, columns, length);
  }
  void add(const poison& other) {
    any = any || other.any;
    token = std::min(token, other.token);
    for (std::int64_t j = 0; j < columns; ++j) column[j] = std::min(column[j], other.column[j]);
  }
  void copy(const poison& other) {
    any = other.any;
    token = other.token;
    std::copy_n(other.column, columns, column);
  }
  bool reaches(std::int64_t at, std::int64_t j) const { return at >= token || at >= column[j]; }
};

/// A place that the turns of a line pass one after another, whichever threads bring them.
class alignas(cpu::alignment) turnstile {
 public:
  void open() { next_.store(0, std::memory_order_relaxed); }
  /// Calls body() after all turns before this one.
  template <class Body>
  void pass(std::int64_t turn, const Body& body) {
    for (int spins = 0; next_.load(std::memory_order_acquire) != turn; ++spins) {
      if (spins > 1000) std::this_thread::yield();
    }
    body();
    next_.store(turn + 1, std::memory_order_release);
  }

 private:
  std::atomic<std::int64_t> next_{0};
};

/// What the chunks of a line hand on: the normaliser (m, Z), the state, and what was bad. `transposed` states are
/// [e, d'], so that factors a channel run along registers.
template <class A>
struct recurrence_carry {
  using exponent_type = typename binary<A>::bits;

  recurrence_sizes size;
  exponent_type* exponent;  // [width] m
  A *normaliser, *decay;    // [width] Z; the product of the decays
  tile<A> state, input;     // U or S; X where it is asked for
  poison bad;
  turnstile normaliser_turn, state_turn, parts_turn;

  recurrence_carry(const recurrence_sizes& sizes, execution<cpu>::scope& scratch, bool transposed, bool with_input)
      : size{sizes},
        exponent{scratch.take<exponent_type>(sizes.width)},
        normaliser{scratch.take<A>(sizes.width)},
        decay{scratch.take<A>(sizes.width)},
        state{make(scratch, transposed)},
        input{with_input ? make(scratch, transposed) : tile<A>{nullptr, 0}},
        bad{scratch, sizes.values} {}

  /// What the next chunk reads of a carry.
  static std::int64_t bytes(const recurrence_sizes& sizes) {
    return sizes.stored * sizes.values * static_cast<std::int64_t>(sizeof(A));
  }

  tile<A> make(execution<cpu>::scope& scratch, bool transposed) const {
    return {scratch.take<A>(size.stored * size.values), transposed ? size.stored : size.values};
  }

  void open() {
    normaliser_turn.open();
    state_turn.open();
    parts_turn.open();
  }
};

/// Chunks [first, first + count) of a line, which one thread takes.
struct chunk_turn {
  std::int64_t number, first, count;
};

enum class direction { onward, back };

/// Who works on the chunks of a line: one thread alone, chunk after chunk, or all threads together, in turns of several
/// chunks. A chunk's bits are the same either way.
template <class Walk>
struct crew {
  Walk* walks;                               // `span` for each thread, one for each chunk of a turn
  const execution<cpu>* together = nullptr;  // null: walks[0] alone
  std::int64_t span = 1;

  bool shared() const { return together != nullptr; }
  std::int64_t threads() const { return shared() ? together->threads() : 1; }
  /// How far a thread's next turn lies from this one, in chunks.
  std::int64_t step() const { return threads() * span; }

  /// Calls body(walks, turn) for all turns, whose numbers count in the direction in which they are begun. A thread has the
  /// same chunks in both directions, so that it finds in its caches what it left there.
  template <class Body>
  void each_turn(std::int64_t chunks, direction way, const Body& body) const {
    // About as many chunks in every turn, and as many turns for every thread.
    const std::int64_t turns = std::min(block_range::blocks(step(), chunks) * threads(), chunks);
    const auto take_turns = [&](std::int64_t thread, std::int64_t threads) {
      for (std::int64_t turn = 0; turn < turns; ++turn) {
        const std::int64_t part = way == direction::onward ? turn : turns - 1 - turn;
        if (part % threads != thread) continue;
        const std::int64_t first = part * chunks / turns;
        body(walks + thread * span, chunk_turn{turn, first, (part + 1) * chunks / turns - first});
      }
    };
    shared() ? parallel_team(*together, take_turns) : take_turns(0, 1);
  }
};

/// Some heads of one line, whose chunks are taken in turns, so that memory is read in the order in which it lies.
template <class Carry>
struct head_group {
  std::int64_t line_index, first, count;
  Carry* carries;  // one for each head

  /// The head and the chunk that come after `head` and chunk `index`.
  std::pair<std::int64_t, std::int64_t> after(std::int64_t head, std::int64_t index, std::int64_t step) const {
    return head + 1 < first + count ? std::pair{head + 1, index} : std::pair{first, index + step};
  }

  const Carry& carry_of(std::int64_t head) const { return carries[head - first]; }

  /// Calls body(head, carry) for every head.
  template <class Body>
  void each(const Body& body) const {
    for (std::int64_t i = 0; i < count; ++i) body(first + i, carries[i]);
  }
};

/// How many heads a thread takes together: as many as leave work for all threads, and whose carries fit a cache.
inline std::int64_t heads_of_group(std::int64_t lines, std::int64_t heads, std::int64_t threads, std::int64_t bytes) {
  constexpr std::int64_t cache = std::int64_t{1} << 20;
  std::int64_t parts = std::min(heads, (heads * bytes + cache - 1) / cache);  // groups of a line
  while (parts < heads && (lines * parts < threads || (lines * parts < 4 * threads && lines * parts % threads != 0))) {
    ++parts;
  }
  return (heads + parts - 1) / std::max<std::int64_t>(parts, 1);
}

inline constexpr std::int64_t most_chunks = 4;  // of a turn

/// How many chunks a thread takes in a turn: the state comes from the cache of another thread once for all of them. As many
/// as leave some turns for every thread, and fit a cache with `bytes` each.
inline std::int64_t chunks_of_turn(std::int64_t chunks, std::int64_t threads, std::int64_t bytes) {
  constexpr std::int64_t cache = std::int64_t{3} << 18;
  return std::max<std::int64_t>(std::min({most_chunks, chunks / (4 * threads), cache / bytes}), 1);
}

/// Calls visit(heads, team) for every line and group of heads. Groups go to threads one each, but where there are too few
/// heads to keep all threads busy and lines are long, all threads work on one head, if they may.
template <class Walk, class Carry, class Arguments, class Visit>
void for_each_line(execution<cpu>& on, const Arguments& arguments, bool with_input, bool may_share,
                   const Visit& visit) {
  execution<cpu>::scope scratch{on};
  const std::int64_t lines = arguments.lines.count(), heads = arguments.heads, items = lines * heads;
  const std::int64_t threads = on.threads();
  Walk* const walks = scratch.take<Walk>(threads * most_chunks);
  ::new (walks) Walk(arguments, scratch);
  const recurrence_sizes& size = walks[0].size;
  const std::int64_t chunks = size.chunks(size.longest);
  const bool together =
      may_share && threads > 1 && items < 4 * threads && items % threads != 0 && chunks >= 4 * threads;
  const std::int64_t span = together ? chunks_of_turn(chunks, threads, Walk::bytes(size)) : 1;
  for (std::int64_t i = 1; i < threads * span; ++i) ::new (walks + i) Walk(arguments, scratch);
  const std::int64_t group = together ? 1 : heads_of_group(lines, heads, threads, Carry::bytes(size));
  const std::int64_t groups = group > 0 ? (heads + group - 1) / group : 0;
  const std::int64_t teams = together ? 1 : std::min(threads, lines * groups);
  Carry* const carries = scratch.take<Carry>(teams * group);
  for (std::int64_t i = 0; i < teams * group; ++i) ::new (carries + i) Carry(size, scratch, arguments, with_input);
  const auto visit_item = [&](std::int64_t item, const crew<Walk>& team, Carry* own) {
    const std::int64_t first = item % groups * group;
    visit(head_group<Carry>{item / groups, first, std::min(group, heads - first), own}, team);
  };
  if (together) {
    for (std::int64_t item = 0; item < items; ++item) visit_item(item, crew<Walk>{walks, &on, span}, carries);
  } else {
    parallel_for(on, lines * groups, [&](std::int64_t item, int thread) {
      visit_item(item, crew<Walk>{walks + thread}, carries + thread * group);
    });
  }
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
