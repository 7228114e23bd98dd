// SPDX-License-Identifier: Apache-2.0
#pragma once

// Whether a checkpoint and a command line go together.

#include <algorithm>
#include <cstdint>
#include <lightnet/train/checkpoint.hpp>
#include <optional>
#include <string>

#include "training_arguments.hpp"

namespace examples {

/// What a checkpoint says and an argument contradicts is a mistake.
template <class Number>
void agree(const char* name, const std::optional<Number>& given, Number saved, const std::string& file) {
  if (!given || *given == saved) return;
  throw lightnet::value_error("--resume", name, std::to_string(saved) + " as in " + file + ", or nothing",
                              std::to_string(*given));
}

/// The same of all arguments that trainings share.
inline void agree(const training_arguments& given, const lightnet::checkpoint& saved) {
  const auto file = saved.path().string();
  const auto& options = saved.options();
  agree("--epochs", given.epochs, options.epochs, file);
  agree("--seed", given.seed, options.seed, file);
  agree("--batch", given.batch, options.batch, file);
  agree("--rate", given.rate, options.schedule.peak, file);
  agree("--decay", given.decay, options.optimiser.weight_decay, file);
}

/// Throws lightnet::file_error for a checkpoint that stands where no training of so many items comes by.
inline void check_progress(const lightnet::checkpoint& saved, std::int64_t items, const char* unit) {
  const auto& state = saved.state();
  const auto file = saved.path().string();
  if (state.items < 1 || state.items > items) {
    throw lightnet::file_error(
        file, "trains on " + std::to_string(state.items) + " " + unit + ", of " + std::to_string(items));
  }
  const auto updates = lightnet::updates_of_epoch(state.items, saved.options().batch);
  if (state.step != state.epoch * updates + state.position / saved.options().batch) {
    throw lightnet::file_error(file, "its step and its epoch contradict each other");
  }
}

/// How many of so many items are trained on: as many as --limit says, or as the checkpoint has. Throws lightnet::value_error
/// where these two contradict each other, and lightnet::file_error for a checkpoint that does not fit.
inline std::int64_t training_items(std::int64_t items, const std::optional<std::int64_t>& limit,
                                   const std::optional<lightnet::checkpoint>& saved, const char* unit) {
  if (!saved) return std::min(items, limit.value_or(items));
  agree("--limit", limit, saved->state().items, saved->path().string());
  check_progress(*saved, items, unit);
  return saved->state().items;
}

}  // namespace examples
