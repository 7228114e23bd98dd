// SPDX-License-Identifier: Apache-2.0

// Tells pictures of clothes apart with what the demonstration has learnt: a model, its parameters from a checkpoint,
// pictures, answers, and nothing of training. Made to be copied into a product.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <lightnet/io/load_parameters.hpp>

#include "common/read_png.hpp"
#include "fashion_mnist/network.hpp"

namespace ln = lightnet;
using namespace fashion_mnist;
using network = ln::image_classifier<model_options, 2>;

/// The parameters in a checkpoint of the demonstration. Throws ln::file_error for another network's.
static ln::parameter_block<float> load_network(const char* path) {
  const ln::safetensors_file file{path};
  auto parameters = ln::parameter_block<float>::of(network{});
  ln::load_parameters(file, parameters);
  const auto says = [&](const char* name, const std::string& expected) {  // of what the shapes do not tell
    const auto found = file.metadata().find(name);
    return found != file.metadata().end() && found->second.starts_with(expected);
  };
  if (!says("extra.mixer", "additive") || !says("extra.description", network_description())) {
    throw ln::file_error(path, "was not made by the demonstration with the mixer additive and this program's network");
  }
  return parameters;
}

int main(int count, char** words) try {
  if (count < 3) {
    std::fprintf(stderr, "%s CHECKPOINT PICTURE.png ...\nSays what pictures show; CHECKPOINT is fashion_mnist's\n",
                 words[0]);
    return count == 2 && std::string{words[1]} == "--help" ? 0 : 2;
  }
  const auto parameters = load_network(words[1]);
  ln::tensor<ln::rank<4>, float> images({{count - 2, image_side, image_side, 1}});
  float* to = images.data();
  for (int i = 2; i < count; ++i) {
    for (const int grey : examples::read_grey_png(words[i], image_side, image_side))
      *to++ = static_cast<float>((grey / 255.0 - pixel_mean) / pixel_deviation);
  }
  ln::execution<ln::cpu> execution;
  ln::tensor<ln::rank<2>, float> logits({{count - 2, network::classes}});
  network::context<ln::infer> nothing;
  network{}.forward(execution, parameters.for_layer(network{}), images.view(), logits.view(), nothing);
  for (int i = 2; i < count; ++i) {
    const float* const first = logits.data() + (i - 2) * network::classes;
    const float* const best = std::max_element(first, first + network::classes);
    double sum = 0;  // of the softmax, in which the best is 1
    for (int c = 0; c < network::classes; ++c) sum += std::exp(static_cast<double>(first[c] - *best));
    std::printf("%s: %s, %.1f %%\n", words[i], class_names[static_cast<std::size_t>(best - first)], 100 / sum);
  }
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 2;
}
