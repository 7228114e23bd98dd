// SPDX-License-Identifier: Apache-2.0
// The numbers of a test in memory of either device, so that one function asks both.
#pragma once

#include <lightnet/backend/execution.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "numbers.hpp"

namespace numbers {

template <class T, class Device>
class array {
 public:
  explicit array(const list<T>& from) : memory_{{{static_cast<std::int64_t>(from.size())}}} { write(from); }
  T* data() noexcept { return memory_.data(); }
  const T* data() const noexcept { return memory_.data(); }
  void write(const list<T>& from) {
    if (!from.empty()) Device::copy(memory_.data(), from.data(), from.size() * sizeof(T));
  }
  template <int Rank>
  ln::dynamic_view<Rank, T, Device> view(const std::array<std::int64_t, static_cast<std::size_t>(Rank)>& extents) {
    return {data(), extents};
  }
  list<T> read(ln::execution<Device>& on) const {
    if constexpr (!std::is_same_v<Device, ln::cpu>) on.synchronize();
    list<T> to(static_cast<std::size_t>(memory_.size()));
    if (!to.empty()) Device::copy(to.data(), memory_.data(), to.size() * sizeof(T));
    return to;
  }

 private:
  ln::tensor<ln::rank<1>, T, Device> memory_;
};

// A mask [rows, columns] in memory of a device; keep(i) says whether place i counts.
template <class Device, class Keep>
ln::tensor<ln::rank<2>, bool, Device> mask_of(std::int64_t rows, std::int64_t columns, const Keep& keep) {
  ln::tensor<ln::rank<2>, bool> on_host{{{rows, columns}}};
  for (std::int64_t i = 0; i < on_host.size(); ++i) on_host.data()[i] = keep(i);
  ln::tensor<ln::rank<2>, bool, Device> to{{{rows, columns}}};
  if (to.size() > 0) Device::copy(to.data(), on_host.data(), static_cast<std::size_t>(on_host.size()));
  return to;
}

// What a function gave, by name.
template <class T>
struct outcome {
  std::string name;
  list<T> values;
};
template <class T>
using outcomes = std::vector<outcome<T>>;

// That two devices gave the same up to a part of the largest number of each outcome.
template <class T>
void check_close(const outcomes<T>& got, const outcomes<T>& expected, double tolerance) {
  REQUIRE(got.size() == expected.size());
  for (std::size_t n = 0; n < got.size(); ++n) {
    CAPTURE(got[n].name);
    double largest = 0;
    for (const T a : expected[n].values) largest = std::max(largest, std::abs(static_cast<double>(a)));
    const double difference = largest_difference(cast<double>(got[n].values), cast<double>(expected[n].values));
    CAPTURE(largest);
    CAPTURE(difference);
    CHECK(difference <= tolerance * largest);
  }
}

template <class T>
void check_same_bits(const outcomes<T>& got, const outcomes<T>& expected) {
  REQUIRE(got.size() == expected.size());
  for (std::size_t n = 0; n < got.size(); ++n) {
    CAPTURE(got[n].name);
    CHECK(same_bits(got[n].values, expected[n].values));
  }
}

}  // namespace numbers
