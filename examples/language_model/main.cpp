// SPDX-License-Identifier: Apache-2.0

// A LightNet learns to write: trains the causal language model on the bytes of a text, shows how it goes, measures the bits
// that a byte of the last tenth takes, and goes on from a prompt. It leaves a checkpoint and the learning curve.

#include <optional>

#include "command_line.hpp"
#include "training.hpp"

int main(int count, char** values) {
  return examples::exit_code_of([&] {
    std::optional<int> exit_code;
    const auto given = language_model::parse(count, values, exit_code);
    return exit_code ? *exit_code : language_model::demonstrate(given);
  });
}
