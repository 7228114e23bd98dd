// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the command line says.

#include <cstdint>
#include <optional>
#include <string>

#include "halves.hpp"

namespace segment_volume {

struct arguments {
  std::optional<std::int64_t> epochs;  // what is not given comes from the settings, or from the checkpoint
  std::optional<std::int64_t> items;
  std::optional<std::uint64_t> seed;
  std::optional<std::int64_t> batch;
  std::optional<double> rate;
  std::optional<double> decay;
  int threads = 0;
  std::string data = default_folder;
  std::optional<std::string> resume;
  std::string output;
};

}  // namespace segment_volume
