// SPDX-License-Identifier: Apache-2.0
#pragma once

// A trainer's options from the settings of a program.

#include <cmath>
#include <cstdint>
#include <lightnet/train/training_state.hpp>

namespace examples {

/// What all programs ask of a trainer, for so many items: AdamW with a beta2 of 0.98 (arXiv 2405.21022, image tasks), and a
/// cosine that ends at zero. Shard and weight decay are the program's to say.
template <class Settings>
lightnet::trainer_options training_options(const Settings& chosen, std::int64_t items) {
  const auto updates = chosen.epochs * lightnet::updates_of_epoch(items, chosen.batch);
  lightnet::trainer_options options;
  options.batch = chosen.batch;
  options.epochs = chosen.epochs;
  options.seed = chosen.seed;
  options.optimiser.beta2 = 0.98;
  options.optimiser.clip_norm = chosen.clip_norm;
  options.schedule.peak = chosen.peak_rate;
  options.schedule.warmup = std::llround(chosen.warmup_share * static_cast<double>(updates));
  options.schedule.total = updates;
  return options;
}

}  // namespace examples
