// SPDX-License-Identifier: Apache-2.0

// A LightNet learns Fashion-MNIST: trains the image classifier, shows how it goes, and leaves a checkpoint, a picture
// and the learning curve. With another mixer it does so for what the paper compares LightNet with, and it compares them.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include "arguments.hpp"
#include "command_line.hpp"
#include "common/chosen_mixer.hpp"
#include "common/resume.hpp"
#include "common/seconds.hpp"
#include "comparison.hpp"
#include "idx.hpp"
#include "mixer.hpp"
#include "settings.hpp"

namespace ln = lightnet;
using namespace fashion_mnist;

namespace {

/// Trains every mixer with every seed, and prints the table. Seeds are the outer loop, so that a disturbance of the machine
/// meets all mixers.
int compare(const arguments& given) {
  const auto start = examples::steady_clock::now();
  auto chosen = settings_of(given);
  const auto data = load_fashion_mnist(given.data);
  const auto images = std::min(data.train.count, given.limit.value_or(data.train.count));
  std::vector<comparison_row> rows;
  for (const mixer* one : mixers) rows.push_back({one->name, one->description, one->scans, {}});
  const auto first = chosen.seed;
  for (std::int64_t round = 0; round < given.seeds; ++round) {
    chosen.seed = first + static_cast<std::uint64_t>(round);
    for (std::size_t i = 0; i < mixers.size(); ++i) {
      const auto result = mixers[i]->train(*mixers[i], chosen, data, images, given.threads);
      rows[i].trials.push_back(result);
      std::printf("%s, seed %llu: test accuracy %.2f %%, %.0f images/s, %.3f ms a call\n", mixers[i]->name,
                  static_cast<unsigned long long>(chosen.seed), 100 * result.accuracy, result.images_per_second,
                  result.milliseconds);
      std::fflush(stdout);
    }
  }
  std::printf(
      "\n%s\nSeeds %llu to %llu, %lld epochs of %s images, %s.\n"
      "A call is the mixer of one layer: forward, for %lld images, on %s.\n",
      comparison_table(rows).c_str(), static_cast<unsigned long long>(first),
      static_cast<unsigned long long>(chosen.seed), static_cast<long long>(chosen.epochs), grouped(images).c_str(),
      machine{given.threads}.name().c_str(), static_cast<long long>(chosen.batch), machine{1}.name().c_str());
  std::printf("%s seeds=%lld images=%lld parameters=%lld seconds=%.1f\n", comparison_pairs(rows).c_str(),
              static_cast<long long>(given.seeds), static_cast<long long>(images),
              static_cast<long long>(rows.front().trials.front().parameters), examples::seconds_since(start));
  return 0;
}

int run(const arguments& given) {
  if (given.compare) return compare(given);
  examples::check_output(given.output, program, {".safetensors", ".csv", ".png", "_curve.png"});
  const auto saved = examples::saved_training(given, program);
  const auto& which = examples::chosen_mixer(mixers, given.mixer, saved);
  return which.demonstrate(which, given, saved);
}

}  // namespace

int main(int count, char** values) {
  return examples::exit_code_of([&] {
    std::optional<int> exit_code;
    const auto given = parse(count, values, exit_code);
    return exit_code ? *exit_code : run(given);
  });
}
