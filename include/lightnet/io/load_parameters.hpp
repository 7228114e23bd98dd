// SPDX-License-Identifier: Apache-2.0
#pragma once

// The parameters of a model from a file, for programs that use a model and train none.

#include <lightnet/backend/convert.hpp>
#include <lightnet/core/parameters.hpp>
#include <lightnet/io/safetensors.hpp>

#include <algorithm>
#include <cmath>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

LIGHTNET_BEGIN_NAMESPACE

namespace io_detail {

/// What is wrong in one way, as "; missing: 'a', 'b' and 3 more"; nothing where nothing is.
inline std::string listed(std::string_view wrong, const std::vector<std::string>& subjects) {
  constexpr std::size_t longest = 8;
  if (subjects.empty()) return {};
  std::string text = "; ";
  text.append(wrong).append(": ");
  const std::size_t shown = std::min(subjects.size(), longest);
  for (std::size_t i = 0; i < shown; ++i) text.append(i > 0 ? ", " : "").append(subjects[i]);
  if (shown < subjects.size()) text.append(" and ").append(std::to_string(subjects.size() - shown)).append(" more");
  return text;
}

/// Throws file_error unless the file has exactly these parameters, of this type and their shapes.
inline void check_parameters(const safetensors_file& file, std::span<const parameter> index, stored_type type) {
  const auto described = [](stored_type of, std::span<const std::int64_t> shape) {
    return std::string{stored_name(of)}.append(" ").append(shape_text(shape));
  };
  std::vector<std::string> missing, different, left_over;
  std::set<std::string_view> known;
  for (const parameter& part : index) {
    known.insert(part.name);
    const stored_tensor* const tensor = file.find(part.name);
    if (!tensor) {
      missing.push_back(printable(part.name));
    } else if (tensor->type != type || !std::ranges::equal(tensor->shape, part.shape)) {
      different.push_back(printable(part.name)
                              .append(" is ")
                              .append(described(tensor->type, tensor->shape))
                              .append(", expected ")
                              .append(described(type, part.shape)));
    }
  }
  for (const stored_tensor& tensor : file.tensors()) {
    const bool of_training = tensor.name.starts_with("optimizer.") || tensor.name.starts_with("extra.");
    if (!of_training && !known.contains(tensor.name)) left_over.push_back(printable(tensor.name));
  }
  if (missing.empty() && different.empty() && left_over.empty()) return;
  throw file_error(file.path().string(), "holds the parameters of another model" + listed("missing", missing) +
                                             listed("different", different) + listed("left over", left_over));
}

}  // namespace io_detail

/// Fills a block with the parameters of a file: a checkpoint of a trainer, or tensors written under the same names. What a
/// checkpoint holds for training, under "optimizer." and "extra.", is passed over. The numbers in the file are of
/// accumulator<T>, and rounded to T. Throws file_error where parameters are missing, left over, of another type or shape,
/// which it lists, or not finite; then the block is as it was.
template <class T, class Device>
void load_parameters(const safetensors_file& file, parameter_block<T, Device>& to) {
  using number = accumulator<T>;
  io_detail::check_parameters(file, to.index(), stored_type_of<number>::value);
  std::vector<T> values(static_cast<std::size_t>(to.size()));
  Device::copy(values.data(), to.view().data(), values.size() * sizeof(T));  // what no parameter describes stays
  std::vector<number> numbers;
  for (const parameter& part : to.index()) {
    numbers.resize(static_cast<std::size_t>(part.size()));
    file.read(part.name, part.shape, std::span(numbers));
    const auto wrong = std::ranges::find_if_not(numbers, [](number value) { return std::isfinite(value); });
    if (wrong != numbers.end()) {
      throw file_error(file.path().string(),
                       "tensor " + io_detail::printable(part.name) + " holds " + std::to_string(*wrong));
    }
    T* const first = values.data() + part.offset;
    if constexpr (std::is_same_v<T, number>) {
      std::ranges::copy(numbers, first);
    } else {
      detail::convert(numbers.data(), first, part.size());
    }
  }
  Device::copy(to.view().data(), values.data(), values.size() * sizeof(T));
}

LIGHTNET_END_NAMESPACE
