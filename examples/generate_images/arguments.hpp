// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the command line says.

#include <cstdint>
#include <optional>
#include <string>

#include "fashion_mnist/idx.hpp"

namespace generate_images {

struct arguments {
  std::optional<std::int64_t> epochs;  // what is not given comes from the settings, or from the checkpoint
  std::optional<std::uint64_t> seed;
  std::optional<std::int64_t> batch;
  std::optional<double> rate;
  std::optional<std::int64_t> limit;
  std::optional<std::string> mixer;
  std::int64_t steps = 25;
  double guidance = 2;
  std::optional<std::uint64_t> drawing_seed;
  std::optional<std::int64_t> judged;     // images that are drawn for the Frechet distance
  std::optional<std::string> classifier;  // a checkpoint of the demonstration
  int threads = 0;
  std::string data = fashion_mnist::default_folder;
  std::optional<std::string> resume;
  std::string output;
};

}  // namespace generate_images
