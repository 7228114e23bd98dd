// SPDX-License-Identifier: Apache-2.0
#pragma once

// The checkpoint that a command line names, and whether the two go together.

#include <algorithm>
#include <cstdint>
#include <lightnet/train/checkpoint.hpp>
#include <optional>
#include <string>

#include "recorder.hpp"
#include "training_arguments.hpp"

namespace examples {

/// The checkpoint to go on from, where there is one. Throws lightnet::file_error where it cannot be read, or another program
/// made it.
inline std::optional<lightnet::checkpoint> saved_training(const training_arguments& given, const std::string& program) {
  std::optional<lightnet::checkpoint> saved;
  if (!given.resume) return saved;
  saved.emplace(*given.resume);
  recorder::check_program(*saved, program);
  return saved;
}

/// What a checkpoint says and an argument contradicts is a mistake.
template <class Number>
void agree(const char* name, const std::optional<Number>& given, Number saved, const std::string& file) {
  if (!given || *given == saved) return;
  using lightnet::detail::readable;
  throw lightnet::value_error("--resume", name, readable(saved) + " as in " + file + ", or nothing", readable(*given));
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
        file, "trains on " + std::to_string(state.items) + " " + unit + ", expected 1 to " + std::to_string(items));
  }
  const auto updates = lightnet::updates_of_epoch(state.items, saved.options().batch);
  if (state.step != state.epoch * updates + state.position / saved.options().batch) {
    throw lightnet::file_error(file, "stands at step " + std::to_string(state.step) + ", expected epoch " +
                                         std::to_string(state.epoch) + " times " + std::to_string(updates) +
                                         " updates and " + std::to_string(state.position) + " items in batches of " +
                                         std::to_string(saved.options().batch));
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
