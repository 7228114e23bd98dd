// SPDX-License-Identifier: Apache-2.0

// A LightNet for data of three dimensions: it learns the regions of the brain from the left half of one, labelled by an
// atlas, and finds them in the right half. Leaves a checkpoint, a picture and the learning curve.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <lightnet/train/checkpoint.hpp>
#include <lightnet/train/prefetching_batches.hpp>
#include <lightnet/train/trainer.hpp>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "batches.hpp"
#include "command_line.hpp"
#include "common/curve_picture.hpp"
#include "common/fingerprint.hpp"
#include "common/resume.hpp"
#include "common/seconds.hpp"
#include "common/text.hpp"
#include "common/training_loop.hpp"
#include "picture.hpp"

namespace ln = lightnet;
namespace fs = std::filesystem;
using namespace examples;
using namespace segment_volume;

namespace {

using model = ln::segmenter<model_options, 3, number, device>;
using trainer_type = ln::trainer<model, number, device>;
constexpr std::size_t regions = model::classes - 1;

/// The settings that a training starts or goes on with.
settings settings_for(const arguments& given, const std::optional<ln::checkpoint>& saved) {
  settings chosen = settings_of(given);
  if (!saved) return chosen;
  agree(given, *saved);
  agree("--items", given.items, saved->state().items, saved->path().string());
  chosen.items = saved->state().items;
  check_progress(*saved, chosen.items, "items");
  return chosen;
}

/// What the atlas calls its labels, without the side: of "85 Temporal_Mid_L 8201" in its list the middle.
std::vector<std::string> names_of(const std::vector<int>& labels, const fs::path& list) {
  std::vector<std::string> names;
  for (const int label : labels) names.push_back("label " + std::to_string(label));
  std::ifstream lines(list);
  int label = 0;
  for (std::string name, rest; lines >> label >> name && std::getline(lines, rest);) {
    const auto found = std::find(labels.begin(), labels.end(), label);
    if (found == labels.end()) continue;
    if (name.ends_with("_L")) name.resize(name.size() - 2);
    std::replace(name.begin(), name.end(), '_', ' ');
    names[static_cast<std::size_t>(found - labels.begin())] = name;
  }
  return names;
}

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

/// The classes of the voxels of a half, by the votes of all places of the blocks.
std::vector<std::uint8_t> predict(trainer_type& trained, ln::execution<device>& on, const segment_volume::half& whole,
                                  const settings& chosen, ln::evaluation& result) {
  batches source{whole, chosen};
  const auto size = static_cast<std::size_t>(source.blocks().size());
  std::vector<std::int32_t> blocks(size * static_cast<std::size_t>(source.size()));
  result = trained.evaluate(on, source, blocks);
  if (std::ranges::any_of(blocks, [](std::int32_t said) { return said < 0; })) {
    throw ln::value_error("segment_volume", "logits", "numbers", "NaN");
  }
  std::vector<std::uint8_t> votes(whole.classes.size() * model::classes);
  for (std::int64_t item = 0; item < source.size(); ++item) {
    const auto of_item = std::span(blocks).subspan(static_cast<std::size_t>(item) * size, size);
    source.blocks().vote(source.change_of(item, 0).shift, of_item, model::classes, votes);
  }
  return elected(votes, model::classes);
}

int run(const arguments& given) {
  check_output(given.output, program, {".safetensors", ".csv", ".png", "_curve.png"});
  const auto saved = saved_training(given, program);
  const auto chosen = settings_for(given, saved);
  const auto description = description_of(chosen);
  const auto brain = load_halves(given.data, regions);
  const auto options = saved ? saved->options() : options_for(chosen);
  const auto updates = ln::updates_of_epoch(chosen.items, options.batch);

  machine used{given.threads};
  auto& on = used.on;
  trainer_type trainer{{}, options};
  recorder record{updates / chosen.curve_points, program, "additive", fingerprint(brain.left.grey, brain.left.classes)};
  if (saved) record.restore(*saved, trainer, description);
  const auto folder = output_folder(given.output);
  const auto checkpoint_path = folder / "segment_volume.safetensors";

  const batches moved{brain.left, chosen, chosen.items, options.seed};
  ln::prefetching_batches<batches, device> training{moved};
  const auto& extents = moved.blocks().extents();
  const auto parameters = grouped(trainer.parameters().size());
  std::printf("%s parameters, %lld x %lld x %lld blocks of %lld voxels each way, %s\n", parameters.c_str(),
              static_cast<long long>(extents[2]), static_cast<long long>(extents[1]),
              static_cast<long long>(extents[0]), static_cast<long long>(chosen.factor), used.name().c_str());
  std::fflush(stdout);
  batches testing_some{brain.right, chosen, chosen.tested};
  const bool finished = run_training(
      on, trainer, training, record,
      {.checkpoint = checkpoint_path, .tests = chosen.tests, .words = {.items = "halves"}},
      [&] { return trainer.evaluate(on, testing_some); }, [&] { record.save(checkpoint_path, trainer, description); });
  if (!finished) return 130;

  const auto start = steady_clock::now();
  ln::evaluation result;
  figure shown;
  shown.predicted = predict(trainer, on, brain.right, chosen, result);
  record.add_test(result);
  const double seconds = record.seconds() + seconds_since(start);
  shown.dice = dice(shown.predicted, brain.right.classes, regions);
  shown.brain = &brain;
  shown.names = names_of(brain.labels, fs::path{given.data} / "aal.nii.txt");
  const double mirrored = mean(dice(brain.left.classes, brain.right.classes, regions));
  shown.title = "LightNet in three dimensions: regions of the brain";
  shown.subtitle = parameters + " parameters, one scan a layer, learnt from the left half alone";
  shown.facts = {{text("%.3f", mean(shown.dice)), "mean Dice"},
                 {text("%.3f", mirrored), "mirroring the left"},
                 {grouped(trainer.state().step), "updates"}};
  write_curve(folder / "segment_volume.csv", record.curve());
  draw_curve(folder / "segment_volume.csv", record.curve());
  write_picture(folder / "segment_volume.png", shown);
  for (std::size_t i = 0; i < regions; ++i) std::printf("%.3f  %s\n", shown.dice[i], shown.names[i].c_str());
  std::printf("%s\n%s\n%s\n", checkpoint_path.c_str(), (folder / "segment_volume.png").c_str(),
              (folder / "segment_volume.csv").c_str());
  std::printf("dice=%.4f mirrored=%.4f seconds=%.1f parameters=%lld\n", mean(shown.dice), mirrored, seconds,
              static_cast<long long>(trainer.parameters().size()));
  return 0;
}

}  // namespace

int main(int count, char** values) {
  return exit_code_of([&] {
    std::optional<int> exit_code;
    const auto given = parse(count, values, exit_code);
    return exit_code ? *exit_code : run(given);
  });
}
