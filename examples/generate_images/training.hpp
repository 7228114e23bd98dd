// SPDX-License-Identifier: Apache-2.0
#pragma once

// Training, drawing and judging, for the model of any mixer.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <lightnet/backend/random.hpp>
#include <lightnet/io/saved_average.hpp>
#include <lightnet/model/sample_images.hpp>
#include <lightnet/train/frechet_distance.hpp>
#include <lightnet/train/image_batches.hpp>
#include <lightnet/train/trainer.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/curve_picture.hpp"
#include "common/machine.hpp"
#include "common/png.hpp"
#include "common/program.hpp"
#include "common/resume.hpp"
#include "common/seconds.hpp"
#include "common/text.hpp"
#include "common/training_loop.hpp"
#include "fashion_mnist/idx.hpp"
#include "fashion_mnist/network.hpp"
#include "judge.hpp"
#include "mixer.hpp"
#include "picture.hpp"
#include "settings.hpp"

namespace generate_images {

using namespace examples;
using fashion_mnist::image_side;

namespace detail {

/// A mixer's model on the device of this program: what is trained, and in float, what draws.
template <class Options, class T>
using model_of = lightnet::image_generator<Options, 2, T, device>;
using average_type = lightnet::weight_average<lightnet::accumulator<number>, device>;

/// Images where the device reaches them.
class clothes {
 public:
  /// The first `count` of a set.
  clothes(const fashion_mnist::image_set& set, std::int64_t count)
      : pixels_{{{count, set.rows, set.columns, 1}}}, labels_{{{count}}} {
    device::copy(pixels_.data(), set.pixels.data(), static_cast<std::size_t>(pixels_.size()));
    device::copy(labels_.data(), set.labels.data(), static_cast<std::size_t>(count) * sizeof(std::int32_t));
  }

  /// With noise, and pixels from -1 to 1.
  [[nodiscard]] auto batches(const settings& chosen, std::uint64_t seed) const {
    using images = lightnet::image_batches<number, device>;
    const lightnet::noisy_options options{
        .label_dropout = chosen.label_dropout, .classes = model_options::classes, .seed = seed};
    return lightnet::noisy_batches<images, 2, number, device>{
        images{pixels_.view(), labels_.view(), {.mean = 0.5, .deviation = 0.5}}, options};
  }

 private:
  lightnet::tensor<lightnet::rank<4>, std::uint8_t, device> pixels_;  // [images, rows, columns, 1]
  lightnet::tensor<lightnet::rank<1>, std::int32_t, device> labels_;  // [images]
};

/// As the settings have it for so many images, or as the checkpoint.
inline lightnet::trainer_options options_of(const arguments& given, const std::optional<lightnet::checkpoint>& saved,
                                            std::int64_t images) {
  if (!saved) return options_for(settings_of(given), images);
  agree(given, *saved);
  return saved->options();
}

/// Images of these classes, drawn out of the noise of a stream.
template <class Options>
fashion_mnist::image_set drawn(lightnet::execution<device>& on, const average_type& average, const arguments& given,
                               std::vector<std::int32_t> classes, const lightnet::random_stream& noise) {
  using model = model_of<Options, float>;
  const auto count = static_cast<std::int64_t>(classes.size());
  lightnet::tensor<lightnet::rank<1>, std::int32_t, device> labels{{{count}}};
  lightnet::tensor<lightnet::rank<4>, float, device> images{{{count, image_side, image_side, 1}}};
  device::copy(labels.data(), classes.data(), classes.size() * sizeof classes[0]);
  lightnet::fill_normal(on, noise, 0, images.view().reshape(std::array{images.size()}));
  lightnet::ddim_options options{.steps = given.steps, .guidance = given.guidance, .limit = 1};
  if (!standard_settings().shards) options.shard = 1000;
  lightnet::sample_images(on, model{}, average.weights().for_layer(model{}), lightnet::diffusion{},
                          std::as_const(labels).view(), images.view(), options);
  on.check();
  std::vector<float> on_host(static_cast<std::size_t>(images.size()));
  device::copy(on_host.data(), images.data(), on_host.size() * sizeof(float));
  fashion_mnist::image_set set{count, image_side, image_side, {}, std::move(classes)};
  for (const float pixel : on_host) {
    set.pixels.push_back(static_cast<std::uint8_t>(std::lround(127.5 * (1 + std::clamp(pixel, -1.0F, 1.0F)))));
  }
  return set;
}

/// How many images are drawn for the Frechet distance. Throws value_error for a number that gives none.
inline std::int64_t judged_images(const arguments& given, std::int64_t train, std::int64_t test) {
  const auto most = std::min(train, test);
  const auto count = given.judged.value_or(std::min(standard_settings().judged, most));
  if (count == 1 || count > most) {
    throw lightnet::value_error("generate_images", "--judged", "0, or 2 to " + std::to_string(most),
                                std::to_string(count));
  }
  return count;
}

}  // namespace detail

template <class Options>
int demonstrate(const mixer& which, const arguments& given, const std::optional<lightnet::checkpoint>& saved) {
  using trainer_type = lightnet::trainer<detail::model_of<Options, number>, number, device>;
  const auto chosen = standard_settings();
  const auto description = description_of(chosen);
  const auto data = fashion_mnist::load_fashion_mnist(given.data);
  const auto images = training_items(data.train.count, given.limit, saved, "images");
  const auto options = detail::options_of(given, saved, images);
  const auto updates = lightnet::updates_of_epoch(images, options.batch);
  const auto judged = detail::judged_images(given, data.train.count, data.test.count);
  std::optional<judge> expert;
  if (given.classifier) expert = judge::loaded(*given.classifier);

  machine used{given.threads};
  auto& on = used.on;
  trainer_type trainer{{}, options};
  detail::average_type average{trainer.parameters(), chosen.average_decay};
  recorder record{updates / chosen.curve_points, program, which.name, data.train.fingerprint(images), false};
  if (saved) {
    record.restore(*saved, trainer, description, "average");
    lightnet::load_average(*saved, average);
  }
  const auto folder = output_folder(given.output);
  const auto path_of = [&](const char* extension) { return folder / (std::string{"generate_images"} + extension); };
  const auto parameters = grouped(trainer.parameters().size());
  std::printf("%s: %s parameters, %s training images, %s\n", which.title, parameters.c_str(), grouped(images).c_str(),
              used.name().c_str());
  std::fflush(stdout);

  const detail::clothes learned{data.train, images};
  const detail::clothes held_out{data.test, std::min({data.test.count, chosen.test_images, images})};
  auto training = learned.batches(chosen, options.seed), testing = held_out.batches(chosen, options.seed);
  const auto test = [&] {  // what the average does, which is what draws
    on.synchronize();
    auto last = trainer.parameters();
    trainer.set_parameters(average.weights());
    const auto result = trainer.evaluate(on, testing);
    trainer.set_parameters(std::move(last));
    return result;
  };
  const auto save = [&] {
    on.synchronize();
    const lightnet::saved_average kept{average};
    std::vector<lightnet::stored_tensor> tensors;
    kept.add_to(tensors);
    record.save(path_of(".safetensors"), trainer, description, std::move(tensors));
  };
  const bool finished =
      run_training(on, trainer, training, record, {.checkpoint = path_of(".safetensors"), .tests = chosen.tests}, test,
                   save, [&] { average.update(on, trainer.parameters()); });
  if (!finished) return 130;

  const auto result = test();
  record.add_test(result);
  write_curve(path_of(".csv"), record.curve());
  draw_curve(path_of(".csv"), record.curve());

  const auto seed = given.drawing_seed.value_or(options.seed);
  const auto draw_all = [&](std::vector<std::int32_t> classes, std::uint32_t index) {
    const auto noise = lightnet::stream_for(lightnet::stream_purpose::sampling, seed, index);
    return detail::drawn<Options>(on, average, given, std::move(classes), noise);
  };
  std::vector<std::int32_t> classes;
  for (int i = 0; i < model_options::classes * chosen.columns; ++i) classes.push_back(i / chosen.columns);
  const auto start = steady_clock::now();
  figure shown;
  shown.pixels = draw_all(std::move(classes), 0).pixels;
  const double drawing = seconds_since(start);
  std::string distances;
  shown.facts = {{text("%.4f", result.loss), "held-out loss"}};
  if (judged > 0) {
    std::printf("%s images are drawn for the Frechet distance\n", grouped(judged).c_str());
    std::fflush(stdout);
    // Of the classes of held-out images; and as many real ones, for no generator is to be nearer than those.
    const auto some = draw_all({data.test.labels.begin(), data.test.labels.begin() + judged}, 1);
    if (!expert) expert = judge::trained(on, data, images, chosen.judge_epochs);
    const auto real = expert->features(on, data.test, data.test.count);
    const auto distance = [&](const fashion_mnist::image_set& set) {
      const auto features = expert->features(on, set, judged);
      return lightnet::frechet_distance<float>(features.view(), real.view());
    };
    const double frechet = distance(some);
    distances = text(" frechet=%.4f", frechet) + text(" frechet_of_training_images=%.4f", distance(data.train));
    shown.facts.insert(shown.facts.begin(), {text("%.3f", frechet), "Frechet distance"});
  }

  shown.title = std::string{which.title} + " draws clothes";
  shown.subtitle = parameters + " parameters, " +
                   (which.scans == 1 ? "one scan" : std::to_string(which.scans) + " scans") + " a layer, " +
                   std::to_string(options.epochs) + " epochs; " + std::to_string(given.steps) + " steps";
  shown.classes.assign(fashion_mnist::class_names.begin(), fashion_mnist::class_names.end());
  shown.columns = chosen.columns;
  const auto page = draw(shown);
  write_png(path_of(".png"), page.width(), page.height(), 3, page.bytes());
  std::printf("%s\n%s\n%s\n", path_of(".safetensors").c_str(), path_of(".png").c_str(), path_of(".csv").c_str());
  std::printf("loss=%.4f%s parameters=%lld seconds=%.1f images_per_second=%.0f drawing_seconds=%.1f\n", result.loss,
              distances.c_str(), static_cast<long long>(trainer.parameters().size()), record.seconds(),
              static_cast<double>(options.epochs * images) / record.seconds(), drawing);
  return 0;
}

/// The mixer with what its options make of the program above.
template <class Options>
constexpr mixer mixer_with(const char* name, const char* title) {
  return {name, title, Options::traversal::scans(2), demonstrate<Options>};
}

}  // namespace generate_images
