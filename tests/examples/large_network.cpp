// SPDX-License-Identifier: Apache-2.0
// A checkpoint as the demonstration leaves it on a GPU, made without one: large_network CHECKPOINT PICTURE.png. All that its
// network knows is that the picture shows a bag.

#include <algorithm>
#include <cstdio>
#include <lightnet/train/checkpoint.hpp>
#include <lightnet/train/trainer.hpp>

#include "common/program.hpp"
#include "common/read_png.hpp"
#include "common/recorder.hpp"
#include "fashion_mnist/network.hpp"

namespace ln = lightnet;
using namespace fashion_mnist;

int main(int count, char** words) {
  return examples::exit_code_of([&] {
    if (count != 3) throw ln::value_error("large_network", "arguments", "CHECKPOINT PICTURE.png", "others");
    const auto pixels = examples::read_grey_png(words[2], image_side, image_side);
    ln::tensor<ln::rank<4>, float> image({{1, image_side, image_side, 1}});
    std::ranges::transform(pixels, image.data(),
                           [](int grey) { return static_cast<float>((grey / 255.0 - pixel_mean) / pixel_deviation); });
    ln::tensor<ln::rank<1>, std::int32_t> label({{1}});
    label.data()[0] =
        static_cast<std::int32_t>(std::ranges::find(class_names, std::string_view{"Bag"}) - class_names.begin());
    ln::trainer_options options;
    options.schedule.shape = ln::learning_rate_schedule::shapes::constant;
    ln::trainer<network<large_options>, float> trainer{{}, options};
    ln::execution<ln::cpu> on;
    for (int i = 0; i < 10; ++i) trainer.step(on, std::as_const(image).view(), std::as_const(label).view());
    const examples::recorder record{1, program, "additive", "a picture"};
    record.save(words[1], trainer, network_description<large_options>() + " flip=1 shift=2");
    return 0;
  });
}
