// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the command line says.

#include <cstdint>
#include <optional>
#include <string>

#include "idx.hpp"

namespace fashion_mnist {

struct arguments {
  std::optional<std::int64_t> epochs;  // what is not given comes from the settings, or from the checkpoint
  std::optional<std::uint64_t> seed;
  std::optional<std::int64_t> batch;
  std::optional<double> rate;
  std::optional<double> decay;
  std::optional<double> smoothing;
  std::optional<std::int64_t> limit;
  std::optional<std::string> mixer;
  bool compare = false;
  std::int64_t seeds = 3;
  std::int64_t pictures = 0;  // test images that are left as files
  int threads = 0;
  std::string data = default_folder;
  std::optional<std::string> resume;
  std::string output;
};

}  // namespace fashion_mnist
