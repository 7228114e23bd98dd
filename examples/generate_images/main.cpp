// SPDX-License-Identifier: Apache-2.0

// A LightNet learns to draw clothes: trains the image generator on Fashion-MNIST, shows how it goes, draws images of every
// class out of noise, and leaves a checkpoint, a picture and the learning curve.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <lightnet/backend/random.hpp>
#include <lightnet/io/saved_average.hpp>
#include <lightnet/model/sample_images.hpp>
#include <lightnet/train/image_batches.hpp>
#include <lightnet/train/trainer.hpp>
#include <limits>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "command_line.hpp"
#include "common/curve_picture.hpp"
#include "common/machine.hpp"
#include "common/png.hpp"
#include "common/progress.hpp"
#include "common/recorder.hpp"
#include "common/resume.hpp"
#include "common/stop.hpp"
#include "common/text.hpp"
#include "fashion_mnist/idx.hpp"
#include "fashion_mnist/network.hpp"
#include "picture.hpp"
#include "settings.hpp"

namespace ln = lightnet;
namespace fs = std::filesystem;
using namespace examples;
using namespace generate_images;
using fashion_mnist::image_side;

namespace {

constexpr double no_accuracy = std::numeric_limits<double>::quiet_NaN();
const char* const recipe = "generator";  // of the checkpoints of this program

using trainer_type = ln::trainer<model, float, device>;
using average_type = ln::weight_average<float, device>;

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
    using images = ln::image_batches<float, device>;
    const ln::noisy_options options{.label_dropout = chosen.label_dropout, .classes = model::classes, .seed = seed};
    return ln::noisy_batches<images, 2, float, device>{
        images{pixels_.view(), labels_.view(), {.mean = 0.5, .deviation = 0.5}}, options};
  }

 private:
  ln::tensor<ln::rank<4>, std::uint8_t, device> pixels_;  // [images, rows, columns, 1]
  ln::tensor<ln::rank<1>, std::int32_t, device> labels_;  // [images]
};

ln::trainer_options options_of(const arguments& given, const std::optional<ln::checkpoint>& saved,
                               std::int64_t& images) {
  if (!saved) {
    if (given.limit) images = std::min(images, *given.limit);
    return options_for(settings_of(given), images);
  }
  const auto file = saved->path().string();
  agree("--epochs", given.epochs, saved->options().epochs, file);
  agree("--seed", given.seed, saved->options().seed, file);
  agree("--batch", given.batch, saved->options().batch, file);
  agree("--rate", given.rate, saved->options().schedule.peak, file);
  agree("--limit", given.limit, saved->state().items, file);
  check_progress(*saved, images, "images");
  images = saved->state().items;
  return saved->options();
}

/// Images of these classes, drawn out of the noise of a stream. // [classes, 28, 28]
std::vector<std::uint8_t> drawn(ln::execution<device>& on, const average_type& average, const arguments& given,
                                const std::vector<std::int32_t>& classes, const ln::random_stream& noise) {
  const auto count = static_cast<std::int64_t>(classes.size());
  ln::tensor<ln::rank<1>, std::int32_t, device> labels{{{count}}};
  ln::tensor<ln::rank<4>, float, device> images{{{count, image_side, image_side, 1}}};
  device::copy(labels.data(), classes.data(), classes.size() * sizeof classes[0]);
  ln::fill_normal(on, noise, 0, images.view().reshape(std::array{images.size()}));
  ln::ddim_options options{.steps = given.steps, .guidance = given.guidance, .limit = 1};
  if (!standard_settings().shards) options.shard = count;
  ln::sample_images(on, model{}, average.weights().for_layer(model{}), ln::diffusion{}, std::as_const(labels).view(),
                    images.view(), options);
  on.check();
  std::vector<float> on_host(static_cast<std::size_t>(images.size()));
  device::copy(on_host.data(), images.data(), on_host.size() * sizeof(float));
  std::vector<std::uint8_t> bytes;
  for (const float pixel : on_host) {
    bytes.push_back(static_cast<std::uint8_t>(std::lround(127.5 * (1 + std::clamp(pixel, -1.0F, 1.0F)))));
  }
  return bytes;
}

int run(const arguments& given) {
  std::optional<ln::checkpoint> saved;
  if (given.resume) saved.emplace(*given.resume);
  const auto chosen = standard_settings();
  const auto description = description_of(chosen);
  const auto data = fashion_mnist::load_fashion_mnist(given.data);
  std::int64_t images = data.train.count;
  const auto options = options_of(given, saved, images);
  const auto updates = ln::updates_of_epoch(images, options.batch);

  machine used{given.threads};
  auto& on = used.on;
  trainer_type trainer{{}, options};
  average_type average{trainer.parameters(), chosen.average_decay};
  recorder record{updates / chosen.curve_points, recipe, false};
  if (saved) {
    record.restore(*saved, description);
    saved->load(trainer);
    ln::load_average(*saved, average);
  }
  const fs::path folder = given.output;
  std::error_code failed;
  fs::create_directories(folder, failed);
  if (failed) throw ln::file_error(folder.string(), "cannot be made a folder: " + failed.message());
  const auto path_of = [&](const char* extension) { return folder / (std::string{"generate_images"} + extension); };
  const auto save = [&] {
    const ln::saved_average kept{average};
    std::vector<ln::stored_tensor> tensors;
    kept.add_to(tensors);
    record.save(path_of(".safetensors"), trainer, description, std::move(tensors));
  };
  const auto parameters = grouped(trainer.parameters().size());
  std::printf("LightNet: %s parameters, %s training images, %s\n", parameters.c_str(), grouped(images).c_str(),
              used.name().c_str());
  std::fflush(stdout);

  auto training = clothes{data.train, images};
  auto batches = training.batches(chosen, options.seed);
  stop_on_signals();
  bool finished = false;
  {
    progress_bar bar{stdout, options.epochs * updates, updates, std::min(options.batch, images), trainer.state().step};
    auto last = std::chrono::steady_clock::now();
    finished = trainer.run(on, batches, stop, [&](const ln::training_progress& now) {
      average.update(on, trainer.parameters());
      bar.update(now.step, now.loss, no_accuracy);
      const auto time = std::chrono::steady_clock::now();
      record.add(now, std::chrono::duration<double>(time - last).count(), bar.items_per_second());
      last = time;
      if (!now.epoch_finished) return;
      save();
      bar.finish_epoch(now.epoch + 1, now.loss, no_accuracy);
    });
  }
  if (!finished) {
    save();
    std::printf("stopped after update %s of %s; to go on: --resume %s\n", std::to_string(trainer.state().step).c_str(),
                std::to_string(options.epochs * updates).c_str(), path_of(".safetensors").c_str());
    return 130;
  }
  end_on_signals();

  trainer.set_parameters(average.weights());
  const clothes held_out{data.test, std::min({data.test.count, chosen.test_images, images})};
  auto testing = held_out.batches(chosen, options.seed);
  const auto result = trainer.evaluate(on, testing);
  record.add_test(result);
  write_curve(path_of(".csv"), record.curve());
  draw_curve(path_of(".csv"), record.curve());

  figure shown;
  shown.title = "LightNet draws clothes";
  shown.subtitle = parameters + " parameters, one scan a layer; " + std::to_string(given.steps) + " steps, guidance " +
                   text("%g", given.guidance);
  shown.facts = {{text("%.4f", result.loss), "held-out loss"}, {std::to_string(options.epochs), "epochs"}};
  shown.classes.assign(fashion_mnist::class_names.begin(), fashion_mnist::class_names.end());
  shown.columns = chosen.columns;
  std::vector<std::int32_t> classes;
  for (int i = 0; i < model::classes * chosen.columns; ++i) classes.push_back(i / chosen.columns);
  const auto seed = given.drawing_seed.value_or(options.seed);
  const auto start = std::chrono::steady_clock::now();
  shown.pixels = drawn(on, average, given, classes, ln::stream_for(ln::stream_purpose::sampling, seed));
  const double drawing = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const auto page = draw(shown);
  write_png(path_of(".png"), page.width(), page.height(), 3, page.bytes());
  std::printf("%s\n%s\n%s\n", path_of(".safetensors").c_str(), path_of(".png").c_str(), path_of(".csv").c_str());
  std::printf("loss=%.4f parameters=%lld seconds=%.1f images_per_second=%.0f drawing_seconds=%.1f\n", result.loss,
              static_cast<long long>(trainer.parameters().size()), record.seconds(),
              static_cast<double>(options.epochs * images) / record.seconds(), drawing);
  return 0;
}

}  // namespace

int main(int count, char** values) {
  try {
    std::optional<int> exit_code;
    const auto given = parse(count, values, exit_code);
    return exit_code ? *exit_code : run(given);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  }
}
