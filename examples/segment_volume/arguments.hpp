// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the command line says.

#include <cstdint>
#include <optional>
#include <string>

#include "common/training_arguments.hpp"
#include "halves.hpp"

namespace segment_volume {

struct arguments : examples::training_arguments {
  std::optional<std::int64_t> items;
  std::string data = default_folder;
};

}  // namespace segment_volume
