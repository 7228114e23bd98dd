// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/convert.hpp>
#include <lightnet/backend/elementwise_recurrence.hpp>
#include <lightnet/position/none.hpp>
#include <lightnet/recurrence/elementwise_arguments.hpp>
#include <lightnet/recurrence/signed_decay.hpp>
#include <lightnet/traversal/axial.hpp>
#include <lightnet/traversal/bidirectional.hpp>
#include <lightnet/traversal/causal.hpp>

// scan and its relatives for recurrences whose state is a vector: elementwise and signed_decay<elementwise>.

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Where a call with several passes sums what it writes in a storage type of two bytes: a sequence of the accumulator
/// in the workspace, so that every element is rounded once. Otherwise the sequence itself.
template <class Traversal, int Dims, class T, class Device>
class pass_sums {
 public:
  static constexpr bool apart = !std::is_same_v<T, accumulator<T>> && Traversal::scans(Dims) > 1;
  using stored = std::conditional_t<apart, accumulator<T>, T>;

  head_sequence<Dims, stored, Device> sums;

  pass_sums(typename execution<Device>::scope& scratch, const head_sequence<Dims, T, Device>& to) : to_{to} {
    if constexpr (apart) {
      if (!to) return;
      const rank<4> shape{{to.batch(), to.tokens(), to.heads(), to.channels()}};
      sums = dynamic_view<4, stored, Device>{scratch.template take<stored>(shape.size()), shape};
    } else {
      sums = to;
    }
  }
  /// Rounds the sums to where they belong.
  void store(execution<Device>& on) const {
    if constexpr (apart) {
      if (to_) convert_sequence<T, stored>(on, sums, to_);
    }
  }

 private:
  head_sequence<Dims, T, Device> to_;
};

}  // namespace detail

// One place for the sentences that a wrong combination gives; the bodies are guarded so that no other error follows.
#define LIGHTNET_CHECK_COMBINATION(Traversal, Position)                                                               \
  static_assert(traversal<Traversal> && position<Position>,                                                           \
                "lightnet: a policy lacks what core/concepts.hpp asks of traversals and positions");                  \
  static_assert(Traversal::ordered,                                                                                   \
                "lightnet: the traversal global needs a commutative recurrence, because one reduction has no order; " \
                "use bidirectional (2 scans) or axial (2 scans an axis) with this one");                              \
  static_assert(!Position::encodes,                                                                                   \
                "lightnet: a position encoding inside the recurrence turns queries and keys, and this one has none; " \
                "use no_position, and md_tpe on the input")

/// o = the element-wise recurrence of x along the traversal.
///
/// Shapes: x, log_decay or decay, and o [B, n_1..n_M, H, d], or with the grid flattened, [B, N, H, d]; any strides. The
/// mask is [B, N]. Throws shape_error, value_error or device_error before anything is written. o must not overlap an
/// input, but under causal it may be x itself; the final state may be the initial one.
template <class Recurrence, class Traversal, class Position = no_position, int Dims = 1, class T = float, class Device>
  requires(elementwise_recurrence<Recurrence>)
void scan(execution<Device>& on, const scan_inputs<Recurrence, Dims, T, std::type_identity_t<Device>>& inputs,
          const scan_outputs<Recurrence, Dims, T, std::type_identity_t<Device>>& outputs) {
  LIGHTNET_CHECK_COMBINATION(Traversal, Position);
  if constexpr (Traversal::ordered && !Position::encodes) {
    detail::elementwise_checker<Recurrence, Traversal, Dims, T, Device> check{"scan", inputs};
    check.output("o", outputs.o);
    check.state("outputs.state", outputs.state);
    typename execution<Device>::scope scratch{on};
    const detail::pass_sums<Traversal, Dims, T, Device> o{scratch, outputs.o};
    auto arguments = check.arguments;
    detail::for_each_pass<Traversal>(arguments.lines, [&](const auto& lines, bool first) {
      arguments.lines = lines;
      detail::elementwise_outputs<Recurrence, Dims, typename decltype(o)::stored, Device> to{o.sums, outputs.state,
                                                                                             !first};
      detail::elementwise_recurrence_forward(on, arguments, to);
    });
    o.store(on);
  }
}

/// The gradients of scan with respect to every input. `incoming.o` has the shape of o; each output is optional and
/// overwritten. Inputs are those of the forward call. The product of the decays in a state has no gradient. Throws as
/// scan does.
template <class Recurrence, class Traversal, class Position = no_position, int Dims = 1, class T = float, class Device>
  requires(elementwise_recurrence<Recurrence>)
void scan_backward(execution<Device>& on, const scan_inputs<Recurrence, Dims, T, std::type_identity_t<Device>>& inputs,
                   const scan_incoming<Recurrence, Dims, T, std::type_identity_t<Device>>& incoming,
                   const scan_gradients<Recurrence, Dims, T, std::type_identity_t<Device>>& gradients) {
  LIGHTNET_CHECK_COMBINATION(Traversal, Position);
  if constexpr (Traversal::ordered && !Position::encodes) {
    detail::elementwise_checker<Recurrence, Traversal, Dims, T, Device> check{"scan_backward", inputs};
    check.like_x("incoming.o", incoming.o);
    if (incoming.state) check.part("incoming.state", incoming.state);
    const auto& decay = Recurrence::with_sign ? gradients.decay : gradients.log_decay;
    if (gradients.x) check.output("gradients.x", gradients.x);
    if (decay) check.output(Recurrence::with_sign ? "gradients.decay" : "gradients.log_decay", decay);
    check.other_decay(Recurrence::with_sign ? "gradients.log_decay" : "gradients.decay",
                      Recurrence::with_sign ? gradients.log_decay : gradients.decay);
    if (gradients.state) check.part("gradients.state", gradients.state);
    typename execution<Device>::scope scratch{on};
    const detail::pass_sums<Traversal, Dims, T, Device> dx{scratch, gradients.x}, ddecay{scratch, decay};
    auto arguments = check.arguments;
    detail::for_each_pass<Traversal>(arguments.lines, [&](const auto& lines, bool first) {
      arguments.lines = lines;
      detail::elementwise_gradients<Dims, T, typename decltype(dx)::stored, Device> to{
          incoming.o, incoming.state, dx.sums, ddecay.sums, gradients.state, !first};
      detail::elementwise_recurrence_backward(on, arguments, to);
    });
    dx.store(on);
    ddecay.store(on);
  }
}

/// One token of every sequence: the state takes it in and is the output, in place. Shapes as for scan with N = 1.
/// `outputs.state` holds the state before the call and after it; `inputs.state` stays empty.
template <class Recurrence, class Position = no_position, int Dims = 1, class T = float, class Device>
  requires(elementwise_recurrence<Recurrence>)
void scan_step(execution<Device>& on, const scan_inputs<Recurrence, Dims, T, std::type_identity_t<Device>>& inputs,
               const scan_outputs<Recurrence, Dims, T, std::type_identity_t<Device>>& outputs) {
  LIGHTNET_CHECK_COMBINATION(causal, Position);
  if constexpr (!Position::encodes) {
    detail::elementwise_checker<Recurrence, causal, Dims, T, Device> check{"scan_step", inputs};
    check.single_token(outputs.state);
    check.output("o", outputs.o);
    check.state("outputs.state", outputs.state);
    check.arguments.state = outputs.state;
    detail::elementwise_outputs<Recurrence, Dims, T, Device> to{outputs.o, outputs.state};
    detail::elementwise_recurrence_forward(on, check.arguments, to);
  }
}

#undef LIGHTNET_CHECK_COMBINATION

/// The state of the tokens of `left` followed by those of `right`, of every sequence: h = right.decay left.h + right.h.
/// States are those that scan gives, right's from a scan that started from nothing; `to` may be left or right.
/// right.decay is needed, and left.decay where `to` has one. Throws device_error or shape_error before anything is
/// written.
template <class Recurrence, class T, class Device>
  requires elementwise_recurrence<Recurrence>
void merge_states(execution<Device>& on,
                  const typename Recurrence::template state<const T, std::type_identity_t<Device>>& left,
                  const typename Recurrence::template state<const T, std::type_identity_t<Device>>& right,
                  const typename Recurrence::template state<T, std::type_identity_t<Device>>& to) {
  const auto check = [&](const char* name, const auto& view, const char* why) {
    if (!view) throw device_error("merge_states", name, why, "a null pointer");
    if (view.extents() != left.h.extents()) {
      throw shape_error("merge_states", name, "extents " + detail::bracketed(left.h.extents()), view.describe());
    }
    detail::check_reach("merge_states", name, view);
  };
  check("h", left.h, "a view of memory in left, right and to");
  check("h", right.h, "a view of memory in left, right and to");
  check("h", to.h, "a view of memory in left, right and to");
  check("right.decay", right.decay, "the product of the decays, by which the left state decays");
  if (to.decay) {
    check("to.decay", to.decay, "a view of memory");
    check("left.decay", left.decay, "a view of memory where to.decay is one");
  }
  detail::merge_vector_states<Recurrence, T>(on, left, right, to);
}

LIGHTNET_END_NAMESPACE
