// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the command line says.

#include <cstdint>
#include <optional>
#include <string>

#include "common/training_arguments.hpp"
#include "idx.hpp"

namespace fashion_mnist {

struct arguments : examples::training_arguments {
  std::optional<double> smoothing;
  std::optional<std::int64_t> limit;
  std::optional<std::string> mixer;
  bool compare = false;
  std::int64_t seeds = 3;
  std::int64_t pictures = 0;  // test images that are left as files
  std::string data = default_folder;
};

}  // namespace fashion_mnist
