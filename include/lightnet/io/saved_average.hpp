// SPDX-License-Identifier: Apache-2.0
#pragma once

// The average of a training's weights, in its checkpoint: every parameter as "extra.average." and its name, and how many
// updates the average has seen.

#include <lightnet/core/decimal.hpp>
#include <lightnet/train/checkpoint.hpp>
#include <lightnet/train/weight_average.hpp>

#include <cmath>
#include <cstring>
#include <span>
#include <string>
#include <utility>
#include <vector>

LIGHTNET_BEGIN_NAMESPACE

namespace io_detail {
inline constexpr const char* average_prefix = "average.";
inline constexpr const char* average_updates = "average_updates";
}  // namespace io_detail

/// An average, whose execution has done its updates, as tensors for the extras of a checkpoint; they are valid as long as
/// this and the average are.
template <class T, class Device>
class saved_average {
 public:
  explicit saved_average(const weight_average<T, Device>& of)
      : index_{of.weights().index()}, values_{of.weights()}, updates_{of.updates()} {}
  saved_average(const saved_average&) = delete;
  saved_average& operator=(const saved_average&) = delete;

  void add_to(std::vector<stored_tensor>& tensors) const {
    for (const parameter& part : index_) {
      tensors.push_back(store(io_detail::average_prefix + part.name, part.shape, values_[part]));
    }
    tensors.push_back(store(io_detail::average_updates, {1}, std::span(&updates_, 1)));
  }

 private:
  const std::vector<parameter>& index_;
  io_detail::values_on_host<T, Device> values_;
  std::int64_t updates_;
};

/// Brings an average to where it was saved. Throws file_error where tensors are missing or of another type or shape, which it
/// lists, or hold what is not finite; then the average is as it was.
template <class T, class Device>
void load_average(const checkpoint& from, weight_average<T, Device>& to) {
  auto weights = to.weights();
  const std::vector<parameter>& parts = std::as_const(weights).index();
  std::vector<expected_tensor> expected;
  std::vector<stored_tensor> found;
  const auto need = [&](const std::string& name, const std::vector<std::int64_t>& shape, stored_type type) {
    expected.push_back({std::string{detail::extra_prefix} + name, shape, {type}});
    if (const stored_tensor* const tensor = from.extra(name)) found.push_back(*tensor);
  };
  for (const parameter& part : parts) {
    need(io_detail::average_prefix + part.name, part.shape, stored_type_of<T>::value);
  }
  need(io_detail::average_updates, {1}, stored_type_of<std::int64_t>::value);
  require_tensors(from.path(), found, expected);

  const auto fail = [&from](const std::string& reason) {
    throw file_error(from.path().string(), "as a checkpoint: its average " + reason);
  };
  std::vector<T> values(static_cast<std::size_t>(weights.size()));
  Device::copy(values.data(), weights.view().data(), values.size() * sizeof(T));  // what no parameter describes stays
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const std::span<T> numbers{values.data() + parts[i].offset, static_cast<std::size_t>(parts[i].size())};
    if (!numbers.empty()) std::memcpy(numbers.data(), found[i].data.data(), numbers.size_bytes());
    for (const T number : numbers) {
      if (std::isfinite(number)) continue;
      fail("of " + io_detail::printable(parts[i].name) + " holds " + detail::decimal(number) +
           ", expected finite numbers");
    }
  }
  std::int64_t updates = 0;
  std::memcpy(&updates, found.back().data.data(), sizeof updates);
  if (updates < 0) fail("has seen " + std::to_string(updates) + " updates, expected zero or more");
  Device::copy(weights.view().data(), values.data(), values.size() * sizeof(T));
  to.restore(std::move(weights), updates);
}

LIGHTNET_END_NAMESPACE
