// SPDX-License-Identifier: Apache-2.0
#pragma once

// The text, and the part of it that is held out.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <lightnet/core/error.hpp>
#include <string>
#include <string_view>

#include "common/bytes.hpp"
#include "common/gzip.hpp"

namespace masked_language_model {

/// The contents of a file, unpacked where it is a gzip file. Throws lightnet::file_error where it cannot be read.
inline std::string text_of(const std::string& path) {
  if (!std::filesystem::exists(path)) {
    throw lightnet::file_error(path, "is not there; the dictionary is in the Debian package dict-gcide");
  }
  std::string text = examples::file_text(path);
  if (!text.starts_with("\x1f\x8b")) return text;
  text.clear();
  examples::gzip_reader reader{path};
  std::array<std::uint8_t, 65536> part{};
  while (const std::size_t size = reader.read(part)) text.append(part.begin(), part.begin() + size);
  return text;
}

/// At most so many bytes of a text, in stretches from all over it.
inline std::string some_of(std::string_view text, std::size_t count) {
  constexpr std::size_t stretch = 8192;
  if (count + 2 * stretch >= text.size()) return std::string{text.substr(0, count)};  // they would overlap
  const std::size_t stretches = (count - 1) / stretch + 1;
  std::string some;
  for (std::size_t i = 0; i < stretches; ++i) {
    const std::size_t size = std::min(stretch, count - some.size());
    const std::size_t first = (text.size() - size) / stretches * i;
    some += text.substr(first, size);
  }
  return some;
}

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
