// SPDX-License-Identifier: Apache-2.0
#pragma once

// The text, and the part of it that is held out.

#include <sys/wait.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <lightnet/core/error.hpp>
#include <string>
#include <string_view>

#include "arguments.hpp"
#include "common/bytes.hpp"

namespace language_model {

/// What the program `bible` prints. Throws lightnet::file_error where there is none, or it fails.
inline std::string bible_text() {
  const auto fail = [] {
    throw lightnet::file_error("bible", "cannot be run; install the Debian package bible-kjv, or give --data FILE");
  };
  std::FILE* const pipe = ::popen("bible -f gen1:1-rev22:21 2>/dev/null", "r");
  if (pipe == nullptr) fail();
  std::string text;
  std::array<char, 65536> part{};
  for (std::size_t size = 0; (size = std::fread(part.data(), 1, part.size(), pipe)) > 0;)
    text.append(part.data(), size);
  if (::pclose(pipe) != 0) fail();
  return text;
}

/// The text, of which the last tenth is not learned from.
struct corpus {
  std::string text;

  [[nodiscard]] std::string_view learned() const { return std::string_view{text}.substr(0, text.size() - held()); }
  [[nodiscard]] std::string_view held_out() const { return std::string_view{text}.substr(text.size() - held()); }

 private:
  [[nodiscard]] std::size_t held() const { return text.size() / 10; }
};

/// The text that was asked for. Throws lightnet::file_error where it cannot be read, or is too short to make so many bytes
/// of each part.
inline corpus load_corpus(const arguments& given, std::int64_t least) {
  corpus all{given.data ? examples::file_text(*given.data) : bible_text()};
  if (given.limit && static_cast<std::uint64_t>(*given.limit) < all.text.size()) {
    all.text.resize(static_cast<std::size_t>(*given.limit));
  }
  if (static_cast<std::int64_t>(all.held_out().size()) < least) {
    throw lightnet::file_error(given.data.value_or("bible"), "is too short: " + std::to_string(all.text.size()) +
                                                                 " bytes, of which a tenth is held out; " +
                                                                 std::to_string(10 * least) + " are needed");
  }
  return all;
}

}  // namespace language_model
