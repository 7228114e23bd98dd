// SPDX-License-Identifier: Apache-2.0
#pragma once

// What decides the result of a training on a text, beside the network.

#include <cstdint>

namespace examples {

struct text_settings {
  std::uint64_t seed = 1;
  std::int64_t epochs = 1;
  std::int64_t batch = 16;
  std::int64_t length = 128;   // tokens of a piece of text
  std::int64_t shard = 2;      // pieces that go through the network at a time, on a CPU a thread
  double peak_rate = 5e-3;     // of a cosine that ends at zero
  double warmup_share = 0.05;  // of all updates
  double weight_decay = 0.1;
  double clip_norm = 1;
  std::int64_t points = 40;      // of the curve
  std::int64_t tests = 8;        // in the course of training, on a part of what is held out
  std::int64_t tested = 32'768;  // its tokens
};

}  // namespace examples
