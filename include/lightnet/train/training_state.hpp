// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/adam.hpp>
#include <lightnet/core/decimal.hpp>
#include <lightnet/train/schedule.hpp>

LIGHTNET_BEGIN_NAMESPACE

/// How to train: everything that decides the result beside the model and the data.
struct trainer_options {
  adam_options optimiser{};
  learning_rate_schedule schedule{};
  double smoothing = 0;      ///< of the labels, see cross_entropy
  std::int64_t batch = 128;  ///< items of an update; the last of an epoch takes what is left
  std::int64_t shard = 16;   ///< items that a thread takes through the model at a time; part of the result's bits
  std::int64_t epochs = 1;
  std::uint64_t seed = 1;     ///< of the initial values and of the order of the data
  std::int64_t patience = 8;  ///< updates in a row without finite gradients before training gives up

  /// Throws value_error for numbers that make no training.
  void check() const {
    const auto need = [](bool good, const char* argument, const char* expected, const std::string& came) {
      if (!good) throw value_error("trainer", argument, expected, came);
    };
    optimiser.check();
    schedule.check();
    need(batch >= 1, "batch", "one or more", std::to_string(batch));
    need(shard >= 1, "shard", "one or more", std::to_string(shard));
    need(epochs >= 0 && epochs <= 0xFFFFFFFF, "epochs", "zero to 2^32 - 1", std::to_string(epochs));
    need(patience >= 1, "patience", "one or more", std::to_string(patience));
    need(smoothing >= 0 && smoothing < 1, "smoothing", "zero or more, less than one", detail::decimal(smoothing));
  }

  friend bool operator==(const trainer_options&, const trainer_options&) = default;
};

/// Updates of one epoch.
constexpr std::int64_t updates_of_epoch(std::int64_t items, std::int64_t batch) noexcept {
  return items > 0 && batch > 0 ? (items - 1) / batch + 1 : 0;
}

/// Where training stands; with the parameters and the optimiser, all that is needed to go on bit for bit.
struct training_state {
  std::int64_t step = 0;      ///< updates done, skipped ones too
  std::int64_t epoch = 0;     ///< epochs finished
  std::int64_t position = 0;  ///< items of the next epoch that were visited
  std::int64_t items = 0;     ///< of an epoch; 0 before the first
  double loss = 0;            ///< of the items visited, added up
  std::int64_t correct = 0;   ///< of them, predicted rightly
  std::int64_t counted = 0;   ///< of them, those whose labels count

  friend bool operator==(const training_state&, const training_state&) = default;
};

/// What one update was.
struct update_report {
  double loss = 0;           ///< the mean
  std::int64_t correct = 0;  ///< labels predicted rightly
  std::int64_t counted = 0;  ///< labels that count
  double learning_rate = 0;
  double gradient_norm = 0;  ///< before clipping
  bool skipped = false;      ///< nothing changed: the gradients were not finite
};

/// What the loop tells after every update, when everything is in a state that can be saved.
struct training_progress {
  update_report update;
  std::int64_t step = 0;   ///< updates done
  std::int64_t epoch = 0;  ///< that the update belongs to, from 0
  std::int64_t items = 0;  ///< of the update
  double loss = 0;         ///< mean over the epoch so far
  double accuracy = 0;     ///< of the epoch so far, 0 to 1
  bool epoch_finished = false;
};

/// How well a model does on a set of items.
struct evaluation {
  double loss = 0;           ///< the mean
  std::int64_t correct = 0;  ///< labels predicted rightly
  std::int64_t counted = 0;  ///< labels that count

  double accuracy() const noexcept {
    return counted > 0 ? static_cast<double>(correct) / static_cast<double>(counted) : 0;
  }
};

LIGHTNET_END_NAMESPACE
