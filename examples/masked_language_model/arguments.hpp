// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the command line says.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace masked_language_model {

struct arguments {
  std::optional<std::int64_t> epochs;  // what is not given comes from the settings, or from the checkpoint
  std::optional<std::uint64_t> seed;
  std::optional<std::int64_t> batch;
  std::optional<double> rate;
  std::optional<double> decay;
  std::optional<std::int64_t> length;  // of a piece of text, in bytes
  std::optional<double> mask_rate;
  std::optional<std::int64_t> limit;  // bytes to learn from
  std::optional<std::int64_t> test;   // bytes of the test
  int threads = 0;
  std::string data = "/usr/share/dictd/gcide.dict.dz";
  std::optional<std::string> resume;
  std::string output;
  std::vector<std::string> fill;  // texts with places to guess
};

}  // namespace masked_language_model
