// SPDX-License-Identifier: Apache-2.0

// A LightNet learns to write: trains the causal language model on the bytes of a text, shows how it goes, measures the bits
// that a byte of the last tenth takes, and goes on from a prompt. It leaves a checkpoint and the learning curve.

#include <optional>

#include "command_line.hpp"
#include "training.hpp"

namespace {

/// Trains on pieces of words. Throws lightnet::file_error where the program was built without SentencePiece.
int demonstrate_pieces(const language_model::arguments& given) {
#if defined(LANGUAGE_MODEL_SENTENCEPIECE)
  return language_model::demonstrate<language_model::piece_tokenizer>(given);
#else
  throw lightnet::file_error(*given.tokenizer,
                             "needs SentencePiece, which this program was built without; install the "
                             "Debian package libsentencepiece-dev, and configure and build again");
#endif
}

}  // namespace

int main(int count, char** values) {
  return examples::exit_code_of([&] {
    std::optional<int> exit_code;
    const auto given = language_model::parse(count, values, exit_code);
    if (exit_code) return *exit_code;
    if (given.tokenizer) return demonstrate_pieces(given);
    return language_model::demonstrate<language_model::byte_tokenizer>(given);
  });
}
