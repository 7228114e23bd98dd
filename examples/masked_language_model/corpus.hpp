// SPDX-License-Identifier: Apache-2.0
#pragma once

// The text, and the part of it that is held out.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <lightnet/core/error.hpp>
#include <lightnet/core/tensor.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/machine.hpp"
#include "fashion_mnist/gzip.hpp"

namespace masked_language_model {

/// The contents of a file, unpacked where it is a gzip file. Throws lightnet::file_error where it cannot be read.
inline std::string text_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file || std::filesystem::is_directory(path)) {
    throw lightnet::file_error(path, "cannot be read; the dictionary is in the Debian package dict-gcide");
  }
  std::array<char, 65536> part{};
  file.read(part.data(), 2);
  const bool packed = file.gcount() == 2 && part[0] == '\x1f' && part[1] == '\x8b';
  std::string text;
  if (packed) {
    fashion_mnist::gzip_reader reader{path};
    const std::span bytes{reinterpret_cast<std::uint8_t*>(part.data()), part.size()};
    while (const std::size_t size = reader.read(bytes)) text.append(part.data(), size);
    return text;
  }
  do {
    text.append(part.data(), static_cast<std::size_t>(file.gcount()));
  } while (file.read(part.data(), part.size()) || file.gcount() > 0);
  if (file.bad()) throw lightnet::file_error(path, "cannot be read");
  return text;
}

/// At most so many bytes of a text, in stretches from all over it.
inline std::string some_of(std::string_view text, std::size_t count) {
  constexpr std::size_t stretch = 8192;
  if (count >= text.size()) return std::string{text};
  const std::size_t stretches = (count - 1) / stretch + 1;
  std::string some;
  for (std::size_t i = 0; i < stretches; ++i) {
    const std::size_t size = std::min(stretch, count - some.size());
    const std::size_t first = (text.size() - size) / stretches * i;
    some += text.substr(first, size);
  }
  return some;
}

/// Bytes as tokens, in memory of the device. // [bytes]
class tokens {
 public:
  explicit tokens(std::string_view text) : values_{{{static_cast<std::int64_t>(text.size())}}} {
    std::vector<std::int32_t> values;
    values.reserve(text.size());
    for (const char byte : text) values.push_back(static_cast<unsigned char>(byte));
    if (!values.empty()) examples::device::copy(values_.data(), values.data(), values.size() * sizeof values[0]);
  }
  [[nodiscard]] auto view() const { return values_.view(); }

 private:
  lightnet::tensor<lightnet::rank<1>, std::int32_t, examples::device> values_;
};

/// What is learned from, and what of the last tenth is tested on.
struct corpus {
  std::string learned, held_out;

  /// The right guesses of whoever always guesses the most frequent byte of what is learned from: a share of what is held out.
  [[nodiscard]] double unigram() const {
    std::array<std::int64_t, 256> counts{};
    for (const char byte : learned) ++counts[static_cast<unsigned char>(byte)];
    const auto most = static_cast<char>(std::max_element(counts.begin(), counts.end()) - counts.begin());
    return static_cast<double>(std::count(held_out.begin(), held_out.end(), most)) /
           static_cast<double>(held_out.size());
  }
};

/// The text of a file, at most so many bytes of each part. Throws lightnet::file_error where it cannot be read, or makes
/// less than `least` bytes of a part.
inline corpus load_corpus(const std::string& path, std::int64_t learned, std::int64_t tested, std::int64_t least) {
  const std::string text = text_of(path);
  const std::size_t held = text.size() / 10;
  const std::string_view all{text};
  corpus parts{some_of(all.substr(0, all.size() - held), static_cast<std::size_t>(learned)),
               some_of(all.substr(all.size() - held), static_cast<std::size_t>(tested))};
  const auto shorter = static_cast<std::int64_t>(std::min(parts.learned.size(), parts.held_out.size()));
  if (shorter < least) {
    throw lightnet::file_error(path, "is too short: of its " + std::to_string(text.size()) + " bytes " +
                                         std::to_string(parts.learned.size()) + " are to learn from and " +
                                         std::to_string(parts.held_out.size()) + " for the test, and each needs " +
                                         std::to_string(least));
  }
  return parts;
}

}  // namespace masked_language_model
