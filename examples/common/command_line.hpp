// SPDX-License-Identifier: Apache-2.0
#pragma once

// Reading the command lines of all trainings.

#include <CLI/CLI.hpp>
#include <charconv>
#include <concepts>
#include <cstdint>
#include <lightnet/core/decimal.hpp>
#include <limits>
#include <optional>
#include <string>
#include <system_error>

#include "training_arguments.hpp"

namespace examples {

/// Numbers from `least` to `most`: whole ones, in decimal, where these are.
template <class Number>
CLI::Validator within(Number least, Number most = std::numeric_limits<Number>::max()) {
  const auto text = [](Number value) {
    if constexpr (std::integral<Number>) {
      return std::to_string(value);
    } else {
      return lightnet::detail::decimal(value);
    }
  };
  const std::string range = text(least) + " to " + text(most);
  return {[=](const std::string& given) -> std::string {
            Number value{};
            const char* const end = given.data() + given.size();
            const auto read = std::from_chars(given.data(), end, value);
            bool good = read.ec == std::errc{} && read.ptr == end && value >= least && value <= most;
            if constexpr (std::integral<Number>) good = good && text(value) == given;  // 010 could mean 8
            if (good) return {};
            return (std::integral<Number> ? "expected a whole number from " : "expected a number from ") + range +
                   ", got " + given;
          },
          range};
}

/// Text that says something.
inline std::string not_empty(const std::string& given) {
  return given.empty() ? "expected one byte or more, got none" : "";
}

/// How the help of a program puts it.
struct training_words {
  std::string epochs, batch, resume, output;
  std::int64_t largest_batch = 65'536;
};

/// Adds the options that all trainings have.
inline void add_training_options(CLI::App& app, training_arguments& given, const training_words& words) {
  app.option_defaults()->always_capture_default();
  app.add_option("--epochs", given.epochs, words.epochs)->check(within(1, 100'000));
  app.add_option("--threads", given.threads, "Threads of the CPU, 0 for all; they change no bit of the result")
      ->check(within(0, 4096));
  app.add_option("--seed", given.seed, "Seed of all that is random")->check(within(std::uint64_t{0}));
  app.add_option("--batch", given.batch, words.batch)->check(within(std::int64_t{1}, words.largest_batch));
  app.add_option("--rate", given.rate, "The largest learning rate")->check(within(0.0, 1.0));
  app.add_option("--decay", given.decay, "Weight decay, times the learning rate")->check(within(0.0, 10.0));
  app.add_option("--resume", given.resume, words.resume)->type_name("FILE");
  app.add_option("--output", given.output, words.output)->type_name("DIR");
}

/// The same for a training on a text.
inline void add_text_options(CLI::App& app, text_arguments& given, const training_words& words) {
  add_training_options(app, given, words);
  app.add_option("--shard", given.shard,
                 "Pieces of text that go through the network at a time, on a CPU a thread: less take less memory")
      ->check(within(1, 65'536));
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
