// SPDX-License-Identifier: Apache-2.0
#pragma once

// Texts with places that are hidden, and what the model puts there.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <lightnet/core/random.hpp>
#include <lightnet/train/trainer.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "settings.hpp"

namespace masked_language_model {

using model = lightnet::masked_language_model<model_options, 1, number, device>;
using trainer = lightnet::trainer<model, number, device>;

/// The text with the likeliest byte at every place that is hidden.
inline std::string guessed(lightnet::execution<device>& on, trainer& trained, std::string text,
                           const std::vector<bool>& hidden) {
  const auto length = static_cast<std::int64_t>(text.size());
  std::vector<std::int32_t> values(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    values[i] = hidden[i] ? model::mask_token : static_cast<unsigned char>(text[i]);
  }
  lightnet::tensor<lightnet::rank<2>, std::int32_t, device> tokens{{{1, length}}};
  device::copy(tokens.data(), values.data(), values.size() * sizeof values[0]);
  const auto logits = trained.predict(on, std::as_const(tokens).view(), 1, length);
  on.check();
  std::vector<number> row(model::vocabulary);
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (!hidden[i]) continue;
    device::copy(row.data(), logits.data() + i * row.size(), row.size() * sizeof row[0]);
    // Of the bytes: the mask token is no guess.
    text[i] = static_cast<char>(std::max_element(row.begin(), row.end() - 1) - row.begin());
  }
  return text;
}

/// A text on one line.
inline std::string line_of(std::string text) {
  for (char& byte : text) byte = byte >= ' ' && byte < '\x7f' ? byte : byte == '\n' ? '|' : '?';
  return text;
}

/// Prints a piece of text with hidden places, the guesses, and the text itself.
inline void show_guesses(lightnet::execution<device>& on, trainer& trained, const std::string& text, double mask_rate,
                         std::uint32_t index) {
  const auto random = lightnet::stream_for(lightnet::stream_purpose::sampling, trained.options().seed, index);
  std::vector<bool> hidden;
  std::string seen = line_of(text);
  for (std::size_t i = 0; i < text.size(); ++i) {
    hidden.push_back(random.uniform(i) < mask_rate);
    if (hidden[i]) seen[i] = '_';
  }
  std::printf("hidden   %s\nguessed  %s\ntext     %s\n\n", seen.c_str(),
              line_of(guessed(on, trained, text, hidden)).c_str(), line_of(text).c_str());
}

/// Prints a text with a guess for every _ in it.
inline void fill_in(lightnet::execution<device>& on, trainer& trained, const std::string& text) {
  std::vector<bool> hidden;
  for (const char byte : text) hidden.push_back(byte == '_');
  std::printf("hidden   %s\nguessed  %s\n\n", line_of(text).c_str(),
              line_of(guessed(on, trained, text, hidden)).c_str());
}

}  // namespace masked_language_model
