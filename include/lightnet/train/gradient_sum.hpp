// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/execution.hpp>
#include <lightnet/backend/shards.hpp>
#include <lightnet/core/half.hpp>
#include <lightnet/core/tensor.hpp>

#include <algorithm>
#include <bit>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// The sum of gradients that come in groups, in memory that does not grow with their number: pairwise, as a tree over all
/// of them, of which a sum is kept for each binary digit of how many there were; those of two bytes one after the other, in
/// float, rounded once. How many come at a time changes no bit.
template <class T, class Device>
class gradient_sum {
 public:
  /// Begins a sum of `parts` gradients of `size` numbers, `group` of them, a power of two, at a time; the last group may be
  /// smaller. Says whether memory moved.
  bool begin(const execution<Device>& on, std::int64_t parts, std::int64_t group, std::int64_t size) {
    groups_ = 0;
    kept_ = 0;
    std::int64_t places = std::min(parts, group);
    if constexpr (pairwise) places += std::bit_width(static_cast<std::uint64_t>((parts - 1) / group));
    if (size == places_.extent(1) && places <= places_.extent(0)) return false;
    on.synchronize();
    places_.resize({{places, size}});
    if constexpr (!pairwise) total_.resize({{size}});
    return true;
  }

  /// Where a gradient of the next group is to be written. // [size]
  T* place(std::int64_t index) noexcept { return places_.data() + (kept_ + index) * places_.extent(1); }

  /// Takes the group of `count` gradients that was written. After the last group, the sum is at `to`. // [size]
  void add(execution<Device>& on, std::int64_t count, bool last, T* to) {
    const std::int64_t size = places_.extent(1);
    if constexpr (pairwise) {
      // Two sums over as many groups are added, as the digits of a counter carry; at the end, all that are left.
      std::int64_t carries = last ? kept_ : std::countr_one(groups_);
      if (count > 1 || (last && carries == 0))
        sum_parts(on, place(0), count, size, last && carries == 0 ? to : place(0));
      for (; carries > 0; --carries) {
        --kept_;
        sum_parts(on, place(0), 2, size, last && carries == 1 ? to : place(0));
      }
      ++kept_;
    } else {
      add_parts(on, place(0), count, size, groups_ > 0, total_.data(), last ? to : nullptr);
    }
    ++groups_;
  }

 private:
  static constexpr bool pairwise = std::is_same_v<T, accumulator<T>>;

  std::uint64_t groups_ = 0;                       // so far
  std::int64_t kept_ = 0;                          // sums, at the first places; pairwise alone
  tensor<rank<2>, T, Device> places_;              // [places, size]
  tensor<rank<1>, accumulator<T>, Device> total_;  // [size], of two bytes alone
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
