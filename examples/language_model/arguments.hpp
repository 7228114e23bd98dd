// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the command line says.

#include <cstdint>
#include <lightnet/model/sampling.hpp>
#include <optional>
#include <string>

namespace language_model {

struct arguments {
  std::optional<std::int64_t> epochs;  // what is not given comes from the settings, or from the checkpoint
  std::optional<std::uint64_t> seed;
  std::optional<std::int64_t> batch;
  std::optional<double> rate;
  std::optional<double> decay;
  std::optional<std::int64_t> limit;  // bytes of text
  int threads = 0;
  std::optional<std::string> data;       // a file in place of the Bible
  std::optional<std::string> tokenizer;  // a file of SentencePiece in place of bytes
  std::optional<std::string> resume;
  std::string output;
  std::string prompt = "And God said";
  std::int64_t count = 500;  // tokens that go on from the prompt
  lightnet::sampling_options sampling{.temperature = 0.8, .top_k = 0, .top_p = 0.95};
};

}  // namespace language_model
