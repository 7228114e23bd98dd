// SPDX-License-Identifier: Apache-2.0
#pragma once

// Texts as bytes, and tokens in memory of the device.

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <lightnet/core/error.hpp>
#include <lightnet/core/tensor.hpp>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "fingerprint.hpp"
#include "machine.hpp"

namespace examples {

/// The contents of a regular file: what else there is may never end, or not be there a second time. Throws lightnet::file_error
/// where it cannot be read.
inline std::string file_text(const std::string& path) {
  std::error_code failed;
  const auto status = std::filesystem::status(path, failed);
  if (exists(status) && !is_regular_file(status)) {
    const char* const what = is_directory(status) ? "a folder" : is_fifo(status) ? "a pipe" : "a device or a socket";
    throw lightnet::file_error(path, std::string{"is "} + what + ", expected a regular file");
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) throw lightnet::file_error(path, "cannot be opened");
  std::string text;
  std::array<char, 65536> part{};
  while (file.read(part.data(), part.size()) || file.gcount() > 0) {
    text.append(part.data(), static_cast<std::size_t>(file.gcount()));
  }
  if (file.bad()) throw lightnet::file_error(path, "cannot be read");
  return text;
}

/// Tokens in memory of the device. // [tokens]
class tokens {
 public:
  explicit tokens(const std::vector<std::int32_t>& values)
      : tokens_{{{static_cast<std::int64_t>(values.size())}}}, fingerprint_{examples::fingerprint(values)} {
    if (!values.empty()) device::copy(tokens_.data(), values.data(), values.size() * sizeof values[0]);
  }
  [[nodiscard]] auto view() const { return tokens_.view(); }
  [[nodiscard]] const std::string& fingerprint() const noexcept { return fingerprint_; }

 private:
  lightnet::tensor<lightnet::rank<1>, std::int32_t, device> tokens_;
  std::string fingerprint_;
};

/// A token for each byte.
inline std::vector<std::int32_t> byte_tokens(std::string_view text) {
  std::vector<std::int32_t> values;
  values.reserve(text.size());
  for (const char byte : text) values.push_back(static_cast<unsigned char>(byte));
  return values;
}

/// Bytes as tokens in memory of the device. // [bytes]
struct bytes : tokens {
  explicit bytes(std::string_view text) : tokens{byte_tokens(text)} {}
};

}  // namespace examples
