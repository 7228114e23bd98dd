// SPDX-License-Identifier: Apache-2.0
#pragma once

// Reading the command line.

#include <optional>
#include <string>

#include "arguments.hpp"
#include "common/command_line.hpp"
#include "common/program.hpp"

namespace masked_language_model {

/// Reads the command line; where the program has no more to do, `exit_code` says how it ends: 0 after --help, 2 after
/// a mistake.
inline arguments parse(int count, char** values, std::optional<int>& exit_code) {
  arguments given;
  given.output = examples::program_folder(values[0]).string();
  CLI::App app{"A LightNet reads a dictionary in which bytes are hidden, and learns to guess them from both sides."};
  examples::add_text_options(
      app, given,
      {.epochs = "Times that the text is read",
       .batch = "Pieces of text of an update",
       .resume = "A checkpoint to go on from, with its settings and the same --length and --mask-rate; a finished one "
                 "is tested and guesses",
       .output = "Folder of the checkpoint and the curve"});
  app.add_option("--length", given.length, "Bytes of a piece of text")->check(examples::within(1, 1 << 20));
  app.add_option("--mask-rate", given.mask_rate, "Share of the bytes that are to be guessed")
      ->check(examples::within(0.001, 1.0));
  app.add_option("--limit", given.limit, "Learn from N bytes only, from all over the text")
      ->type_name("N")
      ->check(examples::within(std::int64_t{1}));
  app.add_option("--test", given.test, "Test on N bytes only, from all over what is held out")
      ->type_name("N")
      ->check(examples::within(std::int64_t{1}));
  app.add_option("--data", given.data, "A text, gzipped or not; the default is that of the Debian package dict-gcide")
      ->type_name("FILE");
  app.add_option("--fill", given.fill, "A text whose every _ is guessed, too")
      ->type_name("TEXT")
      ->check(examples::not_empty);
  exit_code = examples::parse(app, count, values);
  return given;
}

}  // namespace masked_language_model
