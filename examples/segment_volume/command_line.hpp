// SPDX-License-Identifier: Apache-2.0
#pragma once

// Reading the command line.

#include <CLI/CLI.hpp>
#include <optional>
#include <string>

#include "arguments.hpp"
#include "common/program.hpp"
#include "settings.hpp"

namespace segment_volume {

/// Reads the command line; where the program has no more to do, `exit_code` says how it ends: 0 after --help, 2 after
/// a mistake.
inline arguments parse(int count, char** values, std::optional<int>& exit_code) {
  arguments given;
  given.output = examples::program_folder(values[0]).string();
  CLI::App app{
      "A LightNet learns the regions of the brain from the left half of one, and finds them in the right half: the " +
      std::to_string(model_options::classes - 1) + " largest of the atlas AAL. It works on blocks of voxels, " +
      std::to_string(standard_settings().factor) +
      " each way, and where the blocks begin is moved about: in training at random, in the test to all places, "
      "whose answers vote for the class of a voxel. What it is scored by are the voxels."};
  app.option_defaults()->always_capture_default();
  app.add_option("--epochs", given.epochs, "Rounds of training")->check(CLI::Range(1, 100'000));
  app.add_option("--items", given.items, "Times that a round shows the half, each time moved differently")
      ->check(CLI::Range(1, 1'000'000));
  app.add_option("--threads", given.threads, "Threads of the CPU, 0 for all; they change no bit of the result")
      ->check(CLI::Range(0, 4096));
  app.add_option("--seed", given.seed, "Seed of all that is random")->check(CLI::NonNegativeNumber);
  app.add_option("--batch", given.batch, "Items of an update")->check(CLI::Range(1, 1024));
  app.add_option("--rate", given.rate, "The largest learning rate")->check(CLI::Range(0.0, 1.0));
  app.add_option("--decay", given.decay, "Weight decay, times the learning rate")->check(CLI::Range(0.0, 10.0));
  app.add_option("--resume", given.resume, "A checkpoint to go on from, with its settings")->type_name("FILE");
  app.add_option("--data", given.data, "Folder of ch2.nii.gz and aal.nii.gz, as mricron-data has them")
      ->type_name("DIR");
  app.add_option("--output", given.output, "Folder of the checkpoint, the picture and the curve")->type_name("DIR");
  try {
    app.parse(count, values);
  } catch (const CLI::ParseError& error) {
    exit_code = app.exit(error) == 0 ? 0 : 2;
  }
  return given;
}

}  // namespace segment_volume
