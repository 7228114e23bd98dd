// SPDX-License-Identifier: Apache-2.0
#pragma once

// Reading the command line.

#include <optional>
#include <string>

#include "arguments.hpp"
#include "common/command_line.hpp"
#include "common/program.hpp"

namespace fashion_mnist {

/// Reads the command line; where the program has no more to do, `exit_code` says how it ends: 0 after --help, 2 after
/// a mistake.
inline arguments parse(int count, char** values, std::optional<int>& exit_code) {
  arguments given;
  given.output = examples::program_folder(values[0]).string();
  CLI::App app{"A LightNet learns to tell pictures of clothes apart (Fashion-MNIST), with one scan a layer."};
  examples::add_training_options(app, given,
                                 {.epochs = "Times that every training image is seen",
                                  .batch = "Images of an update",
                                  .resume = "A checkpoint to go on from, with its settings",
                                  .output = "Folder of the checkpoint, the picture and the curve",
                                  .largest_batch = 60'000});
  app.add_option("--smoothing", given.smoothing, "Of the labels")->check(examples::within(0.0, 0.99));
  app.add_option("--data", given.data, "Folder of the gzipped IDX files")->type_name("DIR");
  app.add_option("--pictures", given.pictures, "Leave the first N test images, too, as PNG files, which predict reads")
      ->type_name("N")
      ->check(examples::within(0, 10'000));
  app.add_option("--limit", given.limit, "Train on the first N images only")
      ->type_name("N")
      ->check(examples::within(std::int64_t{1}));
  auto* const mixer = app.add_option("--mixer", given.mixer, "additive (the default), retnet, hgrn2 or hgrn2-axial");
  auto* const compare = app.add_flag("--compare", given.compare, "Train all mixers, and print a table");
  app.add_option("--seeds", given.seeds, "Trainings of each mixer, with seeds one apart")
      ->needs(compare)
      ->check(examples::within(1, 1000));
  compare->excludes(mixer)->excludes("--resume");
  exit_code = examples::parse(app, count, values);
  return given;
}

}  // namespace fashion_mnist
