// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/concepts.hpp>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {
template <class Decay>
constexpr bool key_is_complement() noexcept {
  if constexpr (matrix_recurrence<Decay>) {
    return Decay::kappa == kappa_of::complement;
  } else {
    return false;
  }
}
}  // namespace detail

/// A decay recurrence with decays in [-1, 1], a = 2 sigmoid - 1 for instance, which can follow a state that flips (arXiv
/// 2411.12537). The decays arrive as they are, as `decay` of the shape of `log_decay`; 0 resets the state. Decay is
/// constant_decay, scalar_decay, vector_decay or elementwise.
template <class Decay>
struct signed_decay : Decay {
  static_assert(Decay::logits == logits_from::tokens || Decay::logits == logits_from::head,
                "lightnet: signed_decay takes constant_decay, scalar_decay, vector_decay or elementwise, because other "
                "recurrences have no decay");
  static_assert(!detail::key_is_complement<Decay>(),
                "lightnet: signed_decay does not take hgrn2, because 1 - a of a negative decay grows; use vector_decay "
                "with keys of your own");
  static constexpr const char* name = "signed_decay";
  static constexpr bool with_sign = true;
};

LIGHTNET_END_NAMESPACE
