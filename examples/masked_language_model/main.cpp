// SPDX-License-Identifier: Apache-2.0

// A LightNet learns to guess what is hidden in a text: trains the masked language model on the bytes of a dictionary, shows
// how it goes, and tests it on the last tenth. It leaves a checkpoint and the learning curve.

#include <optional>

#include "command_line.hpp"
#include "training.hpp"

int main(int count, char** values) {
  return examples::exit_code_of([&] {
    std::optional<int> exit_code;
    const auto given = masked_language_model::parse(count, values, exit_code);
    return exit_code ? *exit_code : masked_language_model::demonstrate(given);
  });
}
