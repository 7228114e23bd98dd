// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/parallel.hpp>
#include <lightnet/core/concepts.hpp>
#include <lightnet/core/math.hpp>
#include <lightnet/core/state.hpp>
#include <lightnet/monoid/log_sum_exp.hpp>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {
template <class Recurrence, class T>
void check_states(const typename Recurrence::template state<const T, cpu>& left,
                  const typename Recurrence::template state<const T, cpu>& right,
                  const typename Recurrence::template state<T, cpu>& to) {
  const auto given = [](const char* name, const auto& view, const char* why) {
    if (!view) throw device_error("merge_states", name, why, "a null pointer");
  };
  const auto same = [](const char* name, const auto& view, const auto& expected) {
    if (view && view.extents() != expected.extents()) {
      throw shape_error("merge_states", name, "extents " + bracketed(expected.extents()), view.describe());
    }
  };
  const auto both = [&](const char* name, const auto& a, const auto& b, const auto& c) {
    given(name, a, "a view of memory in left, right and to");
    given(name, b, "a view of memory in left, right and to");
    given(name, c, "a view of memory in left, right and to");
    same(name, b, a);
    same(name, c, a);
  };
  both("sum", left.sum, right.sum, to.sum);
  if constexpr (Recurrence::framed) {
    both("exponent", left.exponent, right.exponent, to.exponent);
    both("normaliser", left.normaliser, right.normaliser, to.normaliser);
    same("normaliser", left.normaliser, left.exponent);
    if constexpr (Recurrence::weight == weight_of::running_sum) {
      given("right.input", right.input, "the plain sum of the inputs, which weighs what comes after the left state");
      same("right.input", right.input, left.sum);
      if (to.input) given("left.input", left.input, "a view of memory where to.input is one");
      same("left.input", left.input, left.sum);
      same("to.input", to.input, left.sum);
    }
  } else {
    if (!Recurrence::commutative || to.decay) {
      given("right.decay", right.decay, "the product of the decays, by which the left state decays");
    }
    if (to.decay) given("left.decay", left.decay, "a view of memory where to.decay is one");
    if (right.decay) same("left.decay", left.decay, right.decay);
    if (right.decay) same("to.decay", to.decay, right.decay);
  }
}
}  // namespace detail

/// The state of the tokens of `left` followed by those of `right`, of every sequence and head: tiles of a picture, frames
/// of a video, shards on several machines. States are those that scan gives, right's from a scan that started from
/// nothing; `to` may be left or right. A decay needs right.decay, additive_plain right.input; where `to` has one, left
/// must too. A commutative recurrence may merge in any order. Throws device_error or shape_error before anything is
/// written.
template <class Recurrence, class T>
  requires matrix_recurrence<Recurrence>
void merge_states(execution<cpu>& on, const typename Recurrence::template state<const T, cpu>& left,
                  const typename Recurrence::template state<const T, cpu>& right,
                  const typename Recurrence::template state<T, cpu>& to) {
  detail::check_states<Recurrence, T>(left, right, to);
  const std::int64_t heads = left.sum.extent(1), rows = left.sum.extent(2), values = left.sum.extent(3);
  detail::parallel_for(on, left.sum.extent(0) * heads, [&](std::int64_t item, int) {
    const std::int64_t b = item / heads, h = item % heads;
    // Every weight i has rows i, i + weights, ... of the state: one, or two under the cosine encoding, or all.
    const auto merge_weight = [&](std::int64_t i, std::int64_t weights) {
      T keep = T(1), add = T(1), before = T(0);
      if constexpr (Recurrence::framed) {
        const auto by = log_sum_exp<T>::rescale(left.exponent(b, h, i), right.exponent(b, h, i));
        keep = by.left;
        add = by.right;
        before = keep == T(0) ? T(0) : keep * left.normaliser(b, h, i);
        const T after = add == T(0) ? T(0) : add * right.normaliser(b, h, i);
        to.exponent(b, h, i) = by.exponent;
        to.normaliser(b, h, i) = before + after;
      } else if (right.decay) {
        keep = right.decay(b, h, i);
        if (to.decay) to.decay(b, h, i) = left.decay(b, h, i) * keep;
      }
      for (std::int64_t row = i; row < rows; row += weights) {
        for (std::int64_t j = 0; j < values; ++j) {
          T sum = keep * left.sum(b, h, row, j) + add * right.sum(b, h, row, j);
          if constexpr (Recurrence::weight == weight_of::running_sum) {
            const T input = right.input(b, h, row, j);
            sum += before * input;
            if (to.input) to.input(b, h, row, j) = left.input(b, h, row, j) + input;
          }
          to.sum(b, h, row, j) = sum;
        }
      }
    };
    std::int64_t weights = 1;
    if constexpr (Recurrence::framed) {
      weights = left.normaliser.extent(2);
    } else if (right.decay) {
      weights = right.decay.extent(2);
    }
    for (std::int64_t i = 0; i < weights; ++i) merge_weight(i, weights);
  });
}

LIGHTNET_END_NAMESPACE
