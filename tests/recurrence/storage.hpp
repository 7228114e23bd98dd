// SPDX-License-Identifier: Apache-2.0
// Elements in memory of any layout, for the arguments of the library.
#pragma once

#include <lightnet/core/view.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <numeric>
#include <type_traits>
#include <utility>
#include <vector>

#include "question.hpp"

namespace cases {

// Memory of a device, of exactly the bytes asked for: then a tool notices what is touched beside them. What is given
// back waits for who asks for as much, since to allocate takes longer than a call.
template <class Device>
class device_memory {
 public:
  device_memory() = default;
  explicit device_memory(std::size_t bytes) : bytes_{bytes} {
    std::vector<void*>& waiting = kept()[bytes];
    if (waiting.empty()) waiting.push_back(Device::allocate(bytes));
    data_ = waiting.back();
    waiting.pop_back();
  }
  device_memory(device_memory&& from) noexcept : bytes_{from.bytes_}, data_{std::exchange(from.data_, nullptr)} {}
  device_memory& operator=(device_memory&& from) noexcept {
    std::swap(bytes_, from.bytes_);
    std::swap(data_, from.data_);
    return *this;
  }
  ~device_memory() {
    if (data_) kept()[bytes_].push_back(data_);
  }

  void* data() const { return data_; }

 private:
  static std::map<std::size_t, std::vector<void*>>& kept() {
    static std::map<std::size_t, std::vector<void*>> all;
    return all;
  }

  std::size_t bytes_ = 0;
  void* data_ = nullptr;
};

// Numbers start as NaN, and so does the memory between them. Those of another device than the CPU are here until they
// are viewed, and come back when they are read.
template <class T, class Device = lightnet::cpu>
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
    fetch();
    std::vector<Number> values;
    for_each([&](T& x) { values.push_back(static_cast<Number>(x)); });
    return values;
  }

  // Whether memory that is not in the view was written.
  bool outside() const {
    fetch();
    std::vector<bool> ours(static_cast<std::size_t>(size_));
    for_each([&](T& x) { ours[static_cast<std::size_t>(&x - memory_.get())] = true; });
    for (std::int64_t n = 0; n < size_; ++n) {
      const T x = memory_[static_cast<std::size_t>(n)];
      if (!ours[static_cast<std::size_t>(n)] && x == x && x != nothing()) return true;
    }
    return false;
  }

  template <int Rank>
  lightnet::dynamic_view<Rank, T, Device> view() {
    std::array<std::int64_t, static_cast<std::size_t>(Rank)> shape{}, strides{};
    std::copy_n(extents_.begin(), Rank, shape.begin());
    std::copy_n(strides_.begin(), Rank, strides.begin());
    return {send() + origin_, shape, strides};
  }

  std::size_t rank() const { return extents_.size(); }
  explicit operator bool() const { return memory_ != nullptr; }

 private:
  static constexpr bool elsewhere = !std::is_same_v<Device, lightnet::cpu>;

  // Where the device has the elements.
  T* send() {
    if constexpr (elsewhere) {
      const std::size_t bytes = static_cast<std::size_t>(size_) * sizeof(T);
      if (memory_ && !there_.data()) {
        there_ = device_memory<Device>(bytes);
        Device::copy(there_.data(), memory_.get(), bytes);
      }
      viewed_ = true;
      return static_cast<T*>(there_.data());
    } else {
      return memory_.get();
    }
  }

  // What was written since the last view was made.
  void fetch() const {
    if constexpr (elsewhere) {
      if (viewed_ && memory_) Device::copy(memory_.get(), there_.data(), static_cast<std::size_t>(size_) * sizeof(T));
      viewed_ = false;
    }
  }

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
  device_memory<Device> there_;  // nothing on the CPU
  mutable bool viewed_ = false;
};

}  // namespace cases
