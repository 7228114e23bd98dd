// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/letter.hpp>
#include <lightnet/backend/repeated_calls.hpp>
#include <lightnet/core/modes.hpp>
#include <lightnet/core/parameters.hpp>

#include <algorithm>
#include <span>
#include <string>

LIGHTNET_BEGIN_NAMESPACE

/// Texts that a causal language model reads side by side, and what it remembers of them, in memory of one size. A prompt is
/// read in parallel, then each text goes on by one token a call. On a GPU whose execution has a stream of its own such a call is
/// one CUDA graph. Used with one execution.
template <class Model, class T = float, class Device = cpu>
class decoder {
 public:
  using parameters = parameters_of<Model, const T, Device>;
  using token_view = dynamic_view<2, const std::int32_t, Device>;

  /// `sequences` texts that have not begun. The parameters stay where they are. Throws value_error for no texts.
  decoder(const Model& model, const parameters& params, std::int64_t sequences)
      : model_{model}, params_{params}, sequences_{sequences} {
    if (sequences < 1) throw value_error("decoder", "sequences", "one or more", std::to_string(sequences));
    next_.resize(sequences);
    logits_.resize({{sequences, Model::vocabulary}});
  }

  /// Reads the next tokens of each text, [B, N]. Throws what the model throws.
  void read(execution<Device>& on, const token_view& tokens) {
    model_.forward(on, params_, tokens, logits_.view(), context_);
  }

  /// Reads one token of each text, [B], on the host; the execution has done the calls before. Throws shape_error for another
  /// number of tokens, and what the model throws.
  void read_next(execution<Device>& on, std::span<const std::int32_t> tokens) {
    if (static_cast<std::int64_t>(tokens.size()) != sequences_) {
      throw shape_error("decoder::read_next", "tokens", std::to_string(sequences_) + ", one of each text",
                        std::to_string(tokens.size()));
    }
    std::copy(tokens.begin(), tokens.end(), next_.data());
    calls_.run(on, {}, [&] {
      const std::int32_t* const sent = next_.send(on, sequences_);  // behind all that came before
      [[maybe_unused]] const typename execution<Device>::constant_weights promise{on};
      read(on, {sent, {{sequences_, 1}}});
    });
  }

  /// The logits of the token that comes after each text, [B, vocabulary], once the execution has done the last call.
  dynamic_view<2, const T, Device> logits() const { return logits_.view(); }

 private:
  Model model_;
  parameters params_;
  std::int64_t sequences_;
  detail::letter<std::int32_t, Device> next_;  // [B]
  tensor<rank<2>, T, Device> logits_;          // [B, vocabulary]
  typename Model::template context<decode> context_;
  detail::repeated_calls<Device> calls_;
};

LIGHTNET_END_NAMESPACE
