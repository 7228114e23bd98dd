// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the command line says.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/training_arguments.hpp"

namespace masked_language_model {

struct arguments : examples::text_arguments {
  std::optional<std::int64_t> length;  // of a piece of text, in bytes
  std::optional<double> mask_rate;
  std::optional<std::int64_t> test;  // bytes of the test
  std::string data = "/usr/share/dictd/gcide.dict.dz";
  std::vector<std::string> fill;  // texts with places to guess
};

}  // namespace masked_language_model
