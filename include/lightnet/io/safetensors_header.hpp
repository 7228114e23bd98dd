// SPDX-License-Identifier: Apache-2.0
#pragma once

// The JSON header of a safetensors file: written in the order given, read by a recogniser of exactly this grammar, so
// that duplicate keys are seen and nesting cannot grow.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <lightnet/core/config.hpp>
#include <lightnet/core/error.hpp>
#include <lightnet/io/stored_tensor.hpp>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

LIGHTNET_BEGIN_NAMESPACE

namespace io_detail {

inline constexpr std::size_t largest_header = 100'000'000;  // as the reference implementation
inline constexpr std::string_view metadata_key = "__metadata__";

/// Text of unknown origin made fit for a message: short, printable ASCII, in quotes.
inline std::string printable(std::string_view text, std::size_t longest = 80) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string result = "'";
  for (const char c : text.substr(0, longest)) {
    const auto code = static_cast<unsigned char>(c);
    if (code >= 0x20 && code < 0x7f) {
      result += c;
    } else {
      result.append("\\x").append(1, digits[code >> 4U]).append(1, digits[code & 15U]);
    }
  }
  return result.append(text.size() > longest ? "...'" : "'");
}

inline std::string json_string(std::string_view text, std::string_view argument) {
  try {
    return nlohmann::json(text).dump();
  } catch (const nlohmann::json::type_error&) {
    throw value_error("write_safetensors", argument, "UTF-8", printable(text));
  }
}

/// The header of tensors that lie one behind the other; throws shape_error or value_error where they cannot be written.
inline std::string header_text(std::span<const stored_tensor> tensors,
                               const std::map<std::string, std::string>& metadata) {
  std::string text = "{";
  if (!metadata.empty()) {
    text.append(json_string(metadata_key, "metadata")).append(":{");
    for (const auto& [key, value] : metadata) {
      text.append(json_string(key, "metadata")).append(":").append(json_string(value, "metadata")).append(",");
    }
    text.back() = '}';
    text += ',';
  }
  std::set<std::string_view> names;
  std::uint64_t offset = 0;
  for (const auto& tensor : tensors) {
    const auto name = json_string(tensor.name, "name");
    if (tensor.name == metadata_key) throw value_error("write_safetensors", "name", "one not reserved", name);
    if (!names.insert(tensor.name).second) throw value_error("write_safetensors", "name", "one name once", name);
    const auto bytes = stored_bytes(tensor.type, tensor.shape);
    if (!bytes || static_cast<std::uint64_t>(*bytes) != tensor.data.size()) {
      throw shape_error("write_safetensors", printable(tensor.name),
                        std::string{stored_name(tensor.type)} + " data of shape " + shape_text(tensor.shape),
                        std::to_string(tensor.data.size()) + " bytes");
    }
    text.append(name).append(R"(:{"dtype":")").append(stored_name(tensor.type)).append(R"(","shape":[)");
    for (const auto extent : tensor.shape) text.append(std::to_string(extent)).append(",");
    if (!tensor.shape.empty()) text.pop_back();
    text.append(R"(],"data_offsets":[)").append(std::to_string(offset)).append(",");
    offset += tensor.data.size();
    text.append(std::to_string(offset)).append("]},");
  }
  if (text.back() == ',') text.pop_back();
  return text.append("}");
}

/// One tensor as the header describes it.
struct header_entry {
  std::string name;
  stored_type type{};
  std::vector<std::int64_t> shape;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

/// Receives the events of nlohmann's parser, which does not recurse, and stops at the first that does not belong.
class header_reader {
 public:
  explicit header_reader(std::filesystem::path path) : path_(std::move(path)) {}

  void parse(std::string_view header) {
    // The parser would skip a byte order mark, and take a zero byte for the end.
    if (header.empty() || header.front() != '{') fail("does not begin with '{'");
    if (header.find('\0') != std::string_view::npos) fail("holds a zero byte");
    nlohmann::json::sax_parse(header.begin(), header.end(), this);
  }

  [[nodiscard]] std::map<std::string, std::string>& metadata() noexcept { return metadata_; }
  [[nodiscard]] std::vector<header_entry>& tensors() noexcept { return tensors_; }

  bool null() { unexpected("null"); }
  bool boolean(bool) { unexpected("a boolean"); }
  bool binary(nlohmann::json::binary_t&) { unexpected("binary data"); }
  bool number_float(double, const std::string& text) { unexpected("the number " + printable(text)); }
  bool number_integer(std::int64_t value) { unexpected("the negative number " + std::to_string(value)); }

  bool number_unsigned(std::uint64_t value) {
    if (place_ == place::shape) {
      if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
        fail(subject() + "the extent " + std::to_string(value) + " is too large");
      }
      entry_.shape.push_back(static_cast<std::int64_t>(value));
    } else if (place_ == place::offsets && offsets_ < 2) {
      (offsets_++ == 0 ? entry_.begin : entry_.end) = value;
    } else {
      unexpected("the number " + std::to_string(value));
    }
    return true;
  }

  bool string(std::string& value) {
    if (place_ == place::metadata) {
      metadata_.insert_or_assign(key_, std::move(value));
    } else if (place_ == place::tensor && key_ == "dtype") {
      const auto type = stored_type_named(value);
      if (!type) fail(subject() + "unknown dtype " + printable(value) + ", expected one of" + type_names());
      entry_.type = *type;
    } else {
      unexpected("the string " + printable(value));
    }
    return true;
  }

  bool key(std::string& value) {
    auto& seen = keys_[place_ == place::file ? 0 : 1];
    if (!seen.insert(value).second) fail(subject() + "duplicate key " + printable(value));
    if (place_ == place::tensor && value != "dtype" && value != "shape" && value != "data_offsets") {
      fail(subject() + "unknown key " + printable(value) + ", expected dtype, shape or data_offsets");
    }
    (place_ == place::file ? name_ : key_) = std::move(value);
    return true;
  }

  bool start_object(std::size_t) {
    if (place_ == place::outside) {
      place_ = place::file;
    } else if (place_ == place::file) {
      place_ = name_ == metadata_key ? place::metadata : place::tensor;
      keys_[1].clear();
      entry_ = {name_, {}, {}, 0, 0};
      offsets_ = 0;
    } else {
      unexpected("an object");
    }
    return true;
  }

  bool end_object() {
    if (place_ == place::tensor) {
      for (const auto* needed : {"dtype", "shape", "data_offsets"}) {
        if (!keys_[1].contains(needed)) fail(subject() + needed + " is missing");
      }
      if (offsets_ != 2) fail(subject() + "data_offsets are not two numbers");
      tensors_.push_back(std::move(entry_));
    }
    place_ = place_ == place::file ? place::outside : place::file;
    return true;
  }

  bool start_array(std::size_t) {
    if (place_ != place::tensor || key_ == "dtype") unexpected("an array");
    place_ = key_ == "shape" ? place::shape : place::offsets;
    return true;
  }

  bool end_array() {
    place_ = place::tensor;
    return true;
  }

  template <typename Exception>
  bool parse_error(std::size_t position, const std::string&, const Exception& exception) {
    const bool encoding = std::string_view(exception.what()).find("ill-formed UTF-8") != std::string_view::npos;
    fail(std::string{"is not valid "} + (encoding ? "UTF-8" : "JSON") + " at byte " + std::to_string(position));
  }

 private:
  enum class place { outside, file, metadata, tensor, shape, offsets };

  [[noreturn]] void fail(const std::string& reason) const { throw file_error(path_.string(), "header: " + reason); }

  [[noreturn]] void unexpected(const std::string& what) const {
    switch (place_) {
      case place::metadata:
        fail(subject() + printable(key_) + " is " + what + ", not a string");
      case place::shape:
        fail(subject() + "shape holds " + what + ", not an extent");
      case place::offsets:
        fail(subject() + "data_offsets are not two numbers: they hold " + what);
      case place::tensor:
        fail(subject() + printable(key_) + " is " + what);
      default:
        fail(printable(name_) + " is " + what + ", not an object");
    }
  }

  static std::string type_names() {
    std::string names;
    for (const auto& type : stored_types) names.append(" ").append(type.name);
    return names;
  }

  [[nodiscard]] std::string subject() const {
    if (place_ == place::outside || place_ == place::file) return {};
    return place_ == place::metadata ? "metadata: " : "tensor " + printable(name_) + ": ";
  }

  std::filesystem::path path_;
  place place_ = place::outside;
  std::string name_;  // of the tensor
  std::string key_;   // inside the tensor, or inside the metadata
  std::set<std::string, std::less<>> keys_[2];
  header_entry entry_;
  int offsets_ = 0;
  std::map<std::string, std::string> metadata_;
  std::vector<header_entry> tensors_;
};

/// The positions of the entries in the order of their data; throws file_error unless they tile it.
inline std::vector<std::size_t> placed_in_order(const std::filesystem::path& path,
                                                std::span<const header_entry> entries, std::uint64_t data_size) {
  const auto fail = [&](const header_entry& entry, const std::string& reason) {
    throw file_error(path.string(), "tensor " + printable(entry.name) + ": " + reason);
  };
  for (const auto& entry : entries) {
    // by append: g++ 12 warns falsely of "literal" + string where that is inlined (GCC bug 105651)
    const auto range =
        std::string{"["}.append(std::to_string(entry.begin)).append(", ").append(std::to_string(entry.end)).append("]");
    const auto bytes = stored_bytes(entry.type, entry.shape);
    if (!bytes) fail(entry, "shape " + shape_text(entry.shape) + " overflows 64 bits");
    if (entry.begin > entry.end) fail(entry, "data_offsets " + range + " are in the wrong order");
    if (entry.end > data_size) {
      fail(entry, "data_offsets " + range + " are beyond the end of the data of " + std::to_string(data_size) +
                      " bytes: the file is cut short or damaged");
    }
    if (entry.end - entry.begin != static_cast<std::uint64_t>(*bytes)) {
      fail(entry, "data_offsets " + range + " do not hold " + std::string{stored_name(entry.type)} + " of shape " +
                      shape_text(entry.shape));
    }
  }
  std::vector<std::size_t> order(entries.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::sort(order, [&](std::size_t a, std::size_t b) {
    return std::pair{entries[a].begin, entries[a].end} < std::pair{entries[b].begin, entries[b].end};
  });
  std::uint64_t position = 0;
  for (const auto i : order) {
    if (entries[i].begin < position) fail(entries[i], "its data overlap those of another tensor");
    if (entries[i].begin > position) {
      fail(entries[i], "hole of " + std::to_string(entries[i].begin - position) + " bytes in front of its data");
    }
    position = entries[i].end;
  }
  if (position != data_size) {
    throw file_error(path.string(), std::to_string(data_size - position) + " trailing bytes behind the last tensor");
  }
  return order;
}

}  // namespace io_detail

LIGHTNET_END_NAMESPACE
