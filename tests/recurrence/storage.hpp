// SPDX-License-Identifier: Apache-2.0
// Elements in memory of any layout, for the arguments of the library.
#pragma once

#include <lightnet/core/view.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "question.hpp"

namespace cases {

// Numbers start as NaN, and so does the memory between them.
template <class T>
class storage {
 public:
  storage() = default;  // nothing

  storage(std::vector<std::int64_t> extents, layout how) : extents_(std::move(extents)), strides_(extents_.size()) {
    const std::size_t rank = extents_.size();
    std::int64_t stride = how == layout::tangled ? 2 : 1;
    origin_ = how == layout::gapped ? 1 : 0;  // no element of it is aligned to more than itself
    for (std::size_t n = 0; n < rank; ++n) {
      const std::size_t axis = how == layout::tangled ? n : rank - 1 - n;
      const bool backwards = how == layout::tangled && axis % 2 == 1;
      const std::int64_t steps = extents_[axis] > 0 ? extents_[axis] - 1 : 0;
      strides_[axis] = backwards ? -stride : stride;
      if (backwards) origin_ += steps * stride;
      stride *= extents_[axis] + (how == layout::dense ? 0 : 1);
    }
    size_ = std::max<std::int64_t>(stride, 1) + 1;
    memory_ = std::make_unique<T[]>(static_cast<std::size_t>(size_));
    std::fill_n(memory_.get(), size_, nothing());
  }

  template <class Number>
  storage(std::vector<std::int64_t> extents, layout how, const std::vector<Number>& values)
      : storage(std::move(extents), how) {
    std::size_t n = 0;
    for_each([&](T& x) { x = static_cast<T>(values.at(n++)); });
  }

  template <class Number = double>
  std::vector<Number> read() const {
    std::vector<Number> values;
    for_each([&](T& x) { values.push_back(static_cast<Number>(x)); });
    return values;
  }

  // Whether memory that is not in the view was written.
  bool outside() const {
    std::vector<bool> ours(static_cast<std::size_t>(size_));
    for_each([&](T& x) { ours[static_cast<std::size_t>(&x - memory_.get())] = true; });
    for (std::int64_t n = 0; n < size_; ++n) {
      const T x = memory_[static_cast<std::size_t>(n)];
      if (!ours[static_cast<std::size_t>(n)] && x == x && x != nothing()) return true;
    }
    return false;
  }

  template <int Rank>
  lightnet::dynamic_view<Rank, T> view() {
    std::array<std::int64_t, static_cast<std::size_t>(Rank)> shape{}, strides{};
    std::copy_n(extents_.begin(), Rank, shape.begin());
    std::copy_n(strides_.begin(), Rank, strides.begin());
    return {memory_.get() + origin_, shape, strides};
  }

  std::size_t rank() const { return extents_.size(); }
  explicit operator bool() const { return memory_ != nullptr; }

 private:
  static T nothing() {
    if constexpr (std::numeric_limits<T>::has_quiet_NaN) {
      return std::numeric_limits<T>::quiet_NaN();
    } else {
      return T(77);
    }
  }

  template <class Body>
  void for_each(const Body& body) const {
    if (!memory_) return;
    std::vector<std::int64_t> at(extents_.size());
    const std::int64_t count =
        std::accumulate(extents_.begin(), extents_.end(), std::int64_t{1}, [](auto a, auto b) { return a * b; });
    T* place = memory_.get() + origin_;
    for (std::int64_t n = 0; n < count; ++n) {
      body(*place);
      for (std::size_t axis = extents_.size(); axis-- > 0;) {
        place += strides_[axis];
        if (++at[axis] < extents_[axis]) break;
        place -= at[axis] * strides_[axis];
        at[axis] = 0;
      }
    }
  }

  std::vector<std::int64_t> extents_, strides_;
  std::int64_t origin_ = 0, size_ = 0;
  std::unique_ptr<T[]> memory_;
};

}  // namespace cases
