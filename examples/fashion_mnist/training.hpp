// SPDX-License-Identifier: Apache-2.0
#pragma once

// The demonstration and one training of the comparison, for the model of any mixer.

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <filesystem>
#include <lightnet/backend/random.hpp>
#include <lightnet/model/image_classifier.hpp>
#include <lightnet/train/checkpoint.hpp>
#include <lightnet/train/trainer.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "batches.hpp"
#include "common/curve_picture.hpp"
#include "common/program.hpp"
#include "common/resume.hpp"
#include "common/seconds.hpp"
#include "common/text.hpp"
#include "common/training_loop.hpp"
#include "mixer.hpp"
#include "picture.hpp"

namespace fashion_mnist {

using namespace examples;

namespace detail {

/// As the settings have it for so many images, or as the checkpoint.
inline lightnet::trainer_options options_of(const arguments& given, const std::optional<lightnet::checkpoint>& saved,
                                            std::int64_t images) {
  if (!saved) return options_for(settings_of(given), images);
  agree(given, *saved);
  agree("--smoothing", given.smoothing, saved->options().smoothing, saved->path().string());
  return saved->options();
}

inline figure figure_of(const image_set& test, std::span<const std::int32_t> predicted) {
  figure shown;
  shown.classes.assign(class_names.begin(), class_names.end());
  shown.confusion.resize(class_names.size() * class_names.size());
  for (std::size_t i = 0; i < predicted.size(); ++i) {
    if (predicted[i] < 0) throw lightnet::value_error("fashion_mnist", "logits", "numbers", "NaN");
    const auto row = static_cast<std::size_t>(test.labels[i]), column = static_cast<std::size_t>(predicted[i]);
    ++shown.confusion[row * class_names.size() + column];
  }
  shown.rows = test.rows;
  shown.columns = test.columns;
  shown.pixels = test.pixels;
  shown.predicted = predicted;
  shown.truth = test.labels;
  return shown;
}

/// The first images as files that say what they show.
inline void write_test_images(const std::filesystem::path& folder, const image_set& test, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    const auto* name = class_names[static_cast<std::size_t>(test.labels[static_cast<std::size_t>(i)])];
    write_png(folder / ("test_" + std::to_string(i) + "_" + name + ".png"), static_cast<int>(test.columns),
              static_cast<int>(test.rows), 1, test.image(i));
  }
}

/// A mixer's model on the device of this program.
template <class Options>
using model_of = lightnet::image_classifier<Options, 2, float, device>;
template <class Options>
using trainer_of = lightnet::trainer<model_of<Options>, float, device>;

/// The median milliseconds of a call of the first layer's mixer: forward, for a batch of images, on one thread or on the GPU.
template <class Options>
double milliseconds_of_call(const trainer_of<Options>& trained, const image_set& images) {
  using model = model_of<Options>;
  using block = typename model::body::block_type;
  using layer = typename block::token_mixer;
  constexpr int calls = 201;
  const lightnet::rank<4> shape{
      {trained.options().batch, images.rows / Options::patch, images.columns / Options::patch, layer::width}};
  machine alone{1};
  auto& on = alone.on;
  lightnet::tensor<lightnet::rank<4>, float, device> x(shape), y(shape);
  lightnet::fill_normal(on, lightnet::random_stream{1}, 0, x.view().reshape(std::array{x.size()}));
  const lightnet::parameters_of<layer, const float, device> weights{
      trained.parameters().view().data() + model::body_at + block::token_mixer_at, {}};
  typename layer::template context<lightnet::infer> nothing;
  std::vector<double> times;
  for (int call = 0; call < calls; ++call) {
    const auto start = steady_clock::now();
    layer{}.forward(on, weights, std::as_const(x).view(), y.view(), nothing);
    on.synchronize();
    times.push_back(1e3 * seconds_since(start));
  }
  return median(times);
}

}  // namespace detail

template <class Options>
int demonstrate(const mixer& which, const arguments& given, const std::optional<lightnet::checkpoint>& saved) {
  const auto standard = standard_settings();
  const auto description = description_of(standard);
  const auto data = load_fashion_mnist(given.data);
  const auto images = training_items(data.train.count, given.limit, saved, "images");
  const auto options = detail::options_of(given, saved, images);
  const auto updates = lightnet::updates_of_epoch(images, options.batch);

  machine used{given.threads};
  auto& on = used.on;
  detail::trainer_of<Options> trainer{{}, options};
  recorder record{updates / standard.curve_points, program, which.name, data.train.fingerprint(images)};
  if (saved) record.restore(*saved, trainer, description);
  const auto folder = output_folder(given.output);
  const auto checkpoint_path = folder / "fashion_mnist.safetensors";
  const auto parameters = grouped(trainer.parameters().size());
  std::printf("%s: %s parameters, %s training images, %s\n", which.title, parameters.c_str(), grouped(images).c_str(),
              used.name().c_str());
  std::fflush(stdout);

  batches training{data.train, standard, images, options.seed}, testing{data.test, data.test.count};
  batches testing_some{data.test, std::min({data.test.count, standard.tested, images})};
  const bool finished = run_training(
      on, trainer, training, record, {.checkpoint = checkpoint_path, .tests = standard.tests},
      [&] { return trainer.evaluate(on, testing_some); }, [&] { record.save(checkpoint_path, trainer, description); });
  if (!finished) return 130;

  std::vector<std::int32_t> predicted(static_cast<std::size_t>(data.test.count));
  const auto result = trainer.evaluate(on, testing, predicted);
  record.add_test(result);
  write_curve(folder / "fashion_mnist.csv", record.curve());
  draw_curve(folder / "fashion_mnist.csv", record.curve());
  const double rate = static_cast<double>(options.epochs * images) / record.seconds();
  auto shown = detail::figure_of(data.test, predicted);
  shown.title = std::string{which.title} + " on Fashion-MNIST";
  shown.subtitle = parameters + " parameters, " +
                   (which.scans == 1 ? "one scan" : std::to_string(which.scans) + " scans") + " a layer, " +
                   std::to_string(options.epochs) + " epochs of " + grouped(images) + " images";
  shown.facts = {{text("%.2f %%", 100 * result.accuracy()), "test accuracy"},
                 {text("%.1f s", record.seconds()), "training"},
                 {text("%.0f", rate), "images a second"}};
  write_picture(folder / "fashion_mnist.png", shown);
  detail::write_test_images(folder, data.test, std::min(given.pictures, data.test.count));
  std::printf("%s\n%s\n%s\n", checkpoint_path.c_str(), (folder / "fashion_mnist.png").c_str(),
              (folder / "fashion_mnist.csv").c_str());
  std::printf("accuracy=%.4f images=%lld parameters=%lld train_seconds=%.1f images_per_second=%.0f\n",
              result.accuracy(), static_cast<long long>(result.counted),
              static_cast<long long>(trainer.parameters().size()), record.seconds(), rate);
  return 0;
}

template <class Options>
trial train(const mixer& which, const settings& chosen, const data_set& data, std::int64_t images, int threads) {
  machine used{threads};
  auto& on = used.on;
  detail::trainer_of<Options> trainer{{}, options_for(chosen, images)};
  batches training{data.train, chosen, images, chosen.seed}, testing{data.test, data.test.count};
  const std::atomic<bool> never{false};
  const auto start = steady_clock::now();
  trainer.run(on, training, never, [&](const lightnet::training_progress& now) {
    if (!now.epoch_finished) return;
    std::printf("%s, seed %llu, epoch %lld/%lld: loss %.4f, accuracy %.2f %%\n", which.name,
                static_cast<unsigned long long>(chosen.seed), static_cast<long long>(now.epoch + 1),
                static_cast<long long>(chosen.epochs), now.loss, 100 * now.accuracy);
    std::fflush(stdout);
  });
  trial result{};
  result.images_per_second = static_cast<double>(chosen.epochs * images) / seconds_since(start);
  result.parameters = trainer.parameters().size();
  result.accuracy = trainer.evaluate(on, testing).accuracy();
  result.milliseconds = detail::milliseconds_of_call<Options>(trainer, data.train);
  return result;
}

/// The mixer with what its options make of the programs above.
template <class Options>
constexpr mixer mixer_with(const char* name, const char* title, const char* description) {
  return {name, title, description, Options::traversal::scans(2), demonstrate<Options>, train<Options>};
}

}  // namespace fashion_mnist
