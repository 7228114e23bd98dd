// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/train/training_state.hpp>

LIGHTNET_BEGIN_NAMESPACE

// The settings that the paper trains with (arXiv 2405.21022, appendix). What depends on the size of the data follows
// from `items`, the items of an epoch.

/// Causal language model: WikiText-103, sequences of 512 tokens; Adam, 50,000 updates of 128 sequences, 4,000 of them warm-up.
inline trainer_options paper_language_model(std::int64_t items) noexcept {
  constexpr std::int64_t updates = 50'000;
  trainer_options options;
  options.batch = 128;
  const std::int64_t of_epoch = updates_of_epoch(items, options.batch);
  options.epochs = of_epoch > 0 ? (updates + of_epoch - 1) / of_epoch : 0;
  options.optimiser = {.beta1 = 0.9,
                       .beta2 = 0.999,
                       .epsilon = 1e-8,
                       .weight_decay = 0.1,
                       .decoupled_weight_decay = false,
                       .clip_norm = 0};
  options.schedule = {.shape = learning_rate_schedule::shapes::inverse_square_root,
                      .peak = 5e-4,
                      .warmup = 4'000,
                      .total = updates,
                      .floor = 0};
  return options;
}

/// Image classification: ImageNet-1k, AdamW, 300 epochs of batches of 2048, 20 of them warm-up. `base` is the larger model.
inline trainer_options paper_image_classification(std::int64_t items, bool base = false) noexcept {
  trainer_options options;
  options.batch = 2048;
  options.epochs = 300;
  const std::int64_t of_epoch = updates_of_epoch(items, options.batch);
  options.optimiser = {.beta1 = 0.9, .beta2 = 0.98, .epsilon = 1e-8, .weight_decay = base ? 0.1 : 0.05, .clip_norm = 5};
  options.schedule = {.shape = learning_rate_schedule::shapes::cosine,
                      .peak = 5e-4,
                      .warmup = 20 * of_epoch,
                      .total = options.epochs * of_epoch,
                      .floor = 0};
  return options;
}

/// Image generation: ImageNet-1k, AdamW, 80 epochs of batches of 256.
inline trainer_options paper_image_generation(std::int64_t items) noexcept {
  trainer_options options;
  options.batch = 256;
  options.epochs = 80;
  options.optimiser = {.beta1 = 0.9, .beta2 = 0.98, .epsilon = 1e-8, .weight_decay = 0, .clip_norm = 0};
  options.schedule = {.shape = learning_rate_schedule::shapes::constant,
                      .peak = 1e-4,
                      .warmup = 0,
                      .total = options.epochs * updates_of_epoch(items, options.batch),
                      .floor = 0};
  return options;
}

LIGHTNET_END_NAMESPACE
