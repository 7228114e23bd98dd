// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/for_each.hpp>
#include <lightnet/core/concepts.hpp>
#include <lightnet/core/math.hpp>
#include <lightnet/core/reach.hpp>
#include <lightnet/core/state.hpp>
#include <lightnet/monoid/log_sum_exp.hpp>

#include <type_traits>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {
template <class Recurrence, class T, class Device>
void check_states(const typename Recurrence::template state<const T, Device>& left,
                  const typename Recurrence::template state<const T, Device>& right,
                  const typename Recurrence::template state<T, Device>& to) {
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
  const auto reach = [](const char* name, const auto&... views) { (check_reach("merge_states", name, views), ...); };
  reach("sum", left.sum, right.sum, to.sum);
  if constexpr (Recurrence::framed) {
    reach("exponent", left.exponent, right.exponent, to.exponent);
    reach("normaliser", left.normaliser, right.normaliser, to.normaliser);
    reach("input", left.input, right.input, to.input);
  } else {
    reach("decay", left.decay, right.decay, to.decay);
  }
}

// One weight i of a head, and its rows i, i + weights, ... of the state: one, or two under the cosine encoding, or all.
template <class Recurrence, class T, class Device>
struct merged_weight {
  typename Recurrence::template state<const T, Device> left, right;
  typename Recurrence::template state<T, Device> to;
  std::int64_t heads, weights;

  struct factors {
    T keep, add;
    T before;               // the left normaliser in the common frame
    T after;                // the whole normaliser, or the product of the decays
    std::int32_t exponent;  // of the common frame
  };
  struct place {
    std::int64_t b, h, i;
  };
  LIGHTNET_HOST_DEVICE place at(std::int64_t item) const noexcept {
    return {item / weights / heads, item / weights % heads, item % weights};
  }

  LIGHTNET_HOST_DEVICE factors begin(std::int64_t item) const noexcept {
    const auto [b, h, i] = at(item);
    factors by{T(1), T(1), T(0), T(0), 0};
    if constexpr (Recurrence::framed) {
      const auto frame = log_sum_exp<T>::rescale(left.exponent(b, h, i), right.exponent(b, h, i));
      by.keep = frame.left;
      by.add = frame.right;
      by.exponent = frame.exponent;
      by.before = by.keep == T(0) ? T(0) : by.keep * left.normaliser(b, h, i);
      by.after = by.before + (by.add == T(0) ? T(0) : by.add * right.normaliser(b, h, i));
    } else if (right.decay) {
      by.keep = right.decay(b, h, i);
      if (to.decay) by.after = left.decay(b, h, i) * by.keep;
    }
    return by;
  }

  LIGHTNET_HOST_DEVICE void move(std::int64_t item, const factors& by, std::int64_t first,
                                 std::int64_t step) const noexcept {
    const auto [b, h, i] = at(item);
    const std::int64_t rows = left.sum.extent(2), values = left.sum.extent(3);
    for (std::int64_t row = i; row < rows; row += weights) {
      for (std::int64_t j = first; j < values; j += step) {
        T sum = by.keep * left.sum(b, h, row, j) + by.add * right.sum(b, h, row, j);
        if constexpr (Recurrence::weight == weight_of::running_sum) {
          const T input = right.input(b, h, row, j);
          sum += by.before * input;
          if (to.input) to.input(b, h, row, j) = left.input(b, h, row, j) + input;
        }
        to.sum(b, h, row, j) = sum;
      }
    }
  }

  LIGHTNET_HOST_DEVICE void end(std::int64_t item, const factors& by) const noexcept {
    const auto [b, h, i] = at(item);
    if constexpr (Recurrence::framed) {
      to.exponent(b, h, i) = by.exponent;
      to.normaliser(b, h, i) = by.after;
    } else if (right.decay && to.decay) {
      to.decay(b, h, i) = by.after;
    }
  }
};
}  // namespace detail

/// The state of the tokens of `left` followed by those of `right`, of every sequence and head: tiles of a picture, frames
/// of a video, shards on several machines. States are those that scan gives, right's from a scan that started from
/// nothing; `to` may be left or right. A decay needs right.decay, additive_plain right.input; where `to` has one, left
/// must too. A commutative recurrence may merge in any order. Throws device_error or shape_error before anything is
/// written.
template <class Recurrence, class T, class Device>
  requires matrix_recurrence<Recurrence>
void merge_states(execution<Device>& on,
                  const std::type_identity_t<typename Recurrence::template state<const T, Device>>& left,
                  const std::type_identity_t<typename Recurrence::template state<const T, Device>>& right,
                  const std::type_identity_t<typename Recurrence::template state<T, Device>>& to) {
  detail::check_states<Recurrence, T, Device>(left, right, to);
  std::int64_t weights = 1;
  if constexpr (Recurrence::framed) {
    weights = left.normaliser.extent(2);
  } else if (right.decay) {
    weights = right.decay.extent(2);
  }
  const std::int64_t heads = left.sum.extent(1);
  detail::for_each_item(on, "merge_states", left.sum.extent(0) * heads * weights,
                        detail::merged_weight<Recurrence, T, Device>{left, right, to, heads, weights});
}

LIGHTNET_END_NAMESPACE
