// SPDX-License-Identifier: Apache-2.0
#pragma once

// Reading the command lines of all trainings.

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>

#include "training_arguments.hpp"

namespace examples {

/// How the help of a program puts it.
struct training_words {
  std::string epochs, batch, resume, output;
  std::int64_t largest_batch = 65'536;
};

/// Adds the options that all trainings have.
inline void add_training_options(CLI::App& app, training_arguments& given, const training_words& words) {
  app.option_defaults()->always_capture_default();
  app.add_option("--epochs", given.epochs, words.epochs)->check(CLI::Range(1, 100'000));
  app.add_option("--threads", given.threads, "Threads of the CPU, 0 for all; they change no bit of the result")
      ->check(CLI::Range(0, 4096));
  app.add_option("--seed", given.seed, "Seed of all that is random")->check(CLI::NonNegativeNumber);
  app.add_option("--batch", given.batch, words.batch)->check(CLI::Range(std::int64_t{1}, words.largest_batch));
  app.add_option("--rate", given.rate, "The largest learning rate")->check(CLI::Range(0.0, 1.0));
  app.add_option("--decay", given.decay, "Weight decay, times the learning rate")->check(CLI::Range(0.0, 10.0));
  app.add_option("--resume", given.resume, words.resume)->type_name("FILE");
  app.add_option("--output", given.output, words.output)->type_name("DIR");
}

/// The same for a training on a text.
inline void add_text_options(CLI::App& app, text_arguments& given, const training_words& words) {
  add_training_options(app, given, words);
  app.add_option("--shard", given.shard,
                 "Pieces of text that go through the network at a time, on a CPU a thread: less take less memory")
      ->check(CLI::Range(1, 65'536));
}

/// Reads the command line; where the program has no more to do, gives how it ends: 0 after --help, 2 after a mistake.
inline std::optional<int> parse(CLI::App& app, int count, char** values) {
  try {
    app.parse(count, values);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  return std::nullopt;
}

}  // namespace examples
