// SPDX-License-Identifier: Apache-2.0

// Tells pictures of clothes apart with what the demonstration has learnt: a model, its parameters from a checkpoint,
// pictures, answers, and nothing of training. Made to be copied into a product, with the two headers of ours below: the
// network with its checkpoint, and the reader of pictures.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <span>
#include <string>

#include "common/read_png.hpp"
#include "fashion_mnist/network.hpp"

namespace ln = lightnet;
using namespace fashion_mnist;

namespace {

/// Prints what each picture shows, as a network with these options sees it.
template <class Options>
void tell(const ln::safetensors_file& file, std::span<char* const> pictures) {
  using model = network<Options>;
  const auto parameters = load_network<Options>(file);
  const auto count = static_cast<std::int64_t>(pictures.size());
  ln::tensor<ln::rank<4>, float> images({{count, image_side, image_side, 1}});
  float* to = images.data();
  for (const char* const picture : pictures) {
    for (const int grey : examples::read_grey_png(picture, image_side, image_side))
      *to++ = static_cast<float>((grey / 255.0 - pixel_mean) / pixel_deviation);
  }
  ln::execution<ln::cpu> execution;
  ln::tensor<ln::rank<2>, float> logits({{count, model::classes}});
  typename model::template context<ln::infer> nothing;
  model{}.forward(execution, parameters.for_layer(model{}), images.view(), logits.view(), nothing);
  const float* first = logits.data();
  for (const char* const picture : pictures) {
    const float* const best = std::max_element(first, first + model::classes);
    double sum = 0;  // of the softmax, in which the best is 1
    for (int c = 0; c < model::classes; ++c) sum += std::exp(static_cast<double>(first[c] - *best));
    std::printf("%s: %s, %.1f %%\n", picture, class_names[static_cast<std::size_t>(best - first)], 100 / sum);
    first += model::classes;
  }
}

}  // namespace

int main(int count, char** words) try {
  if (count < 3) {
    const bool asked = count == 2 && std::string{words[1]} == "--help";
    std::fprintf(asked ? stdout : stderr,
                 "%s CHECKPOINT PICTURE.png ...\nSays what pictures show; CHECKPOINT is fashion_mnist's\n", words[0]);
    return asked ? 0 : 2;
  }
  const ln::safetensors_file file{words[1]};
  const std::span pictures(words + 2, words + count);
  const bool large = said(file, "description") == network_description<large_options>();
  large ? tell<large_options>(file, pictures) : tell<small_options>(file, pictures);
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 2;
}
