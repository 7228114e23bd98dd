// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/convert.hpp>
#include <lightnet/backend/linear_recurrence.hpp>
#include <lightnet/backend/reduce.hpp>
#include <lightnet/position/md_lrpe.hpp>
#include <lightnet/position/none.hpp>
#include <lightnet/recurrence/scan_checker.hpp>
#include <lightnet/traversal/axial.hpp>
#include <lightnet/traversal/bidirectional.hpp>
#include <lightnet/traversal/causal.hpp>
#include <lightnet/traversal/global.hpp>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Whether the tokens of a traversal may be taken in any order that it takes them in.
template <class Recurrence, class Traversal>
inline constexpr bool traversable = Traversal::ordered || Recurrence::commutative;

/// Whether an encoding stays relative: one that mixes channels must not meet weights that differ between them, unless
/// they are normalised before it.
template <class Recurrence, class Traversal, class Position>
inline constexpr bool encodable = !(Position::mixes_channels && Recurrence::per_channel && Traversal::ordered);

template <class Recurrence, class Traversal, class Position>
inline constexpr bool combinable = traversable<Recurrence, Traversal>&& encodable<Recurrence, Traversal, Position>;

}  // namespace detail

// One place for the sentences that a wrong combination gives; an entry point's body is guarded so that no other follows.
#define LIGHTNET_CHECK_COMBINATION(Recurrence, Traversal, Position)                                                   \
  static_assert(recurrence<Recurrence> && traversal<Traversal> && position<Position>,                                 \
                "lightnet: a policy lacks what core/concepts.hpp asks of recurrences, traversals and positions");     \
  static_assert(detail::traversable<Recurrence, Traversal>,                                                           \
                "lightnet: the traversal global needs a commutative recurrence, because one reduction has no order; " \
                "use bidirectional (2 scans) or axial (2 scans an axis) with this one");                              \
  static_assert(detail::encodable<Recurrence, Traversal, Position>,                                                   \
                "lightnet: a rotation mixes channels, and the weights of this recurrence differ between them; "       \
                "use md_lrpe (cosine) here or, with a commutative recurrence, the traversal global")

/// o = the recurrence of q, k and v along the traversal (arXiv 2405.21022).
///
/// Shapes: q, k [B, n_1..n_M, H, d], v, o [B, n_1..n_M, H, e], or with the grid flattened, [B, N, H, *]; any strides.
/// T is double, float, bfloat16 or float16; sums are made, and states kept, in accumulator<T>. Throws shape_error,
/// value_error or device_error before anything is written. o must not overlap an input.
template <class Recurrence, class Traversal, class Position = no_position, int Dims = 1, class T = float, class Device>
  requires(!elementwise_recurrence<Recurrence>)
void scan(execution<Device>& on, const scan_inputs<Recurrence, Dims, T, std::type_identity_t<Device>>& inputs,
          const scan_outputs<Recurrence, Dims, T, std::type_identity_t<Device>>& outputs) {
  LIGHTNET_CHECK_COMBINATION(Recurrence, Traversal, Position);
  if constexpr (detail::combinable<Recurrence, Traversal, Position>) {
    typename execution<Device>::scope scratch{on};
    detail::scan_checker<Recurrence, Traversal, Position, Dims, T, Device> check{"scan", inputs};
    check.output("o", outputs.o, check.values);
    check.state("outputs.state", outputs.state);
    auto arguments = check.arguments(on, scratch, false);
    if constexpr (!Traversal::ordered) {
      detail::recurrence_outputs<Recurrence, Dims, T, Device> to{outputs.o, outputs.state, false};
      detail::linear_reduction_forward<Recurrence, Position>(on, arguments, to);
    } else {
      if constexpr (Traversal::scans(Dims) == 2 && !Traversal::along_axes) {
        if (detail::linear_recurrence_both_ways<Recurrence, Position>(on, arguments, outputs.o)) return;
      }
      // The outputs of several passes are added up in the type of sums, and rounded once.
      using sum_type = std::conditional_t<Traversal::scans(Dims) == 1, T, accumulator<T>>;
      detail::recurrence_outputs<Recurrence, Dims, sum_type, Device> to{{}, outputs.state, false};
      if constexpr (std::is_same_v<sum_type, T>) {
        to.o = outputs.o;
      } else {
        const rank<4> shape{{check.batch, check.tokens.size(), check.heads, check.values}};
        to.o = dynamic_view<4, sum_type, Device>{scratch.template take<sum_type>(shape.size()), shape};
      }
      detail::for_each_pass<Traversal>(arguments.lines, [&](const auto& lines, bool first) {
        arguments.lines = lines;
        to.accumulate = !first;
        detail::linear_recurrence_forward<Recurrence, Position>(on, arguments, to);
      });
      if constexpr (!std::is_same_v<sum_type, T>) detail::convert_sequence<T, sum_type>(on, to.o, outputs.o);
    }
  }
}

/// The gradients of scan with respect to every input. `incoming.o` has the shape of o; each output is optional and
/// overwritten. Inputs are those of the forward call. Throws as scan does.
template <class Recurrence, class Traversal, class Position = no_position, int Dims = 1, class T = float, class Device>
  requires(!elementwise_recurrence<Recurrence>)
void scan_backward(execution<Device>& on, const scan_inputs<Recurrence, Dims, T, std::type_identity_t<Device>>& inputs,
                   const scan_incoming<Recurrence, Dims, T, std::type_identity_t<Device>>& incoming,
                   const scan_gradients<Recurrence, Dims, T, std::type_identity_t<Device>>& gradients) {
  LIGHTNET_CHECK_COMBINATION(Recurrence, Traversal, Position);
  if constexpr (detail::combinable<Recurrence, Traversal, Position>) {
    using sum_type = accumulator<T>;
    typename execution<Device>::scope scratch{on};
    detail::scan_checker<Recurrence, Traversal, Position, Dims, T, Device> check{"scan_backward", inputs};
    check.like_q("incoming.o", incoming.o, check.values);
    check.gradient("incoming.state", incoming.state);
    if (gradients.q) check.output("gradients.q", gradients.q, check.keys);
    if (gradients.k) check.output("gradients.k", gradients.k, check.keys);
    if (gradients.v) check.output("gradients.v", gradients.v, check.values);
    check.logits_gradient("gradients.logits", gradients.logits, inputs.logits);
    check.logits_gradient("gradients.log_decay", gradients.log_decay, inputs.log_decay);
    check.logits_gradient("gradients.decay", gradients.decay, inputs.decay);
    check.gradient("gradients.state", gradients.state);
    check.shared("gradients.theta", gradients.theta, inputs.theta, Position::encodes, inputs.theta.extents());
    auto arguments = check.arguments(on, scratch, static_cast<bool>(gradients.theta));
    const auto& logits = gradients.logits ? gradients.logits : gradients.decay ? gradients.decay : gradients.log_decay;
    detail::recurrence_gradients<Dims, T, Device> to;
    to.o = incoming.o;
    to.final_state = incoming.state;
    to.q = gradients.q;
    to.k = gradients.k;
    to.v = gradients.v;
    to.state = gradients.state;
    if constexpr (Recurrence::logits == logits_from::tokens) to.logits = logits;
    const auto pass = [&](bool first, const auto& pull) {
      typename execution<Device>::scope parts{on};
      const std::int64_t count = arguments.lines.count(), heads = check.heads, share = inputs.theta.extent(1);
      to.accumulate = !first;
      if constexpr (Recurrence::logits == logits_from::head) {
        if (logits) to.head_logits = {parts.template take<sum_type>(count * heads), {{count, heads}}};
      }
      if (gradients.theta) {
        to.theta = {parts.template take<sum_type>(count * heads * share), {{count, heads, share}}};
        to.coordinate = check.coordinate;
      }
      pull();
      if constexpr (Recurrence::logits == logits_from::head) {
        if (logits) detail::sum_shares(on, to.head_logits, logits, !first);
      }
      if (gradients.theta) detail::sum_shares(on, to.theta, gradients.theta, !first);
    };
    if constexpr (!Traversal::ordered) {
      pass(true, [&] { detail::linear_reduction_backward<Recurrence, Position>(on, arguments, to); });
    } else {
      detail::for_each_pass<Traversal>(arguments.lines, [&](const auto& lines, bool first) {
        arguments.lines = lines;
        pass(first, [&] {
          if constexpr (Recurrence::with_sign) {
            detail::signed_recurrence_backward<Recurrence, Position>(on, arguments, to);
          } else {
            detail::linear_recurrence_backward<Recurrence, Position>(on, arguments, to);
          }
        });
      });
    }
  }
}

/// One token of every sequence: the state takes it in and is read, in place. Shapes as for scan with N = 1; the place of
/// the token is `inputs.grid.offset`. `outputs.state` holds the state before the call and after it; `inputs.state` stays
/// empty.
template <class Recurrence, class Position = no_position, int Dims = 1, class T = float, class Device>
  requires(!elementwise_recurrence<Recurrence>)
void scan_step(execution<Device>& on, const scan_inputs<Recurrence, Dims, T, std::type_identity_t<Device>>& inputs,
               const scan_outputs<Recurrence, Dims, T, std::type_identity_t<Device>>& outputs) {
  LIGHTNET_CHECK_COMBINATION(Recurrence, causal, Position);
  if constexpr (detail::encodable<Recurrence, causal, Position>) {
    typename execution<Device>::scope scratch{on};
    detail::scan_checker<Recurrence, causal, Position, Dims, T, Device> check{"scan_step", inputs};
    check.single_token(inputs.state, outputs.state);
    check.output("o", outputs.o, check.values);
    check.state("outputs.state", outputs.state);
    detail::linear_recurrence_step<Recurrence, Position>(on, check.arguments(on, scratch, false),
                                                         {outputs.o, outputs.state, false});
  }
}

/// The short form: views on memory you own, [B, n_1..n_M, H, d], a default execution, no states.
template <class Recurrence, class Traversal, class Position = no_position, class Q, class K, class V, class O, class TQ,
          class TK, class TV, class T, class Device>
  requires(Q::rank == K::rank && Q::rank == V::rank && Q::rank == O::rank && Q::rank >= 4)
void scan(const view<Q, TQ, Device>& q, const view<K, TK, Device>& k, const view<V, TV, Device>& v,
          const view<O, T, Device>& o) {
  execution<Device> on;
  scan<Recurrence, Traversal, Position, static_cast<int>(Q::rank) - 3, T>(on, {.q = q, .k = k, .v = v}, {.o = o});
}

#undef LIGHTNET_CHECK_COMBINATION

LIGHTNET_END_NAMESPACE
