// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/elementwise_recurrence.hpp>
#include <lightnet/core/error.hpp>
#include <lightnet/core/located.hpp>
#include <lightnet/core/reach.hpp>
#include <lightnet/recurrence/elementwise.hpp>
#include <lightnet/recurrence/scan_arguments.hpp>

#include <string>
#include <type_traits>

// What scan and its relatives take and give for recurrences whose state is a vector.

LIGHTNET_BEGIN_NAMESPACE

/// The inputs: x and, of `log_decay` and `decay`, the one that the recurrence takes. Everything else has a default.
///
/// A log decay above zero or NaN, or a decay outside [-1, 1], makes the outputs of that channel NaN from that token on.
/// `cumulative_lengths` packs sequences one after another into a batch of one: sequence s has the tokens from
/// cumulative_lengths(s) to cumulative_lengths(s + 1), and states have an entry a sequence.
template <class Recurrence, int Dims, class T, class Device>
  requires(elementwise_recurrence<Recurrence>)
struct scan_inputs<Recurrence, Dims, T, Device> {
  head_sequence<Dims, const T, Device> x{};                                   // [B, n_1..n_M, H, d]
  head_sequence<Dims, const T, Device> log_decay{};                           // [B, n_1..n_M, H, d]
  head_sequence<Dims, const T, Device> decay{};                               // [B, n_1..n_M, H, d]  signed
  dynamic_view<2, const bool, Device> mask{};                                 // [B, N]  false deletes a token
  dynamic_view<1, const std::int64_t, Device> cumulative_lengths{};           // [S + 1] from 0 to N
  typename Recurrence::template state<const accumulator<T>, Device> state{};  // initial state
  lightnet::grid<Dims> grid{};                                                // where x is flattened
};

/// The outputs: o is needed.
template <class Recurrence, int Dims, class T, class Device>
  requires(elementwise_recurrence<Recurrence>)
struct scan_outputs<Recurrence, Dims, T, Device> {
  head_sequence<Dims, T, Device> o{};                                   // [B, n_1..n_M, H, d]
  typename Recurrence::template state<accumulator<T>, Device> state{};  // final state
};

/// What comes back to scan_backward: the gradients by o and, optionally, by the final h.
template <class Recurrence, int Dims, class T, class Device>
  requires(elementwise_recurrence<Recurrence>)
struct scan_incoming<Recurrence, Dims, T, Device> {
  head_sequence<Dims, const T, Device> o{};               // [B, n_1..n_M, H, d]
  dynamic_view<3, const accumulator<T>, Device> state{};  // [B, H, d]
};

/// The gradients that scan_backward writes; each is optional.
template <class Recurrence, int Dims, class T, class Device>
  requires(elementwise_recurrence<Recurrence>)
struct scan_gradients<Recurrence, Dims, T, Device> {
  head_sequence<Dims, T, Device> x{}, log_decay{}, decay{};  // as the inputs
  dynamic_view<3, accumulator<T>, Device> state{};           // [B, H, d]  by the initial h
};

namespace detail {

/// Checks the arguments of an operation before it touches anything, and knows the sizes afterwards.
template <class Recurrence, class Traversal, int Dims, class T, class Device>
struct elementwise_checker {
  const char* operation;
  const scan_inputs<Recurrence, Dims, T, Device>& in;
  elementwise_arguments<Recurrence, Dims, T, Device> arguments{};

  elementwise_checker(const char* name, const scan_inputs<Recurrence, Dims, T, Device>& inputs)
      : operation{name}, in{inputs} {
    given("x", in.x);
    arguments.heads = in.x.heads();
    arguments.channels = in.x.channels();
    arguments.lines.batch = in.x.batch();
    if (in.grid.prefix > 0 && Traversal::along_axes) {
      fail_value("grid.prefix", "zero, for lines along axes go through places", std::to_string(in.grid.prefix));
    }
    arguments.lines.tokens = located(operation, "x", in.x, in.grid);
    arguments.x = in.x;
    arguments.decay = Recurrence::with_sign ? in.decay : in.log_decay;
    arguments.mask = in.mask;
    like_x(decay_name(), arguments.decay);
    other_decay(other_decay_name(), Recurrence::with_sign ? in.log_decay : in.decay);
    if (in.mask) extents("mask", in.mask, {{in.x.batch(), arguments.lines.tokens.size()}});
    if (in.cumulative_lengths) pack();
    state("state", in.state);
    arguments.state = in.state;
  }

  /// A sequence that is written.
  void output(const char* argument, const head_sequence<Dims, T, Device>& sequence) const {
    like_x(argument, sequence);
    distinct(argument, sequence);
  }

  /// A sequence of the batch, tokens, heads and channels of x.
  template <class U>
  void like_x(const char* argument, const head_sequence<Dims, U, Device>& sequence) const {
    given(argument, sequence);
    const grid<Dims>& tokens = arguments.lines.tokens;
    const bool same_axes =
        Dims == 1 || !sequence.gridded() || (tokens.prefix == 0 && sequence.extents() == tokens.extents);
    if (sequence.batch() != in.x.batch() || sequence.tokens() != tokens.size() || sequence.heads() != in.x.heads() ||
        sequence.channels() != in.x.channels() || !same_axes) {
      throw shape_error(operation, argument, "the extents of x " + in.x.describe(), sequence.describe());
    }
  }

  /// A sequence of decays that the recurrence does not take.
  template <class U>
  void other_decay(const char* argument, const head_sequence<Dims, U, Device>& sequence) const {
    if (sequence) {
      fail_value(argument, std::string{"nothing, for this recurrence takes "} + decay_name(), "an array");
    }
  }

  /// A state, where it is given.
  template <class U>
  void state(const char* argument, const vector_state<U, Device>& views) const {
    if (!views && !views.decay) return;
    part(argument, views.h);
    if (views.decay) part(argument, views.decay);
  }
  /// A part of a state [B, H, d], or a gradient by one.
  template <class U>
  void part(const char* argument, const dynamic_view<3, U, Device>& views) const {
    if (!Traversal::stateful) fail_value(argument, "nothing, for this traversal has no state", "a state");
    extents(argument, views, {{arguments.lines.sequences(), arguments.heads, arguments.channels}});
    if constexpr (!std::is_const_v<U>) distinct(argument, views);
  }

  void single_token(const typename Recurrence::template state<accumulator<T>, Device>& kept) const {
    if (arguments.lines.tokens.size() != 1) throw shape_error(operation, "x", "one token", in.x.describe());
    if (in.cumulative_lengths) {
      fail_value("cumulative_lengths", "nothing, for a step takes one token of every sequence of the batch",
                 "an array");
    }
    if (in.state) fail_value("state", "nothing: a step keeps its state in outputs.state", "a state");
    given("outputs.state", kept.h);
  }

 private:
  static constexpr const char* decay_name() { return Recurrence::with_sign ? "decay" : "log_decay"; }
  static constexpr const char* other_decay_name() { return Recurrence::with_sign ? "log_decay" : "decay"; }

  /// The sequences that are packed into one.
  void pack() {
    const auto& ends = in.cumulative_lengths;
    const std::int64_t tokens = in.x.tokens(), sequences = ends.extent(0) - 1;
    if (Dims != 1) fail_value("cumulative_lengths", "nothing, for only 1-D sequences are packed", ends.describe());
    if (in.x.batch() != 1) throw shape_error(operation, "x", "a batch of 1, for packed sequences", in.x.describe());
    if (in.grid.prefix != 0) fail_value("grid.prefix", "zero, for packed sequences", std::to_string(in.grid.prefix));
    bool rising = sequences > 0 || (sequences == 0 && tokens == 0);
    if constexpr (std::is_same_v<Device, cpu>) {  // what lies on a device, its kernels check
      rising = sequences >= 0 && ends(0) == 0 && ends(sequences) == tokens;
      for (std::int64_t s = 0; rising && s < sequences; ++s) rising = ends(s) <= ends(s + 1);
    }
    if (!rising) {
      fail_value("cumulative_lengths",
                 "numbers that do not fall, from 0 to the " + std::to_string(tokens) + " tokens of x",
                 ends.describe() + " that do not");
    }
    check_reach(operation, "cumulative_lengths", ends);
    arguments.lines.cumulative_lengths = ends;
  }

  template <class Views>
  void given(const char* argument, const Views& views) const {
    if (!views) throw device_error(operation, argument, "a view of memory", "a null pointer");
    check_reach(operation, argument, views);
  }
  template <class Shape, class U>
  void extents(const char* argument, const view<Shape, U, Device>& views,
               const std::array<std::int64_t, Shape::rank>& expected) const {
    given(argument, views);
    if (views.extents() != expected) {
      throw shape_error(operation, argument, "extents " + bracketed(expected), views.describe());
    }
  }
  template <class Views>
  void distinct(const char* argument, const Views& views) const {
    if (views.repeats()) {
      throw shape_error(operation, argument, "a place for each element", views.describe() + " with a stride of 0");
    }
  }

  [[noreturn]] void fail_value(const char* argument, const std::string& expected, const std::string& came) const {
    throw value_error(operation, argument, expected, came);
  }
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
