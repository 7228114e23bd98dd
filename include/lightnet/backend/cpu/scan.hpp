// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/lanes.hpp>
#include <lightnet/backend/cpu/parallel.hpp>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Walks one line of `length` elements of a monoid: at place i, `store(i, before, after)` gets the product of all
/// elements before i and that with element i, `load(i)`. Gives the product of the whole line. A line may be a vector
/// register wide: then it is as many lines as the register has lanes.
template <class Monoid, class Load, class Store>
typename Monoid::element scan_line(std::int64_t length, bool reversed, const typename Monoid::element& initial,
                                   const Load& load, const Store& store) noexcept {
  typename Monoid::element running = initial;
  for (std::int64_t step = 0; step < length; ++step) {
    const std::int64_t i = reversed ? length - 1 - step : step;
    const typename Monoid::element after = Monoid::combine(running, load(i));
    store(i, running, after);
    running = after;
  }
  return running;
}

/// Neighbouring lines that share a register: `count` of them, `stride` apart. Lanes past the count are zero, and not
/// written.
template <class T>
struct line_group {
  std::int64_t count = lane_count<T>;
  std::int64_t stride = 1;

  lanes<T> load(const T* from) const noexcept {
    if (count == lane_count<T> && stride == 1) return load_lanes(from);
    lanes<T> value{};
    for (std::int64_t lane = 0; lane < count; ++lane) value[lane] = from[lane * stride];
    return value;
  }
  void store(T* to, const lanes<T>& value) const noexcept {
    if (count == lane_count<T> && stride == 1) return store_lanes(to, value);
    for (std::int64_t lane = 0; lane < count; ++lane) to[lane * stride] = value[lane];
  }
};

template <class T>
T sum_of_lanes(const lanes<T>& value) noexcept {
  T sum = T(0);
  for (int lane = 0; lane < lane_count<T>; ++lane) sum += value[lane];
  return sum;
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
