// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/execution.hpp>
#include <lightnet/core/modes.hpp>
#include <lightnet/core/parameters.hpp>
#include <lightnet/model/sampling.hpp>

#include <span>
#include <utility>

LIGHTNET_BEGIN_NAMESPACE

/// Goes on with a text: reads the prompt in parallel, then calls `emit(std::int32_t)` with each of `count` tokens, which the
/// sampler chooses. The work and memory of a token do not depend on how many came before. Throws value_error for a prompt
/// of no tokens or a negative count, and what the model and the sampler throw.
template <class Model, class T, class Device, class Emit>
void generate(execution<Device>& on, const Model& model,
              const view<extents<Model::parameter_count>, const T, Device>& params,
              std::span<const std::int32_t> prompt, std::int64_t count, sampler& choose, const Emit& emit) {
  if (prompt.empty()) throw value_error("generate", "prompt", "one token or more", "none");
  if (count < 0) throw value_error("generate", "count", "zero or more", std::to_string(count));
  const auto length = static_cast<std::int64_t>(prompt.size());
  tensor<rank<2>, std::int32_t, Device> tokens{{{1, length}}};
  tensor<rank<2>, T, Device> logits{{{1, Model::vocabulary}}};
  std::vector<T> on_host(static_cast<std::size_t>(Model::vocabulary));
  Device::copy(tokens.data(), prompt.data(), prompt.size_bytes());
  typename Model::template context<decode> context;
  for (std::int64_t i = 0; i < count; ++i) {
    model.forward(on, params, std::as_const(tokens).view(), logits.view(), context);
    on.check();
    Device::copy(on_host.data(), logits.data(), on_host.size() * sizeof(T));
    const std::int32_t next = choose(std::span<const T>(on_host), 0, static_cast<std::uint64_t>(length + i));
    emit(next);
    if (i == 0) tokens.resize({{1, 1}});
    Device::copy(tokens.data(), &next, sizeof next);
  }
}

LIGHTNET_END_NAMESPACE
