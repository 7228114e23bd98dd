// SPDX-License-Identifier: Apache-2.0
#include "harness/operands.hpp"

namespace bench {

plain_operands::plain_operands(plain::function function, std::int64_t width, const decay_source& decays)
    : function_{function},
      sizes_{.width = width, .tokens = tokens},
      decay_channels_{decays.given() ? decays.channels(width) : 1},
      q_{normal_tensor<float>(sizes_, 1)},
      k_{normal_tensor<float>(sizes_, 2)},
      v_{normal_tensor<float>(sizes_, 3)},
      log_decay_{{{1, tokens, sizes_.heads, decay_channels_}}},
      do_{normal_tensor<float>(sizes_, 5)},
      o_{v_},
      dq_{q_},
      dk_{k_},
      dv_{v_},
      dlog_decay_{log_decay_},
      cosine_{{{tokens, width}}},
      sine_{{{tokens, width}}} {
  fill(log_decay_, 4, decays.given() ? decays.of : gla_decay);
  for (std::int64_t t = 0; t < tokens; ++t) {
    for (std::int64_t i = 0; i < width; ++i) {
      const double angle =
          static_cast<double>(t) * std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(width));
      cosine_.view()(t, i) = static_cast<float>(std::cos(angle));
      sine_.view()(t, i) = static_cast<float>(std::sin(angle));
    }
  }
}

void plain_operands::operator()() {
  head_ = (head_ + 1) % sizes_.heads;
  const std::int64_t at = head_ * sizes_.width, decay_at = head_ * decay_channels_;
  function_({.tokens = tokens,
             .width = sizes_.width,
             .stride = sizes_.heads * sizes_.width,
             .q = q_.data() + at,
             .k = k_.data() + at,
             .v = v_.data() + at,
             .log_decay = log_decay_.data() + decay_at,
             .log_decay_stride = sizes_.heads * decay_channels_,
             .do_ = do_.data() + at,
             .cosine = cosine_.data(),
             .sine = sine_.data(),
             .o = o_.data() + at,
             .dq = dq_.data() + at,
             .dk = dk_.data() + at,
             .dv = dv_.data() + at,
             .dlog_decay = dlog_decay_.data() + decay_at});
}

void add_plain(task& to, plain::function function, std::int64_t width, const decay_source& decays) {
  if (!function) return;
  to.plain = [operands = std::make_shared<plain_operands>(function, width, decays)] { (*operands)(); };
  to.plain_tokens = static_cast<double>(plain_operands::tokens);
}

}  // namespace bench
