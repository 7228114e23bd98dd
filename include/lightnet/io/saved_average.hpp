// SPDX-License-Identifier: Apache-2.0
#pragma once

// The average of a training's weights, in its checkpoint: every parameter as "extra.average." and its name, and how many
// updates the average has seen.

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

/// Brings an average to where it was saved. Throws file_error where a tensor is missing, of another type or shape, or holds
/// what is not finite; then the average is as it was.
template <class T, class Device>
void load_average(const checkpoint& from, weight_average<T, Device>& to) {
  const auto copy = [&](const std::string& name, const std::vector<std::int64_t>& shape, auto* values) {
    using number = std::remove_reference_t<decltype(*values)>;
    const stored_tensor* const tensor = from.extra(name);
    if (!tensor || tensor->type != stored_type_of<number>::value || tensor->shape != shape) {
      throw file_error(from.path().string(), "as a checkpoint: no " + io_detail::printable(name) + " " +
                                                 io_detail::shape_text(shape) + " of an average of this model");
    }
    if (!tensor->data.empty()) std::memcpy(values, tensor->data.data(), tensor->data.size());
  };
  auto weights = to.weights();
  std::vector<T> values(static_cast<std::size_t>(weights.size()));
  Device::copy(values.data(), weights.view().data(), values.size() * sizeof(T));  // what no parameter describes stays
  for (const parameter& part : weights.index()) {
    copy(io_detail::average_prefix + part.name, part.shape, values.data() + part.offset);
  }
  std::int64_t updates = 0;
  copy(io_detail::average_updates, {1}, &updates);
  bool good = updates >= 0;
  for (const T value : values) good = good && std::isfinite(value);
  if (!good) throw file_error(from.path().string(), "as a checkpoint: its average holds what is not finite");
  Device::copy(weights.view().data(), values.data(), values.size() * sizeof(T));
  to.restore(std::move(weights), updates);
}

LIGHTNET_END_NAMESPACE
