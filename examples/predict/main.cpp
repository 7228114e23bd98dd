// SPDX-License-Identifier: Apache-2.0

// Tells pictures of clothes apart with what the demonstration has learnt: a model, its parameters from a checkpoint,
// pictures, answers, and nothing of training. Made to be copied into a product.

#include <png.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <string>
#include <string_view>
#include <utility>

#include "fashion_mnist/network.hpp"

namespace ln = lightnet;
using namespace fashion_mnist;
using model = network<>;

/// Puts a picture, light on dark, where the network takes it: image_side rows of so many numbers. Throws ln::file_error.
static void load_picture(const char* path, float* to) {
  png_byte grey[image_side * image_side] = {};
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  if (!png_image_begin_read_from_file(&image, path)) throw ln::file_error(path, image.message);
  image.format = PNG_FORMAT_GRAY;
  if (image.width != image_side || image.height != image_side) {
    png_image_free(&image);
    throw ln::file_error(path, "has " + std::to_string(image.width) + " x " + std::to_string(image.height) +
                                   " pixels, expected " + std::to_string(image_side) + " x " +
                                   std::to_string(image_side));
  }
  if (!png_image_finish_read(&image, nullptr, grey, 0, nullptr)) throw ln::file_error(path, image.message);
  for (const png_byte pixel : grey) *to++ = static_cast<float>((pixel / 255.0 - pixel_mean) / pixel_deviation);
}

int main(int count, char** words) try {
  if (count < 3) {
    std::fprintf(stderr,
                 "%s CHECKPOINT PICTURE.png ...\nSays what pictures show; CHECKPOINT: fashion_mnist.safetensors\n",
                 words[0]);
    return count == 2 && std::string_view{words[1]} == "--help" ? 0 : 2;
  }
  const auto parameters = load_network(words[1]);
  const std::int64_t pictures = count - 2;
  ln::tensor<ln::rank<4>, float> images({{pictures, image_side, image_side, 1}});
  for (std::int64_t i = 0; i < pictures; ++i) load_picture(words[2 + i], images.data() + i * image_side * image_side);

  ln::execution<ln::cpu> execution;
  ln::tensor<ln::rank<2>, float> logits({{pictures, model::classes}});
  model::context<ln::infer> nothing;
  model{}.forward(execution, parameters.for_layer(model{}), std::as_const(images).view(), logits.view(), nothing);

  for (std::int64_t i = 0; i < pictures; ++i) {
    const float* const first = logits.data() + i * model::classes;
    const float* const best = std::max_element(first, first + model::classes);
    double sum = 0;  // of the softmax, in which the best is 1
    for (int c = 0; c < model::classes; ++c) sum += std::exp(static_cast<double>(first[c] - *best));
    std::printf("%s: %s, %.1f %%\n", words[2 + i], class_names[static_cast<std::size_t>(best - first)], 100 / sum);
  }
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 2;
}
