// SPDX-License-Identifier: Apache-2.0
#pragma once

// Reading the command line.

#include <CLI/CLI.hpp>
#include <optional>
#include <string>

#include "arguments.hpp"
#include "common/program.hpp"

namespace masked_language_model {

/// Reads the command line; where the program has no more to do, `exit_code` says how it ends: 0 after --help, 2 after
/// a mistake.
inline arguments parse(int count, char** values, std::optional<int>& exit_code) {
  arguments given;
  given.output = examples::program_folder(values[0]).string();
  CLI::App app{"A LightNet reads a dictionary in which bytes are hidden, and learns to guess them from both sides."};
  app.option_defaults()->always_capture_default();
  app.add_option("--epochs", given.epochs, "Times that the text is read")->check(CLI::Range(1, 100'000));
  app.add_option("--threads", given.threads, "Threads of the CPU, 0 for all; they change no bit of the result")
      ->check(CLI::Range(0, 4096));
  app.add_option("--seed", given.seed, "Seed of all that is random")->check(CLI::NonNegativeNumber);
  app.add_option("--batch", given.batch, "Pieces of text of an update")->check(CLI::Range(1, 65'536));
  app.add_option("--length", given.length, "Bytes of a piece of text")->check(CLI::Range(1, 1 << 20));
  app.add_option("--mask-rate", given.mask_rate, "Share of the bytes that are to be guessed")
      ->check(CLI::Range(0.001, 1.0));
  app.add_option("--rate", given.rate, "The largest learning rate")->check(CLI::Range(0.0, 1.0));
  app.add_option("--decay", given.decay, "Weight decay, times the learning rate")->check(CLI::Range(0.0, 10.0));
  app.add_option("--limit", given.limit, "Learn from N bytes only, from all over the text")
      ->type_name("N")
      ->check(CLI::PositiveNumber);
  app.add_option("--test", given.test, "Test on N bytes only, from all over what is held out")
      ->type_name("N")
      ->check(CLI::PositiveNumber);
  app.add_option("--data", given.data, "A text, gzipped or not; the default is that of the Debian package dict-gcide")
      ->type_name("FILE");
  app.add_option("--resume", given.resume,
                 "A checkpoint to go on from, with its settings and the same --length and --mask-rate; a finished one "
                 "only guesses")
      ->type_name("FILE");
  app.add_option("--output", given.output, "Folder of the checkpoint and the curve")->type_name("DIR");
  app.add_option("--fill", given.fill, "A text whose every _ is guessed, too")
      ->type_name("TEXT")
      ->check([](const std::string& text) { return std::string{text.empty() ? "must not be empty" : ""}; });
  try {
    app.parse(count, values);
  } catch (const CLI::ParseError& error) {
    exit_code = app.exit(error) == 0 ? 0 : 2;
  }
  return given;
}

}  // namespace masked_language_model
