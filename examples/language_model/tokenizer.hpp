// SPDX-License-Identifier: Apache-2.0
#pragma once

// How a text becomes tokens, and tokens text: bytes, or pieces of words that SentencePiece finds.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <lightnet/core/error.hpp>
#include <lightnet/io/replace_file.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#if defined(LANGUAGE_MODEL_SENTENCEPIECE)
#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>
#endif

#include "arguments.hpp"
#include "common/bytes.hpp"

namespace language_model {

/// A token for each byte.
struct byte_tokenizer {
  static constexpr int vocabulary = 256;
  static constexpr const char* items = "bytes";

  byte_tokenizer(const arguments&, std::string_view) {}

  [[nodiscard]] static std::vector<std::int32_t> encode(std::string_view text) { return examples::byte_tokens(text); }
  [[nodiscard]] static std::string decode(std::int32_t token) { return {static_cast<char>(token)}; }
};

#if defined(LANGUAGE_MODEL_SENTENCEPIECE)

/// Byte pairs (arXiv 1508.07909) by SentencePiece (arXiv 1808.06226): what no piece covers falls apart into bytes, and tokens
/// give every text back.
class piece_tokenizer {
 public:
  static constexpr int vocabulary = 2048;
  static constexpr const char* items = "pieces";

  /// The pieces in the file that was asked for; where there is none, a training that begins makes it from a text. Throws
  /// lightnet::file_error for a file of no or other pieces, or a text that gives too few.
  piece_tokenizer(const arguments& given, std::string_view text) : path_{given.tokenizer.value()} {
    if (!std::filesystem::exists(path_)) {
      if (given.resume) throw lightnet::file_error(path_, "does not exist, expected the pieces of " + *given.resume);
      learn(text);
    }
    succeed(pieces_.LoadFromSerializedProto(examples::file_text(path_)));
    if (pieces_.GetPieceSize() != vocabulary) {
      throw lightnet::file_error(
          path_, "has " + std::to_string(pieces_.GetPieceSize()) + " pieces, expected " + std::to_string(vocabulary));
    }
  }

  /// Throws lightnet::file_error for pieces that do not give the text back: bits of a byte would be of another text.
  [[nodiscard]] std::vector<std::int32_t> encode(std::string_view text) const {
    std::vector<int> tokens;
    succeed(pieces_.Encode(text, &tokens));
    std::string back;
    for (const int token : tokens) back += decode(token);
    if (back != text) {
      throw lightnet::file_error(path_,
                                 "does not give the text back; it needs byte_fallback, the identity as its "
                                 "normalization, and neither a dummy prefix nor fewer spaces");
    }
    return {tokens.begin(), tokens.end()};
  }

  [[nodiscard]] std::string decode(std::int32_t token) const {
    const std::string& piece = pieces_.IdToPiece(token);
    if (pieces_.IsByte(token)) return {static_cast<char>(std::stoi(piece.substr(3, 2), nullptr, 16))};  // <0x0A>
    if (pieces_.IsUnknown(token) || pieces_.IsControl(token)) return {};
    constexpr std::string_view space = "\u2581";
    std::string text;
    for (std::size_t at = 0; at < piece.size();) {
      const bool is_space = piece.compare(at, space.size(), space) == 0;
      text += is_space ? ' ' : piece[at];
      at += is_space ? space.size() : 1;
    }
    return text;
  }

 private:
  /// The lines of a text, one after the other.
  class lines : public sentencepiece::SentenceIterator {
   public:
    explicit lines(std::string_view text) : rest_{text} { Next(); }
    [[nodiscard]] bool done() const override { return done_; }
    void Next() override {
      done_ = rest_.empty();
      const std::size_t end = rest_.find('\n');
      line_ = rest_.substr(0, end);
      rest_ = end == std::string_view::npos ? std::string_view{} : rest_.substr(end + 1);
    }
    [[nodiscard]] const std::string& value() const override { return line_; }
    [[nodiscard]] sentencepiece::util::Status status() const override { return {}; }

   private:
    std::string_view rest_;
    std::string line_;
    bool done_ = false;
  };

  void learn(std::string_view text) const {
    lightnet::check_replaceable(path_);
    std::string model;
    lines all{text};
    succeed(sentencepiece::SentencePieceTrainer::Train({{"model_type", "bpe"},
                                                        {"vocab_size", std::to_string(vocabulary)},
                                                        {"character_coverage", "1"},
                                                        {"byte_fallback", "true"},
                                                        {"normalization_rule_name", "identity"},
                                                        {"add_dummy_prefix", "false"},
                                                        {"remove_extra_whitespaces", "false"},
                                                        {"bos_id", "-1"},
                                                        {"eos_id", "-1"},
                                                        {"num_threads", "1"},
                                                        {"minloglevel", "1"}},
                                                       &all, &model));
    lightnet::replace_file(path_, std::as_bytes(std::span{model}));
  }

  void succeed(const sentencepiece::util::Status& status) const {
    if (!status.ok()) throw lightnet::file_error(path_, "sentencepiece: " + status.ToString());
  }

  std::string path_;
  sentencepiece::SentencePieceProcessor pieces_;
};

#endif

}  // namespace language_model
