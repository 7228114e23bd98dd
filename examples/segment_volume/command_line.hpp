// SPDX-License-Identifier: Apache-2.0
#pragma once

// Reading the command line.

#include <optional>
#include <string>

#include "arguments.hpp"
#include "common/command_line.hpp"
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
  examples::add_training_options(app, given,
                                 {.epochs = "Rounds of training",
                                  .batch = "Items of an update",
                                  .resume = "A checkpoint to go on from, with its settings",
                                  .output = "Folder of the checkpoint, the picture and the curve",
                                  .largest_batch = 1024});
  app.add_option("--items", given.items, "Times that a round shows the half, each time moved differently")
      ->check(examples::within(1, 1'000'000));
  app.add_option("--data", given.data, "Folder of ch2.nii.gz and aal.nii.gz, as mricron-data has them")
      ->type_name("DIR");
  exit_code = examples::parse(app, count, values);
  return given;
}

}  // namespace segment_volume
