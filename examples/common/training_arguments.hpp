// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the command lines of all trainings say.

#include <cstdint>
#include <optional>
#include <string>

namespace examples {

struct training_arguments {
  std::optional<std::int64_t> epochs;  // what is not given comes from the settings, or from the checkpoint
  std::optional<std::uint64_t> seed;
  std::optional<std::int64_t> batch;
  std::optional<double> rate;
  std::optional<double> decay;
  int threads = 0;
  std::optional<std::string> resume;
  std::string output;
};

/// Those on a text.
struct text_arguments : training_arguments {
  std::optional<std::int64_t> shard;
  std::optional<std::int64_t> limit;  // bytes to learn from
};

/// Puts what was given in the place of settings.
template <class Settings>
void take(Settings& chosen, const training_arguments& given) {
  chosen.epochs = given.epochs.value_or(chosen.epochs);
  chosen.seed = given.seed.value_or(chosen.seed);
  chosen.batch = given.batch.value_or(chosen.batch);
  chosen.peak_rate = given.rate.value_or(chosen.peak_rate);
  chosen.weight_decay = given.decay.value_or(chosen.weight_decay);
}

template <class Settings>
void take(Settings& chosen, const text_arguments& given) {
  take(chosen, static_cast<const training_arguments&>(given));
  chosen.shard = given.shard.value_or(chosen.shard);
}

}  // namespace examples
