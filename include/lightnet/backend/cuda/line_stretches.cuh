// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/line_states.cuh>

#include <algorithm>
#include <climits>
#include <limits>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Where lines keep something for every `tokens` of theirs: those of a head one line after another. Each packed sequence may
/// leave one place empty. Where only lines of more than 2 `tokens` keep something (`long_alone`), three places for 2 `tokens`
/// of all lines are enough, however many short ones there are.
struct places_of_lines {
  std::int64_t tokens = 1, heads = 1, of_line = 0, all = 0;  // places of the longest line, and of a head
  bool packed = false, long_alone = false;

  template <class Job>
  static places_of_lines of(const Job& job, std::int64_t tokens, bool long_alone = false) {
    const auto& lines = job.from.lines;
    places_of_lines made;
    made.tokens = tokens;
    made.heads = job.from.heads;
    made.of_line = (lines.longest() + tokens - 1) / tokens;
    made.packed = static_cast<bool>(lines.cumulative_lengths);
    made.long_alone = long_alone;
    made.all = !made.packed ? lines.count() * made.of_line
               : long_alone ? 3 * lines.longest() / (2 * tokens)
                            : lines.longest() / tokens + lines.sequences();
    return made;
  }

  /// Those of all heads.
  std::int64_t count() const noexcept { return heads * all; }
  /// That of a line among those of its head, and among all.
  __device__ std::int64_t of_head(const line_of_head& at, std::int64_t index) const {
    const std::int64_t first = !packed      ? at.item / heads * of_line
                               : long_alone ? 3 * at.line.origin / (2 * tokens)
                                            : at.line.origin / tokens + at.line.sequence;
    return first + index;
  }
  /// Lines that keep but one thing each keep it in the order of items.
  __device__ std::int64_t operator()(const line_of_head& at, std::int64_t index) const {
    return one_a_line() ? at.item : at.head * all + of_head(at, index);
  }
  LIGHTNET_HOST_DEVICE bool one_a_line() const noexcept { return of_line == 1 && !packed; }
};

/// The part of a line and head that a block walks.
struct walked_line {
  line_of_head at;
  int begin, length;   // positions [begin, length)
  std::int64_t place;  // of the stretch
  bool exists, ends;   // there is such a stretch; it is the last of its line

  __device__ int tiles() const { return length > begin ? (length - begin - 1) / 64 + 1 : 0; }
};

/// How the lines of a walk are cut, so that few of them keep all of a GPU busy: those of more than `uncut` tokens into
/// stretches. The length of a line alone decides: it has the same bits whatever lies beside it.
struct line_stretches {
  places_of_lines places;
  std::int64_t uncut = 0, blocks_of_line = 1;
  std::int64_t left_out = 0;  // of the stretches of a line, so many at its end are not walked
  // Lines of other lengths are left alone.
  std::int64_t least = 0, most = std::numeric_limits<std::int64_t>::max();

  /// A stretch a line.
  template <class Job>
  static line_stretches none(const Job& job) {
    const std::int64_t longest = std::max<std::int64_t>(job.from.lines.longest(), 1);
    return {places_of_lines::of(job, longest), longest};
  }
  /// All lines in stretches of so many tokens, or those of more than `uncut`, at least twice as many.
  template <class Job>
  static line_stretches of(const Job& job, std::int64_t tokens, std::int64_t uncut = -1) {
    if (job.from.lines.longest() <= uncut) return none(job);
    const auto places = places_of_lines::of(job, tokens, uncut >= 2 * tokens);
    return {places, uncut, places.of_line};
  }

  __device__ bool cuts(const line_of_head& at) const { return at.line.length > uncut; }
  __device__ std::int64_t count(const line_of_head& at) const {
    return cuts(at) ? (at.line.length + places.tokens - 1) / places.tokens : 1;
  }
  /// That of a block of a line.
  __device__ walked_line stretch(const line_of_head& at, std::int64_t index) const {
    const std::int64_t begin = index * places.tokens, stretches = count(at);
    const std::int64_t end =
        cuts(at) && at.line.length > begin + places.tokens ? begin + places.tokens : at.line.length;
    return {.at = at,
            .begin = static_cast<int>(begin),
            .length = static_cast<int>(end),
            .place = places(at, index),
            .exists = index < stretches - left_out && at.line.length >= least && at.line.length <= most,
            .ends = index + 1 == stretches};
  }
};

/// That of this block; where lines are cut, one that reads its state begins with what the line has come to.
template <bool Reads, class Job>
__device__ walked_line walked_line_of_block(const Job& job, const line_stretches& stretches) {
  const std::int64_t index = blockIdx.x % stretches.blocks_of_line;
  walked_line line = stretches.stretch(job.line(blockIdx.x / stretches.blocks_of_line), index);
  if (Reads && stretches.cuts(line.at)) line.at.between = stretches.places.of_head(line.at, index);
  return line;
}

// Where something is bad in a line: the positions from which it is NaN, INT_MAX for never. Stretches tell each other.

template <class Job>
__device__ void tell_bad_token(const Job& job, const line_of_head& at, int position) {
  if (position == INT_MAX) return;
  atomicMin(job.bad_token + at.item, static_cast<unsigned long long>(position));
  job.tell_bad_line(at);
}
template <class Job>
__device__ void tell_bad_column(const Job& job, const line_of_head& at, std::int64_t column, int position) {
  if (position == INT_MAX || column >= job.from.values) return;
  atomicMin(job.bad_column + at.item * job.from.values + column, static_cast<unsigned long long>(position));
  job.tell_bad_line(at);
}
/// What other stretches have told, if that is `wanted`. Without branches that threads take differently: after such ones the
/// compiler keeps what all threads share in registers of each.
template <class Job>
struct bad_before {
  const Job& job;
  const line_of_head& at;
  bool wanted;

  __device__ bad_before(const Job& of, const line_of_head& line, bool is_wanted)
      : job{of}, at{line}, wanted{is_wanted && of.poisoned != nullptr && of.from.values > 0} {}
  __device__ bool any() const { return wanted ? job.poisoned[at.item] != 0 : false; }
  __device__ int token() const { return wanted ? position(job.bad_token[at.item]) : INT_MAX; }
  __device__ int column(int j) const {
    if (!wanted) return INT_MAX;
    const int last = static_cast<int>(job.from.values) - 1, place = j < last ? j : last;
    const int found = position(job.bad_column[at.item * job.from.values + place]);
    return j <= last ? found : INT_MAX;
  }

 private:
  __device__ static int position(unsigned long long i) { return i < INT_MAX ? static_cast<int>(i) : INT_MAX; }
};

/// What stretches add up to, by their places, each in a frame of its own.
template <class A>
struct stretch_totals {
  line_stretches stretches;
  A* sum;                  // [places, d', e]: U, or S
  std::int32_t* exponent;  // [places, width]: m
  A* normaliser;           // [places, width]: Z, or the product of the decays

  /// Those of weight w.
  struct weight {
    std::int32_t exponent;
    A normaliser;
  };
  template <class Job>
  __device__ weight weight_of(const Job& job, std::int64_t place, std::int64_t w) const {
    return {Job::sums ? exponent[place * job.width + w] : 0, normaliser[place * job.width + w]};
  }

  template <class Job>
  static stretch_totals of(execution<cuda>::scope& scratch, const Job& job, const line_stretches& stretches) {
    const std::int64_t places = stretches.places.count();
    return {stretches, scratch.take<A>(places * job.from.stored_keys * job.from.values),
            scratch.take<std::int32_t>(Job::sums ? places * job.width : 0), scratch.take<A>(places * job.width)};
  }
};

/// (m, Z), or the product of the decays, along a line: from its initial state on, stretch after stretch.
template <class Job>
class running_weight {
 public:
  using A = typename Job::A;

  std::int32_t m;
  A z;                                   // Z, or the product
  A of_carried = A(1), of_total = A(1);  // take what was carried, and what the last stretch adds, to this frame

  __device__ running_weight(const Job& job, const line_of_head& at, std::int64_t w) {
    const auto begin = job.carried(at, w);
    m = begin.m;
    z = Job::sums ? begin.z : begin.product;
  }

  __device__ void add(const typename stretch_totals<A>::weight& of_stretch) {
    if constexpr (Job::sums) {
      const std::int32_t before = m;
      m = of_stretch.exponent > m ? of_stretch.exponent : m;
      of_carried = lower_by_power_of_two(A(1), before - m);
      of_total = lower_by_power_of_two(A(1), of_stretch.exponent - m);
      z = multiply_add(of_carried, z, of_total * of_stretch.normaliser);
    } else {
      of_carried = of_stretch.normaliser;
      z *= of_stretch.normaliser;
    }
  }
};

/// Goes along a line, from its initial state on and a stretch that is walked after the other, and has `keep` take a row of
/// U, of up to 128 elements, and its weight: before each stretch s, and at the end.
template <class Job, class Keep>
struct add_stretches {
  using A = typename Job::A;

  Job job;
  stretch_totals<A> totals;
  Keep keep;

  __device__ void operator()(const line_of_head& at, std::int64_t i) const {
    if (!keep.wants(at)) return;
    const std::int64_t walked = totals.stretches.count(at) - totals.stretches.left_out, values = job.from.values;
    const std::int64_t w = job.weight_of_row(i), first = totals.stretches.places(at, 0);
    running_weight<Job> weight(job, at, w);
    A sum[elements_of_lane];
    each_of_lane(values, [&](int n, int j) { sum[n] = job.begin(at, i, j); });
    constexpr int ahead = 2;  // stretches that are read at a time
    for (std::int64_t s = 0; s < walked; s += ahead) {
      A total[ahead][elements_of_lane];
      typename stretch_totals<A>::weight of_total[ahead];
#pragma unroll
      for (int a = 0; a < ahead; ++a) {
        if (s + a >= walked) break;
        const std::int64_t place = first + s + a;
        of_total[a] = totals.weight_of(job, place, w);
        const A* const from = totals.sum + (place * job.from.stored_keys + i) * values;
        each_of_lane(values, [&](int n, int j) { total[a][n] = from[j]; });
      }
#pragma unroll
      for (int a = 0; a < ahead; ++a) {
        if (s + a >= walked) break;
        keep_row(at, s + a, false, i, sum, weight);
        weight.add(of_total[a]);
        each_of_lane(values, [&](int n, int) {
          sum[n] = multiply_add(weight.of_carried, sum[n], weight.of_total * total[a][n]);
        });
      }
    }
    keep_row(at, walked, true, i, sum, weight);
  }

 private:
  __device__ void keep_row(const line_of_head& at, std::int64_t s, bool ends, std::int64_t i,
                           const A (&sum)[elements_of_lane], const running_weight<Job>& weight) const {
    if (lane_of_row() == 0) keep.weight(at, s, ends, i, weight);
    const auto row = keep.row(at, s, ends, i);
    each_of_lane(job.from.values, [&](int n, int j) { row(j, sum[n]); });
  }
};
template <class Job, class Keep>
add_stretches(Job, stretch_totals<typename Job::A>, Keep) -> add_stretches<Job, Keep>;

/// Keeps the states before the stretches of lines that are cut: [stretches of a head, H, ..].
template <class Job>
struct states_between {
  using A = typename Job::A;

  line_stretches stretches;
  typename Job::state_type states;

  static states_between of(execution<cuda>::scope& scratch, const Job& job, const line_stretches& stretches) {
    const std::int64_t all = stretches.places.all, heads = job.from.heads;
    const std::int64_t rows = job.from.stored_keys, e = job.from.values;
    const dynamic_view<3, A, cuda> weights{scratch.take<A>(all * heads * job.width), {{all, heads, job.width}}};
    const dynamic_view<4, A, cuda> sum{scratch.take<A>(all * heads * rows * e), {{all, heads, rows, e}}};
    if constexpr (Job::recurrence::framed) {
      return {stretches,
              {{scratch.take<std::int32_t>(all * heads * job.width), {{all, heads, job.width}}}, weights, sum, {}}};
    } else {
      return {stretches, {sum, weights}};
    }
  }

  __device__ bool wants(const line_of_head& at) const { return stretches.cuts(at); }
  __device__ auto row(const line_of_head& at, std::int64_t s, bool, std::int64_t i) const {
    A* const to = &states.sum(stretches.places.of_head(at, s), at.head, i, 0);  // one element after the other
    return [to](int j, A sum) { to[j] = sum; };
  }
  __device__ void weight(const line_of_head& at, std::int64_t s, bool, std::int64_t i,
                         const running_weight<Job>& weight) const {
    const std::int64_t entry = stretches.places.of_head(at, s);
    const auto keep_weight = [&](const auto& to, auto x) {  // that of the first row that has it
      if (i < to.extent(2)) to(entry, at.head, i) = x;
    };
    if constexpr (Job::recurrence::framed) {
      keep_weight(states.exponent, weight.m);
      keep_weight(states.normaliser, weight.z);
    } else {
      keep_weight(states.decay, weight.z);
    }
  }
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
