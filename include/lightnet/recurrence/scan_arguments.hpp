// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/execution.hpp>
#include <lightnet/backend/linear_recurrence.hpp>
#include <lightnet/core/concepts.hpp>

#include <string>

LIGHTNET_BEGIN_NAMESPACE

/// The inputs of scan and its relatives; q, k and v are needed, everything else has a default.
template <class Recurrence, int Dims = 1, class T = float, class Device = cpu>
struct scan_inputs {
  head_sequence<Dims, const T, Device> q{}, k{}, v{};            // [B, n_1..n_M, H, d], the same, [..., e]
  dynamic_view<2, const bool, Device> mask{};                    // [B, N]; false deletes a token
  typename Recurrence::template state<const T, Device> state{};  // initial state
  dynamic_view<1, const T, Device> log_decay{};                  // [H], <= 0; constant_decay, default tnl
  dynamic_view<2, const T, Device> theta{};                      // [1 or H, share]; default that of the encoding
  lightnet::grid<Dims> grid{};                                   // needed where q is flattened, or for an offset
  std::int64_t chunk = 64;                                       // tokens for each pass over the state; 256 at most
};

/// The outputs of scan: o is needed.
template <class Recurrence, int Dims = 1, class T = float, class Device = cpu>
struct scan_outputs {
  head_sequence<Dims, T, Device> o{};                      // [B, n_1..n_M, H, e]
  typename Recurrence::template state<T, Device> state{};  // final state
};

/// What comes back to scan_backward: the gradients by o and, optionally, by the final state.
template <int Dims = 1, class T = float, class Device = cpu>
struct scan_incoming {
  head_sequence<Dims, const T, Device> o{};  // [B, n_1..n_M, H, e]
  state_gradient<const T, Device> state{};
};

/// The gradients that scan_backward writes; each is optional.
template <int Dims = 1, class T = float, class Device = cpu>
struct scan_gradients {
  head_sequence<Dims, T, Device> q{}, k{}, v{};  // as the inputs
  state_gradient<T, Device> state{};             // by the initial (z, S)
  dynamic_view<1, T, Device> log_decay{};        // [H], where inputs.log_decay was given
  dynamic_view<2, T, Device> theta{};            // as inputs.theta, where that was given
};

/// The rows d' of a state for d keys.
template <class Position>
constexpr std::int64_t state_keys(std::int64_t keys) noexcept {
  return Position::width(keys);
}

namespace detail {

/// Checks the arguments of an operation before it touches anything, and knows the sizes afterwards.
template <class Recurrence, class Traversal, class Position, int Dims, class T, class Device>
struct scan_checker {
  using inputs_type = scan_inputs<Recurrence, Dims, T, Device>;
  static constexpr bool normalise_first = Recurrence::per_channel && Position::mixes_channels;

  const char* operation;
  const inputs_type& in;
  std::int64_t batch, heads, keys, values;
  grid<Dims> tokens;
  dynamic_view<2, T, Device> coordinate{};  // [N, angles], set by `arguments`

  scan_checker(const char* name, const inputs_type& inputs) : operation{name}, in{inputs} {
    given("q", static_cast<bool>(in.q));
    given("k", static_cast<bool>(in.k));
    given("v", static_cast<bool>(in.v));
    batch = in.q.batch();
    heads = in.q.heads();
    keys = in.q.channels();
    values = in.v.channels();
    tokens = in.grid;
    locate();
    like_q("k", in.k, keys);
    like_q("v", in.v, values);
    if (in.mask) extents("mask", in.mask, {{batch, tokens.size()}});
    if (in.chunk < 1) fail_value("chunk", "one or more", std::to_string(in.chunk));
    state("state", in.state);
    decays();
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
    given(argument, static_cast<bool>(sequence));
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
    if constexpr (Recurrence::framed) any = any || views.exponent || views.normaliser;
    if (!any) return;
    allow_state(argument);
    part(argument, views.sum, {{batch, heads, state_keys<Position>(keys), values}});
    if constexpr (Recurrence::framed) {
      part(argument, views.exponent, {{batch, heads, keys}});
      part(argument, views.normaliser, {{batch, heads, keys}});
    }
  }

  /// A gradient by a state, where it is given.
  template <class U>
  void gradient(const char* argument, const state_gradient<U, Device>& views) const {
    if (!views && !views.z) return;
    allow_state(argument);
    part(argument, views.sum, {{batch, heads, state_keys<Position>(keys), values}});
    if (!Recurrence::framed && views.z) fail_value(argument, "no z, for a decay has none", "one");
    if (views.z) part(argument, views.z, {{batch, heads, keys}});
  }

  /// An array that all sequences share: only where the policy reads it, and its gradient only where it was given.
  template <class Shape, class U>
  void shared(const char* argument, const view<Shape, U, Device>& views, const view<Shape, const T, Device>& original,
              bool used, const std::array<std::int64_t, Shape::rank>& expected) const {
    if (!views) return;
    if (!used) fail_value(argument, "nothing, for this recurrence or encoding has none", "an array");
    if (!original) fail_value(argument, "nothing where the input is its default", "an array");
    part(argument, views, expected);
  }

  template <class State, class MutableState>
  void single_token(const State& initial, const MutableState& kept) const {
    if (tokens.size() != 1) fail_shape("q", "one token", in.q.describe());
    if (initial) fail_value("state", "nothing: a step keeps its state in outputs.state", "a state");
    given("outputs.state", static_cast<bool>(kept));
  }

  /// The arguments of the backend, with the decays and angles that were not given.
  recurrence_arguments<Recurrence, Dims, T, Device> arguments(execution<Device>& on,
                                                              typename execution<Device>::scope& scratch,
                                                              bool with_coordinates) {
    recurrence_arguments<Recurrence, Dims, T, Device> a{};
    a.batch = batch;
    a.tokens = tokens.size();
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
    a.log_decay = in.log_decay;
    if constexpr (Recurrence::logits == logits_from::head) {
      if (!in.log_decay) {
        T* const rates = scratch.template take<T>(heads);
        for (std::int64_t h = 0; h < heads; ++h) rates[h] = static_cast<T>(Recurrence::default_log_decay(h, heads));
        a.log_decay = {rates, {{heads}}};
      }
    }
    if constexpr (Position::encodes) {
      const std::int64_t rates = in.theta ? in.theta.extent(0) : 1;
      const rank<3> shape{{rates, a.tokens, angles()}};
      const dynamic_view<3, T, Device> cosine{scratch.template take<T>(shape.size()), shape};
      const dynamic_view<3, T, Device> sine{scratch.template take<T>(shape.size()), shape};
      if (with_coordinates) {
        coordinate = {scratch.template take<T>(a.tokens * angles()), {{a.tokens, angles()}}};
      }
      encode_angles<Position, Dims, T>(on, tokens, keys, in.theta, cosine, sine, coordinate);
      a.cosine = cosine;
      a.sine = sine;
    }
    return a;
  }

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

  /// The grid of the tokens: from q's own axes, or as given where q is flattened.
  void locate() {
    const bool extents_given = in.grid.extents != typename grid<Dims>::indices{};
    if (tokens.prefix < 0) fail_value("grid.prefix", "zero or more", std::to_string(tokens.prefix));
    if (in.q.gridded() && (Dims > 1 || !extents_given)) {
      if (Dims > 1 && tokens.prefix > 0) {
        fail_shape("q", "flattened tokens [B, N, H, d], where the grid has a prefix", in.q.describe());
      }
      if (extents_given && in.grid.extents != in.q.extents()) {
        fail_shape("grid.extents", "those of q " + in.q.describe(), bracketed(in.grid.extents));
      }
      tokens.extents = in.q.extents();
      tokens.extents[0] -= tokens.prefix;
    }
    for (const std::int64_t extent : tokens.extents) {
      if (extent < 0) fail_shape("grid", "no negative extent", bracketed(tokens.extents));
    }
    if (tokens.size() != in.q.tokens()) {
      fail_shape("grid", "as many tokens as q " + in.q.describe() + " has",
                 "prefix " + std::to_string(tokens.prefix) + " and extents " + bracketed(tokens.extents));
    }
  }

  void decays() const {
    if constexpr (Recurrence::logits == logits_from::head) {
      if (!in.log_decay) return;
      extents("log_decay", in.log_decay, {{heads}});
      for (std::int64_t h = 0; h < heads; ++h) {
        if (!(in.log_decay(h) <= T(0))) {
          fail_value("log_decay", "zero or less", std::to_string(in.log_decay(h)) + " at head " + std::to_string(h));
        }
      }
    } else if (in.log_decay) {
      fail_value("log_decay", "nothing, for this recurrence has none", "an array");
    }
  }

  void allow_state(const char* argument) const {
    if (!Traversal::stateful) fail_value(argument, "nothing, for this traversal has no state", "a state");
    if (normalise_first) {
      fail_value(argument, "nothing, for rotated weights are normalised once and cannot be carried on", "a state");
    }
  }

  void given(const char* argument, bool is_given) const {
    if (!is_given) throw device_error(operation, argument, "a view of memory", "a null pointer");
  }

  template <class Shape, class U>
  void extents(const char* argument, const view<Shape, U, Device>& views,
               const std::array<std::int64_t, Shape::rank>& expected) const {
    given(argument, static_cast<bool>(views));
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
