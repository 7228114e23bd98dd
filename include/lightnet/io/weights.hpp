// SPDX-License-Identifier: Apache-2.0
#pragma once

// The weights of a model, in and out: a tensor for each parameter, and no other.

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <initializer_list>
#include <lightnet/backend/execution.hpp>
#include <lightnet/core/parameters.hpp>
#include <lightnet/io/safetensors.hpp>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

LIGHTNET_BEGIN_NAMESPACE

/// A tensor that a file must hold, of one of these types.
struct expected_tensor {
  std::string name;
  std::vector<std::int64_t> shape;
  std::vector<stored_type> types;
};

namespace io_detail {

/// "a, b, c"; of many, the first, and how many more there are.
inline std::string enumerated(std::span<const std::string> texts) {
  constexpr std::size_t longest = 12;
  std::string all;
  for (std::size_t i = 0; i < texts.size() && i < longest; ++i) all.append(i == 0 ? "" : ", ").append(texts[i]);
  return texts.size() > longest ? all + " and " + std::to_string(texts.size() - longest) + " more" : all;
}

/// What is wrong with the type or shape of a tensor; empty where nothing is.
inline std::string misfit(const stored_tensor& came, const expected_tensor& expected) {
  std::vector<std::string> types;
  for (const auto type : expected.types) types.emplace_back(stored_name(type));
  std::string text;
  if (std::ranges::find(expected.types, came.type) == expected.types.end()) {
    text.append(" of type ").append(stored_name(came.type)).append(", expected ").append(enumerated(types));
  }
  if (came.shape != expected.shape) {
    text.append(text.empty() ? "" : ",").append(" of shape ").append(shape_text(came.shape));
    text.append(", expected ").append(shape_text(expected.shape));
  }
  return text.empty() ? text : printable(came.name) + text;
}

}  // namespace io_detail

/// Throws file_error unless `tensors`, which `path` holds, are those expected: lists what is missing, what is left over, and
/// what has another type or shape. Names that begin with one of `beside` may be there, too.
inline void require_tensors(const std::filesystem::path& path, std::span<const stored_tensor> tensors,
                            std::span<const expected_tensor> expected, std::span<const std::string_view> beside = {}) {
  std::map<std::string_view, const expected_tensor*> wanted;
  for (const auto& each : expected) wanted.emplace(each.name, &each);
  std::vector<std::string> left_over, misfits, missing;
  for (const auto& tensor : tensors) {
    const auto found = wanted.find(tensor.name);
    if (found != wanted.end()) {
      if (auto misfit = io_detail::misfit(tensor, *found->second); !misfit.empty()) {
        misfits.push_back(std::move(misfit));
      }
      wanted.erase(found);
    } else if (std::ranges::none_of(beside, [&](auto prefix) { return tensor.name.starts_with(prefix); })) {
      left_over.push_back(io_detail::printable(tensor.name));
    }
  }
  for (const auto& each : expected) {
    if (wanted.contains(each.name)) missing.push_back(io_detail::printable(each.name));
  }
  std::string text;
  const auto append = [&](std::string_view what, std::span<const std::string> which) {
    if (!which.empty()) text.append(text.empty() ? "" : "; ").append(what).append(io_detail::enumerated(which));
  };
  append("missing: ", missing);
  append("left over: ", left_over);
  append("misfits: ", misfits);
  if (!text.empty()) throw file_error(path.string(), "does not hold the tensors of this model: " + text);
}

namespace io_detail {

/// The numbers of a block where the host can reach them: the block's own, or a copy in place of a device's.
template <class T, class Device>
class values_on_host {
 public:
  explicit values_on_host(const parameter_block<T, Device>& block)
      : size_{static_cast<std::size_t>(block.size())}, data_{block.view().data()} {
    if constexpr (!std::is_same_v<Device, cpu>) {
      copy_.resize(size_);
      Device::copy(copy_.data(), data_, size_ * sizeof(T));
      data_ = copy_.data();
    }
  }
  values_on_host(const values_on_host&) = delete;
  values_on_host& operator=(const values_on_host&) = delete;

  std::span<const T> operator[](const parameter& part) const {
    return {data_ + part.offset, static_cast<std::size_t>(part.size())};
  }

 private:
  std::size_t size_;
  const T* data_;
  std::vector<T> copy_;
};

/// Numbers of another type, which may lie anywhere; rounded once where T is the narrower.
template <class Stored, class T>
void convert_numbers(std::span<const std::byte> from, std::span<T> to) {
  Stored value;
  for (std::size_t i = 0; i < to.size(); ++i) {
    std::memcpy(&value, from.data() + i * sizeof value, sizeof value);
    to[i] = static_cast<T>(static_cast<accumulator<Stored>>(value));
  }
}

template <class T>
void convert_numbers(const stored_tensor& from, std::span<T> to) {
  switch (from.type) {
    case stored_type::bf16:
      return convert_numbers<bfloat16>(from.data, to);
    case stored_type::f16:
      return convert_numbers<float16>(from.data, to);
    case stored_type::f64:
      return convert_numbers<double>(from.data, to);
    default:
      return convert_numbers<float>(from.data, to);
  }
}

/// Reads a parameter from the tensor that `name_of` calls by the parameter's name. A call that throws has read nothing.
template <class T, class Device, class NameOf>
void read_weights(const std::filesystem::path& path, std::span<const stored_tensor> tensors,
                  parameter_block<T, Device>& to, const NameOf& name_of,
                  std::span<const std::string_view> beside = {}) {
  const std::vector<stored_type> types{stored_type::f32, stored_type::bf16, stored_type::f16, stored_type::f64};
  std::vector<expected_tensor> expected;
  std::map<std::string_view, const stored_tensor*> found;
  const std::vector<parameter>& parts = std::as_const(to).index();
  for (const parameter& part : parts) expected.push_back({name_of(part.name), part.shape, types});
  require_tensors(path, tensors, expected, beside);
  for (const auto& tensor : tensors) found.emplace(tensor.name, &tensor);
  std::vector<T> on_host;  // one parameter on its way to a device
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const auto size = static_cast<std::size_t>(parts[i].size());
    T* const values = to.view().data() + parts[i].offset;
    if constexpr (std::is_same_v<Device, cpu>) {
      convert_numbers(*found.at(expected[i].name), std::span(values, size));
    } else {
      on_host.resize(size);
      convert_numbers(*found.at(expected[i].name), std::span(on_host));
      Device::copy(values, on_host.data(), size * sizeof(T));
    }
  }
}

}  // namespace io_detail

/// Writes the parameters of a model, of any device, whose execution has done its work, each under its own name. Throws
/// file_error where the file cannot be written; then the old one is as it was.
template <class T, class Device>
void write_weights(const std::filesystem::path& path, const parameter_block<T, Device>& from,
                   const std::map<std::string, std::string>& metadata = {}) {
  const io_detail::values_on_host values{from};
  std::vector<stored_tensor> tensors;
  for (const parameter& part : from.index()) tensors.push_back(store(part.name, part.shape, values[part]));
  write_safetensors(path, tensors, metadata);
}

/// Reads what write_weights wrote, numbers of another type too: rounded where T is the narrower. Throws file_error where the
/// file cannot be read or is not of this model, see require_tensors; then the block is as it was. Of a checkpoint, what lies
/// beside the weights begins with "optimizer." and "extra.".
template <class T, class Device>
void read_weights(const std::filesystem::path& path, parameter_block<T, Device>& to,
                  std::initializer_list<std::string_view> beside = {}) {
  const safetensors_file file(path);
  io_detail::read_weights(path, file.tensors(), to, [](const std::string& name) { return name; },
                          {beside.begin(), beside.size()});
}

LIGHTNET_END_NAMESPACE
