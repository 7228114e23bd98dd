// SPDX-License-Identifier: Apache-2.0
#pragma once

// Reading the command line.

#include <CLI/CLI.hpp>
#include <optional>
#include <string>

#include "arguments.hpp"
#include "common/program.hpp"

namespace fashion_mnist {

/// Reads the command line; where the program has no more to do, `exit_code` says how it ends: 0 after --help, 2 after
/// a mistake.
inline arguments parse(int count, char** values, std::optional<int>& exit_code) {
  arguments given;
  given.output = examples::program_folder(values[0]).string();
  CLI::App app{"A LightNet learns to tell pictures of clothes apart (Fashion-MNIST), with one scan a layer."};
  app.option_defaults()->always_capture_default();
  app.add_option("--epochs", given.epochs, "Times that every training image is seen")->check(CLI::Range(1, 100'000));
  app.add_option("--threads", given.threads, "Threads of the CPU, 0 for all; they change no bit of the result")
      ->check(CLI::Range(0, 4096));
  app.add_option("--seed", given.seed, "Seed of all that is random")->check(CLI::NonNegativeNumber);
  app.add_option("--batch", given.batch, "Images of an update")->check(CLI::Range(1, 60'000));
  app.add_option("--rate", given.rate, "The largest learning rate")->check(CLI::Range(0.0, 1.0));
  app.add_option("--decay", given.decay, "Weight decay, times the learning rate")->check(CLI::Range(0.0, 10.0));
  app.add_option("--smoothing", given.smoothing, "Of the labels")->check(CLI::Range(0.0, 0.99));
  app.add_option("--resume", given.resume, "A checkpoint to go on from, with its settings")->type_name("FILE");
  app.add_option("--data", given.data, "Folder of the gzipped IDX files")->type_name("DIR");
  app.add_option("--output", given.output, "Folder of the checkpoint, the picture and the curve")->type_name("DIR");
  app.add_option("--pictures", given.pictures, "Leave the first N test images, too, as PNG files, which predict reads")
      ->type_name("N")
      ->check(CLI::Range(0, 10'000));
  app.add_option("--limit", given.limit, "Train on the first N images only")
      ->type_name("N")
      ->check(CLI::PositiveNumber);
  auto* const mixer = app.add_option("--mixer", given.mixer, "additive (the default), retnet, hgrn2 or hgrn2-axial");
  auto* const compare = app.add_flag("--compare", given.compare, "Train all mixers, and print a table");
  app.add_option("--seeds", given.seeds, "Trainings of each mixer, with seeds one apart")
      ->needs(compare)
      ->check(CLI::Range(1, 1000));
  compare->excludes(mixer)->excludes("--resume");
  try {
    app.parse(count, values);
  } catch (const CLI::ParseError& error) {
    exit_code = app.exit(error) == 0 ? 0 : 2;
  }
  return given;
}

}  // namespace fashion_mnist
