// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the command line says.

#include <cstdint>
#include <optional>
#include <string>

#include "common/training_arguments.hpp"
#include "fashion_mnist/idx.hpp"

namespace generate_images {

struct arguments : examples::training_arguments {
  std::optional<std::int64_t> limit;
  std::optional<std::string> mixer;
  std::int64_t steps = 25;
  double guidance = 2;
  std::optional<std::uint64_t> drawing_seed;
  std::optional<std::int64_t> judged;     // images that are drawn for the Frechet distance
  std::optional<std::string> classifier;  // a checkpoint of the demonstration
  std::string data = fashion_mnist::default_folder;
};

}  // namespace generate_images
