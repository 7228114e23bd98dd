// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/angles.hpp>
#include <lightnet/backend/for_each.hpp>
#include <lightnet/core/decimal.hpp>
#include <lightnet/core/error.hpp>
#include <lightnet/core/located.hpp>
#include <lightnet/core/reach.hpp>
#include <lightnet/recurrence/scan_arguments.hpp>

#include <cmath>
#include <string>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// The decays of a recurrence that has one a head, where none are given.
template <class Recurrence, class A, class Device>
struct default_decays {
  dynamic_view<1, A, Device> to;  // [H]

  LIGHTNET_HOST_DEVICE void operator()(std::int64_t, std::int64_t first, std::int64_t last) const {
    for (std::int64_t h = first; h < last; ++h) {
      const double rate = Recurrence::default_log_decay(h, to.extent(0));
      to(h) = static_cast<A>(Recurrence::with_sign ? std::exp(rate) : rate);
    }
  }
};

/// Checks the arguments of an operation before it touches anything, and knows the sizes afterwards.
template <class Recurrence, class Traversal, class Position, int Dims, class T, class Device>
struct scan_checker {
  using A = accumulator<T>;
  using inputs_type = scan_inputs<Recurrence, Dims, T, Device>;
  using logits_type = typename inputs_type::logits_type;
  static constexpr bool normalise_first = Recurrence::per_channel && Position::mixes_channels;

  const char* operation;
  const inputs_type& in;
  std::int64_t batch, sequences, heads, keys, values;
  grid<Dims> tokens;
  token_lines<Dims, Device> lines;
  dynamic_view<2, A, Device> coordinate{};  // [N, angles], set by `arguments`

  scan_checker(const char* name, const inputs_type& inputs) : operation{name}, in{inputs} {
    given("q", in.q);
    given("v", in.v);
    batch = in.q.batch();
    heads = in.q.heads();
    keys = in.q.channels();
    values = in.v.channels();
    tokens = located(operation, "q", in.q, in.grid);
    pack();
    if constexpr (Recurrence::kappa == kappa_of::complement) {
      if (in.k) fail_value("k", "nothing, for the key of this recurrence is 1 - a", "a sequence");
    } else {
      like_q("k", in.k, keys);
    }
    like_q("v", in.v, values);
    if (in.mask) extents("mask", in.mask, {{batch, tokens.size()}});
    if (in.chunk < 0) fail_value("chunk", "zero or more", std::to_string(in.chunk));
    if (in.origin) extents("origin", in.origin, {{Dims}});
    state("state", in.state);
    logits();
    if constexpr (Position::encodes) {
      if (!Position::fits(keys, Dims)) {
        fail_shape("q", "enough channels to give each of " + std::to_string(Dims) + " axes an angle", in.q.describe());
      }
    }
    shared("theta", in.theta, in.theta, Position::encodes, {in.theta.extent(0), share()});
    if (in.theta && in.theta.extent(0) != 1 && in.theta.extent(0) != heads) {
      fail_shape("theta", "extents [1 or " + std::to_string(heads) + ", " + std::to_string(share()) + "]",
                 in.theta.describe());
    }
  }

  /// A sequence that is written.
  void output(const char* argument, const head_sequence<Dims, T, Device>& sequence, std::int64_t channels) const {
    like_q(argument, sequence, channels);
    distinct(argument, sequence);
  }

  /// A sequence of the inputs' batch, tokens and heads, with the given channels.
  template <class U>
  void like_q(const char* argument, const head_sequence<Dims, U, Device>& sequence, std::int64_t channels) const {
    given(argument, sequence);
    const bool same_axes =
        Dims == 1 || !sequence.gridded() || (tokens.prefix == 0 && sequence.extents() == tokens.extents);
    if (sequence.batch() != batch || sequence.tokens() != tokens.size() || sequence.heads() != heads ||
        sequence.channels() != channels || !same_axes) {
      fail_shape(
          argument,
          "the batch, tokens and heads of q " + in.q.describe() + " and " + std::to_string(channels) + " channels",
          sequence.describe());
    }
  }

  /// A state, where it is given.
  template <class State>
  void state(const char* argument, const State& views) const {
    bool any = static_cast<bool>(views);
    if constexpr (Recurrence::framed) {
      any = any || views.exponent || views.normaliser || views.input;
    } else {
      any = any || views.decay;
    }
    if (!any) return;
    allow_state(argument);
    part(argument, views.sum, sum_extents());
    if constexpr (Recurrence::framed) {
      part(argument, views.exponent, weight_extents());
      part(argument, views.normaliser, weight_extents());
      if (!views.input) return;
      if (Recurrence::weight != weight_of::running_sum) {
        fail_value(argument, "no input, for only additive_plain has one", "one");
      }
      part(argument, views.input, sum_extents());
    } else if (views.decay) {
      part(argument, views.decay, weight_extents());
    }
  }

  /// A gradient by a state, where it is given.
  template <class U>
  void gradient(const char* argument, const state_gradient<U, Device>& views) const {
    if (!views && !views.z) return;
    allow_state(argument);
    part(argument, views.sum, sum_extents());
    if (!Recurrence::framed && views.z) fail_value(argument, "no z, for a decay has none", "one");
    if (views.z) part(argument, views.z, weight_extents());
  }

  /// A gradient by logits or decays, where it is given: only where its input was.
  void logits_gradient(const char* argument,
                       const typename scan_gradients<Recurrence, Dims, T, Device>::logits_type& to,
                       const logits_type& original) const {
    if (!to) return;
    if (!original) fail_value(argument, "nothing where its input was not given", "a gradient");
    if constexpr (Recurrence::logits == logits_from::head) {
      part(argument, to, {{heads}});
    } else {
      output(argument, to, weights());
    }
  }

  /// An array that all sequences share: only where the policy reads it, and its gradient only where it was given.
  template <class Shape, class U>
  void shared(const char* argument, const view<Shape, U, Device>& views, const view<Shape, const A, Device>& original,
              bool used, const std::array<std::int64_t, Shape::rank>& expected) const {
    if (!views) return;
    if (!used) fail_value(argument, "nothing, for this recurrence or encoding has none", "an array");
    if (!original) fail_value(argument, "nothing where the input is its default", "an array");
    part(argument, views, expected);
  }

  template <class State, class MutableState>
  void single_token(const State& initial, const MutableState& kept) const {
    if (tokens.size() != 1) fail_shape("q", "one token", in.q.describe());
    if (in.cumulative_lengths) {
      fail_value("cumulative_lengths", "nothing, for a step takes one token of every sequence of the batch",
                 "an array");
    }
    if (initial) fail_value("state", "nothing: a step keeps its state in outputs.state", "a state");
    given("outputs.state", kept.sum);
  }

  /// The arguments of the backend, with the decays and angles that were not given.
  recurrence_arguments<Recurrence, Dims, T, Device> arguments(execution<Device>& on,
                                                              typename execution<Device>::scope& scratch,
                                                              bool with_coordinates) {
    recurrence_arguments<Recurrence, Dims, T, Device> a{};
    a.lines = lines;
    a.heads = heads;
    a.keys = keys;
    a.stored_keys = state_keys<Position>(keys);
    a.values = values;
    a.chunk = in.chunk;
    a.q = in.q;
    a.k = in.k;
    a.v = in.v;
    a.mask = in.mask;
    a.state = in.state;
    if constexpr (Recurrence::logits == logits_from::tokens) a.logits = given_logits();
    if constexpr (Recurrence::logits == logits_from::head) {
      a.head_logits = given_logits();
      if (!a.head_logits) {
        const dynamic_view<1, A, Device> rates{scratch.template take<A>(heads), {{heads}}};
        for_each_row(on, operation, 1, heads, default_decays<Recurrence, A, Device>{rates});
        a.head_logits = rates;
      }
    }
    if constexpr (Position::encodes) {
      grid<Dims> placed = tokens;
      if (in.cumulative_lengths) placed.extents[0] = lines.longest();  // each sequence starts at the first place
      const rank<3> shape{{in.theta ? in.theta.extent(0) : 1, placed.size(), angles()}};
      const dynamic_view<3, A, Device> cosine{scratch.template take<A>(shape.size()), shape};
      const dynamic_view<3, A, Device> sine{scratch.template take<A>(shape.size()), shape};
      if (with_coordinates) {
        coordinate = {scratch.template take<A>(placed.size() * angles()), {{placed.size(), angles()}}};
      }
      encode_angles<Position, Dims, A>(on, placed, keys, in.theta, cosine, sine, coordinate, in.origin);
      a.cosine = cosine;
      a.sine = sine;
    }
    return a;
  }

  std::int64_t weights() const { return Recurrence::per_channel ? keys : 1; }

 private:
  std::int64_t share() const {
    if constexpr (Position::encodes) {
      return Position::share(keys, Dims);
    } else {
      return 0;
    }
  }
  std::int64_t angles() const {
    if constexpr (Position::encodes) {
      return Position::angles(keys, Dims);
    } else {
      return 0;
    }
  }

  /// The sequences that are packed into one, and the lines of a traversal.
  void pack() {
    if (Traversal::along_axes && tokens.prefix > 0) {
      fail_value("grid.prefix", "zero, for lines along axes go through places", std::to_string(tokens.prefix));
    }
    lines.batch = batch;
    lines.tokens = tokens;
    sequences = batch;
    if (!in.cumulative_lengths) return;
    const auto& ends = in.cumulative_lengths;
    if (Dims != 1) fail_value("cumulative_lengths", "nothing, for only 1-D sequences are packed", ends.describe());
    if (batch != 1) fail_shape("q", "a batch of 1, for packed sequences", in.q.describe());
    check_reach(operation, "cumulative_lengths", ends);
    if (tokens.prefix != 0) {
      fail_value("grid.prefix", "zero, for packed sequences", std::to_string(tokens.prefix));
    }
    sequences = ends.extent(0) - 1;
    bool rising = sequences > 0 || (sequences == 0 && tokens.size() == 0);
    if constexpr (std::is_same_v<Device, cpu>) {  // on other devices the backend checks them
      rising = rising && ends(0) == 0 && ends(sequences) == tokens.size();
      for (std::int64_t s = 0; rising && s < sequences; ++s) rising = ends(s) <= ends(s + 1);
    }
    if (!rising) {
      fail_value("cumulative_lengths",
                 "numbers that do not fall, from 0 to the " + std::to_string(tokens.size()) + " tokens of q",
                 ends.describe() + " that do not");
    }
    lines.cumulative_lengths = ends;
  }

  std::array<std::int64_t, 4> sum_extents() const { return {{sequences, heads, state_keys<Position>(keys), values}}; }
  std::array<std::int64_t, 3> weight_extents() const { return {{sequences, heads, weights()}}; }

  const logits_type& given_logits() const {
    if constexpr (Recurrence::weight != weight_of::inverse_decay) return in.logits;
    return Recurrence::with_sign ? in.decay : in.log_decay;
  }

  /// Logits or decays go where the recurrence reads them, and nowhere else.
  void logits() const {
    constexpr bool has_some = Recurrence::logits == logits_from::tokens || Recurrence::logits == logits_from::head;
    constexpr bool decays = Recurrence::weight == weight_of::inverse_decay;
    expect("logits", in.logits, has_some && !decays);
    expect("log_decay", in.log_decay, has_some && decays && !Recurrence::with_sign);
    expect("decay", in.decay, has_some && decays && Recurrence::with_sign);
  }

  void expect(const char* argument, const logits_type& numbers, bool read) const {
    if (!read) {
      if (numbers) fail_value(argument, "nothing, for this recurrence has none", "an array");
    } else if constexpr (Recurrence::logits == logits_from::head) {
      if (numbers) check_head_decays(argument, numbers);
    } else {
      like_q(argument, numbers, weights());
    }
  }

  void check_head_decays(const char* argument, const dynamic_view<1, const A, Device>& decays) const {
    extents(argument, decays, {{heads}});
    if constexpr (std::is_same_v<Device, cpu>) {  // on other devices the backend checks them
      for (std::int64_t h = 0; h < heads; ++h) {
        const A x = decays(h);
        const bool good = Recurrence::with_sign ? x >= A(-1) && x <= A(1) : x <= A(0);
        if (!good) {
          fail_value(argument, Recurrence::with_sign ? "numbers from -1 to 1" : "zero or less",
                     detail::decimal(x) + " at head " + std::to_string(h));
        }
      }
    }
  }

  void allow_state(const char* argument) const {
    if (!Traversal::stateful) fail_value(argument, "nothing, for this traversal has no state", "a state");
    if (normalise_first) {
      fail_value(argument, "nothing, for rotated weights are normalised once and cannot be carried on", "a state");
    }
  }

  /// Something, in memory that the device reaches.
  template <class Views>
  void given(const char* argument, const Views& views) const {
    if (!views) throw device_error(operation, argument, "a view of memory", "a null pointer");
    check_reach(operation, argument, views);
  }

  template <class Shape, class U>
  void extents(const char* argument, const view<Shape, U, Device>& views,
               const std::array<std::int64_t, Shape::rank>& expected) const {
    given(argument, views);
    if (views.extents() != expected) fail_shape(argument, "extents " + bracketed(expected), views.describe());
  }

  /// Whole, and where it is written, without elements that share a place.
  template <class Shape, class U>
  void part(const char* argument, const view<Shape, U, Device>& views,
            const std::array<std::int64_t, Shape::rank>& expected) const {
    extents(argument, views, expected);
    if constexpr (!std::is_const_v<U>) distinct(argument, views);
  }

  template <class Views>
  void distinct(const char* argument, const Views& views) const {
    if (views.repeats()) fail_shape(argument, "a place for each element", views.describe() + " with a stride of 0");
  }

  [[noreturn]] void fail_shape(const char* argument, const std::string& expected, const std::string& came) const {
    throw shape_error(operation, argument, expected, came);
  }
  [[noreturn]] void fail_value(const char* argument, const std::string& expected, const std::string& came) const {
    throw value_error(operation, argument, expected, came);
  }
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
