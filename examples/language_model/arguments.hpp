// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the command line says.

#include <cstdint>
#include <lightnet/model/sampling.hpp>
#include <optional>
#include <string>

#include "common/training_arguments.hpp"

namespace language_model {

struct arguments : examples::text_arguments {
  std::optional<std::string> data;       // a file in place of the Bible
  std::optional<std::string> tokenizer;  // a file of SentencePiece in place of bytes
  std::string prompt = "And God said";
  std::int64_t count = 500;  // tokens that go on from the prompt
  lightnet::sampling_options sampling{.temperature = 0.8, .top_k = 0, .top_p = 0.95};
};

}  // namespace language_model
