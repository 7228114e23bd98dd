// SPDX-License-Identifier: Apache-2.0

// A LightNet learns to draw clothes: trains the image generator on Fashion-MNIST, shows how it goes, draws images of every
// class out of noise, and measures how far they are from real ones. It leaves a checkpoint, a picture and the learning
// curve. With another mixer it does so for what the paper compares LightNet with.

#include <optional>

#include "command_line.hpp"
#include "common/chosen_mixer.hpp"
#include "common/resume.hpp"
#include "mixer.hpp"
#include "settings.hpp"

namespace {

int run(const generate_images::arguments& given) {
  examples::check_output(given.output, generate_images::program, {".safetensors", ".csv", ".png", "_curve.png"});
  const auto saved = examples::saved_training(given, generate_images::program);
  const auto& which = examples::chosen_mixer(generate_images::mixers, given.mixer, saved);
  return which.demonstrate(which, given, saved);
}

}  // namespace

int main(int count, char** values) {
  return examples::exit_code_of([&] {
    std::optional<int> exit_code;
    const auto given = generate_images::parse(count, values, exit_code);
    return exit_code ? *exit_code : run(given);
  });
}
