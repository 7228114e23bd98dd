// SPDX-License-Identifier: Apache-2.0
#pragma once

// What a file of tensors holds: element types by the names that safetensors gives them, and tensors as named bytes.

#include <array>
#include <cstddef>
#include <cstdint>
#include <lightnet/core/config.hpp>
#include <lightnet/core/half.hpp>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

LIGHTNET_BEGIN_NAMESPACE

/// The element types of safetensors, https://huggingface.co/docs/safetensors.
enum class stored_type : std::uint8_t {
  boolean,
  u8,
  i8,
  f8_e5m2,
  f8_e4m3,
  i16,
  u16,
  f16,
  bf16,
  i32,
  u32,
  f32,
  i64,
  u64,
  f64,
};

namespace io_detail {
struct stored_type_entry {
  std::string_view name;
  int bytes;
};
inline constexpr std::array<stored_type_entry, 15> stored_types{{
    {"BOOL", 1},
    {"U8", 1},
    {"I8", 1},
    {"F8_E5M2", 1},
    {"F8_E4M3", 1},
    {"I16", 2},
    {"U16", 2},
    {"F16", 2},
    {"BF16", 2},
    {"I32", 4},
    {"U32", 4},
    {"F32", 4},
    {"I64", 8},
    {"U64", 8},
    {"F64", 8},
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

namespace io_detail {
template <typename T>
constexpr stored_type stored_type_of_number() {
  if constexpr (std::is_same_v<T, bool>) {
    return stored_type::boolean;
  } else if constexpr (std::is_integral_v<T>) {
    constexpr bool is_signed = std::is_signed_v<T>;
    if constexpr (sizeof(T) == 1) return is_signed ? stored_type::i8 : stored_type::u8;
    if constexpr (sizeof(T) == 2) return is_signed ? stored_type::i16 : stored_type::u16;
    if constexpr (sizeof(T) == 4) return is_signed ? stored_type::i32 : stored_type::u32;
    if constexpr (sizeof(T) == 8) return is_signed ? stored_type::i64 : stored_type::u64;
  } else if constexpr (std::is_same_v<T, bfloat16>) {
    return stored_type::bf16;
  } else if constexpr (std::is_same_v<T, float16>) {
    return stored_type::f16;
  } else {
    static_assert(std::is_same_v<T, float> || std::is_same_v<T, double>,
                  "this type has no name in safetensors: specialise lightnet::stored_type_of for it");
    return std::is_same_v<T, float> ? stored_type::f32 : stored_type::f64;
  }
}
}  // namespace io_detail

/// How elements of type T are stored; specialise it for a type of your own whose bytes are one of stored_type.
template <typename T>
struct stored_type_of {
  static constexpr stored_type value = io_detail::stored_type_of_number<T>();
};

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
