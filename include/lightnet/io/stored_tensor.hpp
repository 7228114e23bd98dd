// SPDX-License-Identifier: Apache-2.0
#pragma once

// What a file of tensors holds: element types by the names that safetensors gives them, and tensors as named bytes.

#include <array>
#include <cstddef>
#include <cstdint>
#include <lightnet/core/config.hpp>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

LIGHTNET_BEGIN_NAMESPACE

/// The element types of safetensors, https://huggingface.co/docs/safetensors.
enum class stored_type : std::uint8_t {
  boolean, u8, i8, f8_e5m2, f8_e4m3, i16, u16, f16, bf16, i32, u32, f32, i64, u64, f64,
};

namespace io_detail {
struct stored_type_entry {
  std::string_view name;
  int bytes;
};
inline constexpr std::array<stored_type_entry, 15> stored_types{{
    {"BOOL", 1}, {"U8", 1}, {"I8", 1}, {"F8_E5M2", 1}, {"F8_E4M3", 1}, {"I16", 2}, {"U16", 2}, {"F16", 2},
    {"BF16", 2}, {"I32", 4}, {"U32", 4}, {"F32", 4}, {"I64", 8}, {"U64", 8}, {"F64", 8},
}};
}  // namespace io_detail

/// Bytes of one element.
constexpr int stored_size(stored_type type) { return io_detail::stored_types[static_cast<std::size_t>(type)].bytes; }

/// The name in the file, such as "F32".
constexpr std::string_view stored_name(stored_type type) {
  return io_detail::stored_types[static_cast<std::size_t>(type)].name;
}

/// The type of that name, if there is one.
constexpr std::optional<stored_type> stored_type_named(std::string_view name) {
  for (std::size_t i = 0; i < io_detail::stored_types.size(); ++i) {
    if (io_detail::stored_types[i].name == name) return static_cast<stored_type>(i);
  }
  return std::nullopt;
}

/// How elements of type T are stored; specialise it for a type of your own whose bytes are one of stored_type.
template <typename T>
struct stored_type_of;
template <> struct stored_type_of<bool> { static constexpr auto value = stored_type::boolean; };
template <> struct stored_type_of<std::uint8_t> { static constexpr auto value = stored_type::u8; };
template <> struct stored_type_of<std::int8_t> { static constexpr auto value = stored_type::i8; };
template <> struct stored_type_of<std::int16_t> { static constexpr auto value = stored_type::i16; };
template <> struct stored_type_of<std::uint16_t> { static constexpr auto value = stored_type::u16; };
template <> struct stored_type_of<std::int32_t> { static constexpr auto value = stored_type::i32; };
template <> struct stored_type_of<std::uint32_t> { static constexpr auto value = stored_type::u32; };
template <> struct stored_type_of<std::int64_t> { static constexpr auto value = stored_type::i64; };
template <> struct stored_type_of<std::uint64_t> { static constexpr auto value = stored_type::u64; };
template <> struct stored_type_of<float> { static constexpr auto value = stored_type::f32; };
template <> struct stored_type_of<double> { static constexpr auto value = stored_type::f64; };

/// A named array in row-major order; the bytes, little-endian, belong to someone else.
struct stored_tensor {
  std::string name;
  stored_type type = stored_type::f32;
  std::vector<std::int64_t> shape;
  std::span<const std::byte> data;
};

/// Names `elements`, an array of extents `shape`, for writing; nothing is copied.
template <typename T>
stored_tensor store(std::string name, std::vector<std::int64_t> shape, std::span<const T> elements) {
  static_assert(stored_size(stored_type_of<T>::value) == sizeof(T));
  return {std::move(name), stored_type_of<T>::value, std::move(shape), std::as_bytes(elements)};
}

/// Bytes that an array of that type and shape takes; empty where an extent is negative or 64 bits do not hold it.
inline std::optional<std::int64_t> stored_bytes(stored_type type, std::span<const std::int64_t> shape) {
  std::int64_t bytes = stored_size(type);
  bool none = false;
  for (const auto extent : shape) {
    if (extent < 0) return std::nullopt;
    none = none || extent == 0;
    if (extent == 0) continue;  // yet [0, 2^62, 2^62] stays an overflow for who multiplies in another order
    if (bytes > std::numeric_limits<std::int64_t>::max() / extent) return std::nullopt;
    bytes *= extent;
  }
  return none ? 0 : bytes;
}

namespace io_detail {
/// "[2, 3, 5]"; a file may claim thousands of extents, a message shows sixteen.
inline std::string shape_text(std::span<const std::int64_t> shape) {
  constexpr std::size_t longest = 16;
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size() && i < longest; ++i) {
    text.append(i == 0 ? "" : ", ").append(std::to_string(shape[i]));
  }
  return text.append(shape.size() > longest ? ", ...]" : "]");
}
}  // namespace io_detail

LIGHTNET_END_NAMESPACE
