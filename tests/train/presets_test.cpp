// SPDX-License-Identifier: Apache-2.0
// What the paper trains, and how (arXiv 2405.21022, appendix): all of it.
#include <doctest/doctest.h>

#include <lightnet/model/diffusion.hpp>
#include <lightnet/model/paper_image_generators.hpp>
#include <lightnet/model/paper_language_models.hpp>
#include <lightnet/train/masked_batches.hpp>
#include <lightnet/train/noisy_batches.hpp>
#include <lightnet/train/presets.hpp>

namespace ln = lightnet;
using shapes = ln::learning_rate_schedule::shapes;

namespace {

/// Whether a model has so many millions of parameters, within 3 %.
template <class Model>
constexpr bool has_millions(double expected) {
  const double ratio = static_cast<double>(Model::parameter_count) / 1e6 / expected;
  return ratio >= 0.97 && ratio <= 1.03;
}

template <class Options>
constexpr bool generates(int layers, int width, int heads, double millions) {
  return Options::layers == layers && Options::width == width && Options::heads == heads && Options::channels == 4 &&
         Options::patch == 2 && Options::modes == 16 && Options::classes + 1 == 1001 && Options::gate_rank == 0 &&
         Options::time_features == 256 && has_millions<ln::image_generator<Options, 2>>(millions);
}
static_assert(generates<ln::image_generator_s>(18, 384, 6, 33));
static_assert(generates<ln::image_generator_b>(18, 768, 6, 131));
static_assert(generates<ln::image_generator_l>(36, 1024, 16, 470));
static_assert(generates<ln::image_generator_xl>(42, 1152, 16, 680));

template <class Options>
constexpr bool writes(int layers, int width, int inner, double millions) {
  return Options::layers == layers && Options::width == width && Options::inner == inner &&
         Options::heads * 128 == width && Options::gate_rank == 128 && Options::vocabulary == 50265 &&
         Options::tied_head && has_millions<ln::causal_language_model<Options, 1>>(millions);
}
static_assert(writes<ln::language_model_150m>(15, 768, 2048, 150));
static_assert(writes<ln::language_model_385m>(26, 1024, 2688, 385));
static_assert(writes<ln::language_model_1b>(18, 2048, 5504, 1000));
static_assert(writes<ln::language_model_3b>(36, 2560, 6784, 2900));

/// The options that nothing is said of: as the trainer has them.
void check(const ln::trainer_options& given, const ln::trainer_options& expected) {
  CHECK(given == expected);
  CHECK_NOTHROW(given.check());
}

}  // namespace

TEST_CASE("presets: the causal language model") {
  constexpr std::int64_t sequences = 230'000, updates = 1'797;  // of an epoch
  check(ln::paper_language_model(sequences),
        {.optimiser = {.beta1 = 0.9,
                       .beta2 = 0.999,
                       .epsilon = 1e-8,
                       .weight_decay = 0.1,
                       .decoupled_weight_decay = false,
                       .clip_norm = 0},
         .schedule = {.shape = shapes::inverse_square_root, .peak = 5e-4, .warmup = 4'000, .total = 50'000, .floor = 0},
         .batch = 128,
         .epochs = 28});
  static_assert(27 * updates < 50'000 && 28 * updates >= 50'000);
}

TEST_CASE("presets: image classification") {
  constexpr std::int64_t images = 1'281'167, updates = 626;
  ln::trainer_options expected{
      .optimiser = {.beta1 = 0.9,
                    .beta2 = 0.98,
                    .epsilon = 1e-8,
                    .weight_decay = 0.05,
                    .decoupled_weight_decay = true,
                    .clip_norm = 5},
      .schedule = {.shape = shapes::cosine, .peak = 5e-4, .warmup = 20 * updates, .total = 300 * updates, .floor = 0},
      .batch = 2048,
      .epochs = 300};
  check(ln::paper_image_classification(images), expected);
  expected.optimiser.weight_decay = 0.1;
  check(ln::paper_image_classification(images, true), expected);
}

TEST_CASE("presets: image generation") {
  constexpr std::int64_t images = 1'281'167, updates = 5'005;
  check(ln::paper_image_generation(images),
        {.optimiser = {.beta1 = 0.9,
                       .beta2 = 0.98,
                       .epsilon = 1e-8,
                       .weight_decay = 0,
                       .decoupled_weight_decay = true,
                       .clip_norm = 0},
         .schedule = {.shape = shapes::constant, .peak = 1e-4, .warmup = 0, .total = 80 * updates, .floor = 0},
         .batch = 256,
         .epochs = 80});
  CHECK(ln::paper_image_generation(images).schedule(123'456) == 1e-4);
  const ln::diffusion_options noise{};
  CHECK(noise.steps == 1000);
  CHECK(noise.first_beta == 1e-4);
  CHECK(noise.last_beta == 0.02);
  CHECK(ln::noisy_options{}.label_dropout == 0.1);
}

TEST_CASE("presets: masked tokens") {
  const ln::masking chosen{};
  CHECK(chosen.rate == 0.15);
  CHECK(chosen.hidden == 0.8);
  CHECK(chosen.replaced == 0.1);
}
