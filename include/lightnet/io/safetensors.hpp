// SPDX-License-Identifier: Apache-2.0
#pragma once

// The safetensors format, https://huggingface.co/docs/safetensors: eight bytes of header length, a JSON header, data.
// A file is untrusted input: it is checked wholly before anything of it is given.

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <lightnet/core/config.hpp>
#include <lightnet/core/error.hpp>
#include <lightnet/io/mapped_file.hpp>
#include <lightnet/io/replace_file.hpp>
#include <lightnet/io/safetensors_header.hpp>
#include <lightnet/io/stored_tensor.hpp>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

LIGHTNET_BEGIN_NAMESPACE

static_assert(std::endian::native == std::endian::little, "safetensors holds little-endian data: swap bytes here");

/// Writes tensors, contiguous in the given order, and metadata to a file that replaces `path` as a whole; data start at
/// a multiple of 64 bytes. Throws shape_error or value_error for tensors that contradict themselves or each other,
/// file_error where the file cannot be written; in every case the old file stays as it was.
inline void write_safetensors(const std::filesystem::path& path, std::span<const stored_tensor> tensors,
                              const std::map<std::string, std::string>& metadata = {}) {
  std::string header = io_detail::header_text(tensors, metadata);
  header.append((64 - (8 + header.size()) % 64) % 64, ' ');
  if (header.size() > io_detail::largest_header) {
    throw value_error("write_safetensors", "header", std::to_string(io_detail::largest_header) + " bytes at most",
                      std::to_string(header.size()));
  }
  const std::uint64_t length = header.size();
  std::vector<std::span<const std::byte>> pieces{std::as_bytes(std::span(&length, 1)),
                                                 std::as_bytes(std::span(header))};
  for (const auto& tensor : tensors) pieces.push_back(tensor.data);
  replace_file(path, pieces);
}

/// The contents of a safetensors file, mapped and checked. Throws file_error, naming the file and the reason, for
/// anything that is not exactly a safetensors file: no gaps, overlaps, duplicates, unknown keys or trailing bytes.
class safetensors_file {
 public:
  explicit safetensors_file(std::filesystem::path path) : path_(std::move(path)), file_(path_) { read_header(); }

  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const noexcept { return metadata_; }

  /// Every tensor, in the order of the data; the bytes live as long as this object, or what it was moved to.
  [[nodiscard]] std::span<const stored_tensor> tensors() const noexcept { return tensors_; }

  /// The tensor of that name, or null.
  [[nodiscard]] const stored_tensor* find(std::string_view name) const noexcept {
    const auto found = index_.find(name);
    return found == index_.end() ? nullptr : &tensors_[found->second];
  }

  /// The tensor of that name; throws file_error where it is missing or has another type or shape.
  const stored_tensor& require(std::string_view name, stored_type type, std::span<const std::int64_t> shape) const {
    const auto* tensor = find(name);
    const auto subject = "tensor " + io_detail::printable(name);
    if (tensor == nullptr) throw file_error(path_.string(), "holds no " + subject);
    if (tensor->type != type) {
      throw file_error(path_.string(), subject + " has type " + std::string{stored_name(tensor->type)} + ", expected " +
                                           std::string{stored_name(type)});
    }
    if (!std::ranges::equal(tensor->shape, shape)) {
      throw file_error(path_.string(), subject + " has shape " + io_detail::shape_text(tensor->shape) + ", expected " +
                                           io_detail::shape_text(shape));
    }
    return *tensor;
  }

  /// Copies the tensor of that name to `to`, which has room for exactly `shape`; throws as `require` does, and
  /// shape_error where `to` is of another size. A call that throws has written nothing.
  template <typename T>
  void read(std::string_view name, std::span<const std::int64_t> shape, std::span<T> to) const {
    const auto& tensor = require(name, stored_type_of<T>::value, shape);
    if (tensor.data.size() != to.size_bytes()) {
      throw shape_error("safetensors_file::read", "to", std::to_string(tensor.data.size()) + " bytes",
                        std::to_string(to.size_bytes()));
    }
    if constexpr (std::is_same_v<T, bool>) {  // any other byte in a bool is undefined behaviour
      std::ranges::transform(tensor.data, to.begin(), [](std::byte byte) { return byte != std::byte{0}; });
    } else if (!to.empty()) {
      std::memcpy(to.data(), tensor.data.data(), to.size_bytes());
    }
  }

 private:
  [[noreturn]] void fail(const std::string& reason) const { throw file_error(path_.string(), reason); }

  void read_header() {
    const auto bytes = file_.bytes();
    if (bytes.size() < 8) {
      fail("not a safetensors file: " + std::to_string(bytes.size()) + " bytes, shorter than the 8 of its length");
    }
    std::uint64_t length = 0;
    std::memcpy(&length, bytes.data(), sizeof length);
    if (length > io_detail::largest_header) {
      fail("header length " + std::to_string(length) + " is beyond the " + std::to_string(io_detail::largest_header) +
           " bytes that the format allows");
    }
    if (length > bytes.size() - 8) {
      fail("header length " + std::to_string(length) + " is beyond the end of the file of " +
           std::to_string(bytes.size()) + " bytes");
    }
    const auto header = bytes.subspan(8, static_cast<std::size_t>(length));
    const auto data = bytes.subspan(8 + header.size());
    io_detail::header_reader reader(path_);
    reader.parse({reinterpret_cast<const char*>(header.data()), header.size()});
    const auto placed = io_detail::placed_in_order(path_, reader.tensors(), data.size());

    metadata_ = std::move(reader.metadata());
    tensors_.reserve(placed.size());
    for (const auto position : placed) {
      auto& entry = reader.tensors()[position];
      index_.emplace(entry.name, tensors_.size());
      tensors_.push_back(
          {std::move(entry.name), entry.type, std::move(entry.shape),
           data.subspan(static_cast<std::size_t>(entry.begin), static_cast<std::size_t>(entry.end - entry.begin))});
    }
  }

  std::filesystem::path path_;
  mapped_file file_;
  std::map<std::string, std::string> metadata_;
  std::vector<stored_tensor> tensors_;
  std::map<std::string, std::size_t, std::less<>> index_;
};

LIGHTNET_END_NAMESPACE
