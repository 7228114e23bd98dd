// SPDX-License-Identifier: Apache-2.0
#pragma once

// Reading the command line.

#include <optional>
#include <string>

#include "arguments.hpp"
#include "common/command_line.hpp"
#include "common/program.hpp"

namespace language_model {

/// Reads the command line; where the program has no more to do, `exit_code` says how it ends: 0 after --help, 2 after
/// a mistake.
inline arguments parse(int count, char** values, std::optional<int>& exit_code) {
  arguments given;
  given.output = examples::program_folder(values[0]).string();
  CLI::App app{"A LightNet learns to write, byte by byte, from the King James Bible, and goes on from a prompt."};
  examples::add_text_options(
      app, given,
      {.epochs = "Times that the text is read",
       .batch = "Pieces of text of an update",
       .resume = "A checkpoint to go on from, with its settings; a finished one is tested and writes",
       .output = "Folder of the checkpoint and the curve"});
  app.add_option("--limit", given.limit, "Read the first N bytes of the text only")
      ->type_name("N")
      ->check(examples::within(std::int64_t{1}));
  app.add_option("--data", given.data, "A text to learn from, in place of the Bible of the Debian package bible-kjv")
      ->type_name("FILE");
  app.add_option("--tokenizer", given.tokenizer,
                 "Learn pieces of words in place of bytes: a BPE model of SentencePiece; made from the text where "
                 "missing, but not with --resume")
      ->type_name("FILE");
  app.add_option("--prompt", given.prompt, "What the model goes on from, one byte or more")->check(examples::not_empty);
  app.add_option("--count", given.count, "Tokens that it writes")->check(examples::within(0, 100'000'000));
  app.add_option("--temperature", given.sampling.temperature, "Divides the logits; 0 takes the likeliest token")
      ->check(examples::within(0.0, 1e6));
  app.add_option("--top-k", given.sampling.top_k, "Takes one of the K likeliest tokens; 0: of all")
      ->type_name("K")
      ->check(examples::within(std::int64_t{0}));
  app.add_option("--top-p", given.sampling.top_p, "Takes one of the likeliest tokens that together have this share")
      ->type_name("P")
      ->check(examples::within(1e-6, 1.0));
  exit_code = examples::parse(app, count, values);
  return given;
}

}  // namespace language_model
