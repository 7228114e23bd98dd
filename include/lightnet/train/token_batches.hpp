// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/train/text_batches.hpp>

LIGHTNET_BEGIN_NAMESPACE

/// The task of a causal language model: the label of a token is the one that comes next.
struct next_token {
  static constexpr std::int64_t beyond = 1;

  void check() const noexcept {}

  LIGHTNET_HOST_DEVICE void operator()(const std::int32_t* text, const random_stream&, std::uint64_t,
                                       std::int32_t& input, std::int32_t& label) const noexcept {
    input = text[0];
    label = text[1];
  }
};

/// Batches for a causal language model.
template <class Device = cpu>
using token_batches = text_batches<next_token, Device>;

LIGHTNET_END_NAMESPACE
