// SPDX-License-Identifier: Apache-2.0
#pragma once

// The command line.

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <system_error>

#include "idx.hpp"

namespace fashion_mnist {

struct arguments {
  std::optional<std::int64_t> epochs;  // what is not given comes from the settings, or from the checkpoint
  std::optional<std::uint64_t> seed;
  std::optional<std::int64_t> limit;
  int threads = 0;
  std::string data = default_folder;
  std::optional<std::string> resume;
  std::string output;
};

/// The folder of the running program.
inline std::filesystem::path program_folder(const char* called_as) {
  std::error_code failed;
  auto self = std::filesystem::read_symlink("/proc/self/exe", failed);
  if (failed) self = called_as;
  return self.has_parent_path() ? self.parent_path() : std::filesystem::path(".");
}

/// Reads the command line; where the program has no more to do, `exit_code` says how it ends: 0 after --help, 2 after
/// a mistake.
inline arguments parse(int count, char** values, std::optional<int>& exit_code) {
  arguments given;
  given.output = program_folder(values[0]).string();
  CLI::App app{"A LightNet learns to tell pictures of clothes apart (Fashion-MNIST), with one scan a layer."};
  app.option_defaults()->always_capture_default();
  app.add_option("--epochs", given.epochs, "Times that every training image is seen")->check(CLI::Range(1, 100'000));
  app.add_option("--threads", given.threads, "Threads, 0 for all; they change no bit of the result")
      ->check(CLI::Range(0, 4096));
  app.add_option("--seed", given.seed, "Seed of all that is random")->check(CLI::NonNegativeNumber);
  app.add_option("--resume", given.resume, "A checkpoint to go on from, with its settings")->type_name("FILE");
  app.add_option("--data", given.data, "Folder of the gzipped IDX files")->type_name("DIR");
  app.add_option("--output", given.output, "Folder of the checkpoint, the picture and the curve")->type_name("DIR");
  app.add_option("--limit", given.limit, "Train on the first N images only")
      ->type_name("N")
      ->check(CLI::PositiveNumber);
  try {
    app.parse(count, values);
  } catch (const CLI::ParseError& error) {
    exit_code = app.exit(error) == 0 ? 0 : 2;
  }
  return given;
}

}  // namespace fashion_mnist
