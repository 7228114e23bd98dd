// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/monoid/addition.hpp>
#include <lightnet/recurrence/constant_decay.hpp>

LIGHTNET_BEGIN_NAMESPACE

/// Plain linear attention, without a decay and without a normaliser (arXiv 2006.16236):
///   S_t = S_{t-1} + k_t v_t^T,   o_t = S_t^T q_t.
/// It commutes.
struct no_decay : constant_decay {
  template <class T, class Payload = T>
  using monoid = addition<T, Payload>;

  static constexpr const char* name = "no_decay";
  static constexpr bool commutative = monoid<double>::commutative;
  static constexpr logits_from logits = logits_from::none;
};

LIGHTNET_END_NAMESPACE
