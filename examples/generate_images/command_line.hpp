// SPDX-License-Identifier: Apache-2.0
#pragma once

// Reading the command line.

#include <optional>
#include <string>

#include "arguments.hpp"
#include "common/command_line.hpp"
#include "common/program.hpp"

namespace generate_images {

/// Reads the command line; where the program has no more to do, `exit_code` says how it ends: 0 after --help, 2 after
/// a mistake.
inline arguments parse(int count, char** values, std::optional<int>& exit_code) {
  arguments given;
  given.output = examples::program_folder(values[0]).string();
  CLI::App app{"A LightNet learns to draw clothes (Fashion-MNIST) out of noise, with one scan a layer."};
  examples::add_training_options(app, given,
                                 {.epochs = "Times that every training image is seen",
                                  .batch = "Images of an update",
                                  .resume = "A checkpoint to go on from, with its settings; of a finished training, "
                                            "images are drawn",
                                  .output = "Folder of the checkpoint, the picture and the curve",
                                  .largest_batch = 60'000});
  app.add_option("--mixer", given.mixer, "additive (the default), retnet or hgrn2");
  app.add_option("--steps", given.steps, "Steps from noise to an image, of the 1000 that the network knows")
      ->check(examples::within(1, 1000));
  app.add_option("--guidance", given.guidance, "How far to go towards the class; 1 takes the network as it is")
      ->check(examples::within(0.0, 100.0));
  app.add_option("--drawing-seed", given.drawing_seed, "Seed of the noise that images are drawn from, if another")
      ->check(examples::within(std::uint64_t{0}));
  app.add_option("--judged", given.judged,
                 "Images that are drawn for the Frechet distance to the held-out ones, 2 or more; 0: it is left out")
      ->type_name("N")
      ->check(examples::within(std::int64_t{0}));
  app.add_option("--classifier", given.classifier,
                 "The classifier whose features are compared, a checkpoint of the demonstration; without it a short "
                 "training makes one")
      ->type_name("FILE");
  app.add_option("--data", given.data, "Folder of the gzipped IDX files")->type_name("DIR");
  app.add_option("--limit", given.limit, "Train on the first N images only")
      ->type_name("N")
      ->check(examples::within(std::int64_t{1}));
  exit_code = examples::parse(app, count, values);
  return given;
}

}  // namespace generate_images
