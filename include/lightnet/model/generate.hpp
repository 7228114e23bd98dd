// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/model/decoder.hpp>
#include <lightnet/model/sampling.hpp>

#include <algorithm>
#include <span>
#include <type_traits>
#include <vector>

LIGHTNET_BEGIN_NAMESPACE

/// How many tokens of a prompt are read at a time, in parallel: enough for any device, and a bound on the memory.
inline constexpr std::int64_t prompt_part = 8192;

/// Goes on with a text: reads the prompt in parallel, then calls `emit(std::int32_t)` with each of `count` tokens, which the
/// sampler chooses, on the host. Memory does not grow with the prompt beyond `prompt_part`, and the work and memory of a token do
/// not depend on how many came before. Throws value_error for a prompt of no tokens or a negative count, and what the model
/// and the sampler throw.
template <class Model, class Number, class Device, class Emit>
void generate(execution<Device>& on, const Model& model, const parameters_of<Model, Number, Device>& params,
              std::span<const std::int32_t> prompt, std::int64_t count, sampler& choose, const Emit& emit) {
  using T = std::remove_const_t<Number>;
  if (prompt.empty()) throw value_error("generate", "prompt", "one token or more", "none");
  if (count < 0) throw value_error("generate", "count", "zero or more", std::to_string(count));
  const auto length = static_cast<std::int64_t>(prompt.size());
  tensor<rank<2>, std::int32_t, Device> tokens{{{1, std::min(length, prompt_part)}}};
  std::vector<T> logits(static_cast<std::size_t>(Model::vocabulary));
  decoder<Model, T, Device> text{model, params, 1};
  for (std::int64_t first = 0; first < length; first += prompt_part) {
    const auto part = prompt.subspan(static_cast<std::size_t>(first))
                          .first(static_cast<std::size_t>(std::min(prompt_part, length - first)));
    Device::copy(tokens.data(), part.data(), part.size_bytes());
    text.read(on, {tokens.data(), {{1, static_cast<std::int64_t>(part.size())}}});
    on.check();
  }
  std::int32_t next = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    if (i > 0) {
      text.read_next(on, {&next, 1});
      on.check();
    }
    Device::copy(logits.data(), text.logits().data(), logits.size() * sizeof(T));
    next = choose(std::span<const T>(logits), 0, static_cast<std::uint64_t>(length + i));
    emit(next);
  }
}

LIGHTNET_END_NAMESPACE
