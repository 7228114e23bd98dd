// SPDX-License-Identifier: Apache-2.0
#pragma once

// The parameters of a model from a file, for programs that use a model and train none.

#include <lightnet/backend/convert.hpp>
#include <lightnet/core/decimal.hpp>
#include <lightnet/core/parameters.hpp>
#include <lightnet/io/safetensors.hpp>
#include <lightnet/io/weights.hpp>

#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

LIGHTNET_BEGIN_NAMESPACE

/// Fills a block with the parameters of a file: a checkpoint of a trainer, or tensors written under the same names. What a
/// checkpoint holds for training, under "optimizer." and "extra.", is passed over. The numbers in the file are of
/// accumulator<T>, and rounded to T. Throws file_error where parameters are missing, left over, of another type or shape,
/// which it lists, or not finite; then the block is as it was.
template <class T, class Device>
void load_parameters(const safetensors_file& file, parameter_block<T, Device>& to) {
  using number = accumulator<T>;
  constexpr std::string_view of_training[] = {"optimizer.", "extra."};
  std::vector<expected_tensor> expected;
  for (const parameter& part : std::as_const(to).index()) {
    expected.push_back({part.name, part.shape, {stored_type_of<number>::value}});
  }
  require_tensors(file.path(), file.tensors(), expected, of_training);
  std::vector<T> values(static_cast<std::size_t>(to.size()));
  Device::copy(values.data(), to.view().data(), values.size() * sizeof(T));  // what no parameter describes stays
  std::vector<number> numbers;
  for (const parameter& part : to.index()) {
    numbers.resize(static_cast<std::size_t>(part.size()));
    file.read(part.name, part.shape, std::span(numbers));
    const auto wrong = std::ranges::find_if_not(numbers, [](number value) { return std::isfinite(value); });
    if (wrong != numbers.end()) {
      throw file_error(file.path().string(), "tensor " + io_detail::printable(part.name) + " holds " +
                                                 detail::decimal(*wrong) + ", expected finite numbers");
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
