// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/packed_lengths.cuh>
#include <lightnet/backend/recurrence_arguments.hpp>
#include <lightnet/core/concepts.hpp>
#include <lightnet/core/math.hpp>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <type_traits>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Whether x is a number, not NaN and not infinite.
template <class A>
__device__ inline bool finite(A x) noexcept {
  return x - x == A(0);
}

/// 1 / Z; 0 for the normaliser of an empty channel.
template <class A>
__device__ inline A inverse_of(A z) noexcept {
  return z == A(0) ? A(0) : A(1) / z;
}

/// A row of numbers: what memory has of element i, and the number that this becomes. They are apart so that much can be on
/// its way at once.
template <class Fetch, class Value>
struct fetched_row {
  Fetch fetch;
  Value value;

  __device__ auto operator[](std::int64_t i) const { return value(fetch(i)); }
};
template <class Fetch, class Value>
fetched_row(Fetch, Value) -> fetched_row<Fetch, Value>;

/// What memory has of an element that comes from two places.
template <class First, class Second>
struct both_of {
  First first;
  Second second;
};
template <class First, class Second>
both_of(First, Second) -> both_of<First, Second>;

/// A row whose elements do not come from memory, or not apart from what is made of them.
template <class Element>
__device__ auto row_of_elements(const Element& element) {
  return fetched_row{element, [](auto x) { return x; }};
}

/// One line and head of a recurrence.
struct line_of_head {
  token_line line;
  std::int64_t head, item;
  bool left_alone = false;    // it is none of those that are worked on, and counts as empty
  std::int64_t between = -1;  // it begins with this one of the states between stretches, not with the initial state
};

/// A recurrence with a matrix state in the form that every kernel reads: token by token,
///   U_t = a_t U_{t-1} + khat_t v_t^T,   o_t = U_t^T qhat_t,
/// each channel of the key having its factor a. For weights that are summed U is in the running frame m, a power of two
/// (spec: log_sum_exp), so a_t = 2^(m_{t-1} - m_t), khat = kappa w 2^-m and qhat = q / Z; for a decay a is the decay
/// itself, khat = kappa and qhat = q. Nothing can overflow, and no rows need be cut.
///
/// The factors of all tokens are worked out first (weigh); everything else is read where it lies, through these functions,
/// which live no longer than the job: what is masked or bad comes out neutral.
template <class Recurrence, class Position, int Dims, class T>
struct recurrence_job {
  using A = accumulator<T>;
  using arguments = recurrence_arguments<Recurrence, Dims, T, cuda>;
  using state_type = typename Recurrence::template state<A, cuda>;
  using given_state = typename Recurrence::template state<const A, cuda>;
  using recurrence = Recurrence;
  using position = Position;
  static constexpr bool sums = Recurrence::normaliser == normaliser_of::sum;
  static constexpr bool running = Recurrence::weight == weight_of::running_sum;
  static constexpr bool decays = !sums;
  static constexpr bool per_channel = Recurrence::per_channel;
  static constexpr bool tied = Recurrence::logits == logits_from::keys;
  static constexpr bool complement = Recurrence::kappa == kappa_of::complement;
  static constexpr bool keys_are_weights = sums && tied && Recurrence::kappa == kappa_of::one;
  static constexpr bool normalise_first = per_channel && Position::mixes_channels;  // in a global traversal
  static constexpr A least_logit = A(-10000);                                       // a log decay that leaves nothing

  arguments from;
  given_state between{};               // [.., H, ..]: what lines that are cut have come to
  std::int64_t tokens = 0, width = 0;  // N, and the weights of a token
  // [B, H, N, width]: a; what kappa is multiplied by, w 2^-m or, where that is the key, Z 2^-m; w 2^-m; 1 / Z
  A *keep = nullptr, *weight = nullptr, *own = nullptr, *inverse = nullptr;
  std::int32_t* exponent = nullptr;           // [items, width]: m after the last token
  A *normaliser = nullptr, *decay = nullptr;  // [items, width]: Z 2^-m then; the product of the decays
  unsigned long long *bad_token = nullptr, *bad_column = nullptr;  // [items], [items, e]: where NaN begins in a line
  unsigned* poisoned = nullptr;                                    // [items + 1]: whether it begins at all, in any
  const unsigned* wanted = nullptr;  // [items + 1]: lines that are worked on, where not all are, and whether any is
  const std::uint32_t* packed_angles = nullptr;  // [1 or H, N, 64]: two float16 each, where walks encode (pack_angles)
  unsigned* bad_content = nullptr;               // of the execution: a decay of a head is out of range
  bool global = false;  // factors are those of the whole line: 1 / Z of its end, w in the frame of its end

  __device__ line_of_head line(std::int64_t item) const noexcept {
    line_of_head at{from.lines[item / from.heads], item % from.heads, item, wanted != nullptr && wanted[item] == 0};
    if (at.left_alone) at.line.length = 0;
    return at;
  }
  __device__ void tell_bad_line(const line_of_head& at) const {
    atomicOr(poisoned + at.item, 1U);
    atomicOr(poisoned + from.items(), 1U);
  }
  __device__ bool nothing_wanted() const noexcept { return wanted != nullptr && wanted[from.items()] == 0; }
  /// So many blocks for a kernel that works on them in turn; fewer where it is likely that no line is wanted.
  std::int64_t blocks_of(const execution<cuda>& on, std::int64_t blocks) const {
    return wanted != nullptr ? std::min<std::int64_t>(blocks, 8 * on.processors()) : blocks;
  }
  /// The row of a token in arrays [B, H, N, ..].
  __device__ std::int64_t row(const line_of_head& at, std::int64_t token) const noexcept {
    return (at.line.batch * from.heads + at.head) * tokens + token;
  }
  __device__ bool on(const line_of_head& at, std::int64_t token) const noexcept {
    return !from.mask || from.mask(at.line.batch, token);
  }

  /// The channels of a token.
  template <class U>
  __device__ static auto elements_of(const head_sequence<Dims, U, cuda>& sequence, const line_of_head& at,
                                     std::int64_t token) noexcept {
    const U* const first = sequence.token(at.line.batch, at.head, token);
    const std::int64_t stride = sequence.channel_stride();
    return fetched_row{[=](std::int64_t i) { return first[i * stride]; }, [](U x) { return static_cast<A>(x); }};
  }
  template <class U>
  __device__ static A element(const head_sequence<Dims, U, cuda>& sequence, const line_of_head& at, std::int64_t token,
                              std::int64_t channel) noexcept {
    return elements_of(sequence, at, token)[channel];
  }

  /// The logit or decay of weight w of a token that is on.
  __device__ A logit(const line_of_head& at, std::int64_t token, std::int64_t w) const noexcept {
    if constexpr (Recurrence::logits == logits_from::keys) return element(from.k, at, token, w);
    if constexpr (Recurrence::logits == logits_from::tokens) return element(from.logits, at, token, w);
    if constexpr (Recurrence::logits == logits_from::head) return from.head_logits(at.head);
    return neutral_logit();
  }
  __device__ static A neutral_logit() noexcept {
    return sums ? -limits<A>::infinity : Recurrence::with_sign ? A(1) : A(0);
  }
  __device__ static bool bad_logit(A x) noexcept {
    if constexpr (sums) return !(x < limits<A>::infinity);
    return Recurrence::with_sign ? !(x <= A(1) && x >= A(-1)) : !(x <= A(0));
  }

  /// kappa of a token that is on.
  __device__ A kappa(const line_of_head& at, std::int64_t token, std::int64_t i) const noexcept {
    return kappas_of(at, token)[i];
  }

  __device__ std::int64_t place(const line_of_head& at, std::int64_t token, std::int64_t i) const noexcept {
    return row(at, token) * width + (per_channel ? i : 0);
  }

  /// 1 / Z, by which q is multiplied.
  __device__ A reciprocal(const line_of_head& at, std::int64_t token, std::int64_t i) const noexcept {
    if constexpr (!sums) return A(1);
    if (global) return normalise_first ? A(1) : inverse[at.item * width + (per_channel ? i : 0)];
    return inverse[place(at, token, i)];
  }
  /// What kappa is multiplied by in the key.
  __device__ A key_factor(const line_of_head& at, std::int64_t token, std::int64_t i) const noexcept {
    return sums ? weight[place(at, token, i)] : A(1);
  }

  // What a token has, as rows: where they lie is worked out once for all of their elements.

  /// kappa of a token that is on, before it is encoded.
  __device__ auto kappas_of(const line_of_head& at, std::int64_t token) const noexcept {
    if constexpr (Recurrence::kappa == kappa_of::key) {
      return elements_of(from.k, at, token);
    } else if constexpr (complement) {
      const auto logits = elements_of(tied ? from.k : from.logits, at, token);
      return fetched_row{logits.fetch, [=](auto fetched) {
                           const A x = logits.value(fetched);
                           return bad_logit(x) ? A(0) : one_minus_exponential(x);
                         }};
    } else {
      return row_of_elements([](std::int64_t) { return A(1); });
    }
  }
  /// The same; zero where the token is masked.
  __device__ auto plain_inputs_of(const line_of_head& at, std::int64_t token) const noexcept {
    const bool counts = on(at, token);
    const auto kappas = kappas_of(at, token);
    return fetched_row{kappas.fetch, [=](auto fetched) { return counts ? kappas.value(fetched) : A(0); }};
  }
  /// khat and qhat before they are encoded.
  __device__ auto plain_keys_of(const line_of_head& at, std::int64_t token) const noexcept {
    const auto inputs = plain_inputs_of(at, token);
    if constexpr (sums) {
      const A* const weights = weight + row(at, token) * width;
      return fetched_row{[=](std::int64_t i) {
                           return both_of{inputs.fetch(i), weights[per_channel ? i : 0]};
                         },
                         [=](auto fetched) {
                           const A input = inputs.value(fetched.first);
                           return input == A(0) ? A(0) : input * fetched.second;
                         }};
    } else {
      return inputs;
    }
  }
  __device__ auto plain_queries_of(const line_of_head& at, std::int64_t token) const noexcept {
    const bool counts = on(at, token);
    const auto q = elements_of(from.q, at, token);
    if constexpr (sums) {
      const bool divided = !(global && normalise_first);
      const A* const inverses = inverse + (global ? at.item : row(at, token)) * width;
      return fetched_row{[=](std::int64_t i) {
                           return both_of{q.fetch(i), divided ? inverses[per_channel ? i : 0] : A(1)};
                         },
                         [=](auto fetched) { return counts ? q.value(fetched.first) * fetched.second : A(0); }};
    } else {
      return fetched_row{q.fetch, [=](auto x) { return counts ? q.value(x) : A(0); }};
    }
  }

  /// kappa, khat and qhat, the d' rows of them.
  __device__ auto inputs_of(const line_of_head& at, std::int64_t token) const noexcept {
    return encoded(at, token, plain_inputs_of(at, token));
  }
  __device__ auto keys_of(const line_of_head& at, std::int64_t token) const noexcept {
    return encoded(at, token, plain_keys_of(at, token));
  }
  __device__ auto queries_of(const line_of_head& at, std::int64_t token) const noexcept {
    return encoded(at, token, plain_queries_of(at, token));
  }

  /// v; what is bad counts as 0.
  __device__ auto values_of(const line_of_head& at, std::int64_t token) const noexcept {
    const bool counts = on(at, token);
    const auto v = elements_of(from.v, at, token);
    return fetched_row{v.fetch, [=](auto fetched) {
                         const A x = v.value(fetched);
                         return counts && finite(x) ? x : A(0);
                       }};
  }

  /// a of the d' rows.
  __device__ auto factors_of(const line_of_head& at, std::int64_t token) const noexcept {
    const A* const factors = keep + row(at, token) * width;
    return row_of_elements([this, factors](std::int64_t r) { return factors[weight_of_row(r)]; });
  }
  /// An encoding may have twice as many rows as there are channels.
  __device__ std::int64_t weight_of_row(std::int64_t r) const noexcept {
    if (!per_channel) return 0;
    const std::int64_t cosines = from.stored_keys / 2;
    return Position::encodes && r >= cosines ? r - cosines : r;
  }

  /// What a line begins with: a state, if there is one, and which of its sequences.
  __device__ const given_state& initial(const line_of_head& at) const noexcept {
    return at.between < 0 ? from.state : between;
  }
  __device__ static std::int64_t sequence_of(const line_of_head& at) noexcept {
    return at.between < 0 ? at.line.sequence : at.between;
  }
  /// U before the first token. What an empty channel holds does not count.
  __device__ A begin(const line_of_head& at, std::int64_t r, std::int64_t j) const noexcept {
    return begins_empty(at, r) ? A(0) : initial(at).sum(sequence_of(at), at.head, r, j);
  }
  /// What is carried into a line for weight w: Z and its frame, the product of the decays; without `from_state` those of no
  /// tokens at all. What an empty channel of a state holds beside does not count.
  struct carried_weight {
    std::int32_t m;
    A z, product;
  };
  __device__ carried_weight carried(const line_of_head& at, std::int64_t w, bool from_state = true) const noexcept {
    const bool empty = sums && !(from_state && Recurrence::sink);
    carried_weight into{empty ? empty_exponent : 0, empty ? A(0) : A(1), A(1)};
    const given_state& state = initial(at);
    if (!from_state || !state) return into;
    if constexpr (Recurrence::framed) {
      const std::int32_t given = state.exponent(sequence_of(at), at.head, w);
      into.m = given <= empty_exponent ? empty_exponent : given;
      into.z = into.m == empty_exponent ? A(0) : state.normaliser(sequence_of(at), at.head, w);
    } else if (state.decay) {
      into.product = state.decay(sequence_of(at), at.head, w);
    }
    return into;
  }
  __device__ bool begins_empty(const line_of_head& at, std::int64_t r) const noexcept {
    if constexpr (Recurrence::framed) {
      return !initial(at) || initial(at).exponent(sequence_of(at), at.head, weight_of_row(r)) <= empty_exponent;
    } else {
      return !initial(at);
    }
  }

  /// Whether NaN has reached the columns of position i of a line.
  __device__ auto reached(const line_of_head& at, std::int64_t i) const noexcept {
    // Of a whole line, bad anywhere is bad everywhere.
    const auto here = static_cast<unsigned long long>(global ? at.line.length - 1 : i);
    const bool all = here >= bad_token[at.item];
    const unsigned long long* const columns = bad_column + at.item * from.values;
    return row_of_elements([=](std::int64_t j) { return all || here >= columns[j]; });
  }

  /// Where the channels of a token are written, store(channel, is NaN, x): zero where it is masked.
  template <class U>
  __device__ auto store(const head_sequence<Dims, U, cuda>& to, const line_of_head& at, std::int64_t token,
                        bool accumulate) const noexcept {
    U* const first = to.token(at.line.batch, at.head, token);
    const std::int64_t stride = to.channel_stride();
    const bool counts = on(at, token);
    return [=](std::int64_t channel, bool is_nan, A x) {
      U& place = first[channel * stride];
      const A y = !counts ? A(0) : is_nan ? limits<A>::not_a_number : x;
      place = static_cast<U>(accumulate ? static_cast<A>(place) + y : y);
    };
  }

  /// The packed angles of a token.
  static constexpr std::int64_t packed_words = 64;
  __device__ const std::uint32_t* packed(const line_of_head& at, std::int64_t token) const noexcept {
    const std::int64_t head = from.cosine.extent(0) == 1 ? 0 : at.head;
    return packed_angles + (head * from.cosine.extent(1) + token - at.line.origin) * packed_words;
  }
  __device__ const A* cosine(const line_of_head& at, std::int64_t token) const noexcept {
    return angles(from.cosine, at, token);
  }
  __device__ const A* sine(const line_of_head& at, std::int64_t token) const noexcept {
    return angles(from.sine, at, token);
  }

 private:
  __device__ static const A* angles(const dynamic_view<3, const A, cuda>& table, const line_of_head& at,
                                    std::int64_t token) noexcept {
    return table.data() + (table.extent(0) == 1 ? 0 : at.head) * table.stride(0) +
           (token - at.line.origin) * table.stride(1);
  }

  template <class Plain>
  __device__ auto encoded(const line_of_head& at, std::int64_t token, const Plain& plain) const noexcept {
    if constexpr (Position::encodes) {
      const A *const cosines = cosine(at, token), *const sines = sine(at, token);
      return row_of_elements([=, keys = from.keys, angles = from.cosine.extent(2)](std::int64_t r) {
        return Position::encoded(plain, r, cosines, sines, keys, angles);
      });
    } else {
      return plain;
    }
  }
};

/// What the channels of a thread carry into a line, from its initial state or from nothing: the frame m, its normaliser z,
/// 1 / Z of a decay, `gain`, and the product of all decays.
template <class Job, class Weights>
__device__ void begin_channels(const Job& job, const line_of_head& at, bool from_state, Weights& to) {
  for (int e = 0; e < Weights::own; ++e) {
    const auto begin = job.carried(at, to.own_weight(e), from_state && to.has(e));
    to.m[e] = begin.m;
    to.z[e] = begin.z;
    to.gain[e] = 1.0F;
    to.product[e] = begin.product;
  }
}

/// A job whose factors are not known yet.
template <class Recurrence, class Position, int Dims, class T>
recurrence_job<Recurrence, Position, Dims, T> job_of(execution<cuda>& on, execution<cuda>::scope& scratch,
                                                     const recurrence_arguments<Recurrence, Dims, T, cuda>& arguments,
                                                     const char* operation) {
  recurrence_job<Recurrence, Position, Dims, T> job;
  job.from = arguments;
  job.from.lines = accept_lengths(on, scratch, operation, arguments.lines);
  job.bad_content = on.bad_content();
  job.tokens = arguments.lines.tokens.size();
  job.width = arguments.weights();
  return job;
}

/// Memory for what a job finds out about whole lines: their weights at the end, and where something is bad, nothing so far.
template <class Job>
void take_line_memory(execution<cuda>& on, execution<cuda>::scope& scratch, const char* operation, Job& job) {
  using A = typename Job::A;
  const std::int64_t items = job.from.items(), weights = items * job.width;
  if constexpr (Job::sums) {
    if (job.global) job.inverse = scratch.take<A>(weights);
    job.exponent = scratch.take<std::int32_t>(weights);
    job.normaliser = scratch.take<A>(weights);
  } else {
    job.decay = scratch.take<A>(weights);
  }
  job.bad_token = scratch.take<unsigned long long>(items);
  job.bad_column = scratch.take<unsigned long long>(items * job.from.values);
  job.poisoned = scratch.take<unsigned>(items + 1);
  const auto fill = [&](void* memory, int byte, std::int64_t bytes) {
    check_cuda(operation, "cudaMemsetAsync",
               cudaMemsetAsync(memory, byte, static_cast<std::size_t>(bytes), on.stream()));
  };
  fill(job.bad_token, 0xFF, items * 8);
  fill(job.bad_column, 0xFF, items * job.from.values * 8);
  fill(job.poisoned, 0, (items + 1) * 4);
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
