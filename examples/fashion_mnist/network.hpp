// SPDX-License-Identifier: Apache-2.0
#pragma once

// The network of the demonstration, and what it takes: all that a program needs which uses what it learnt.

#include <array>
#include <lightnet/io/load_parameters.hpp>
#include <lightnet/model/image_classifier.hpp>
#include <string>
#include <string_view>

namespace fashion_mnist {

inline constexpr const char* program = "fashion_mnist";  // as checkpoints call it

/// The ten classes, in the order of the labels.
inline constexpr std::array<const char*, 10> class_names{"T-shirt", "Trouser", "Pullover", "Dress", "Coat",
                                                         "Sandal",  "Shirt",   "Sneaker",  "Bag",   "Boot"};

inline constexpr int image_side = 28;
inline constexpr double pixel_mean = 0.2860;  // of the training images, whose pixels lie in [0, 1]
inline constexpr double pixel_deviation = 0.3530;

#if defined(LIGHTNET_HAS_CUDA)
/// The network: 28 x 28 pixels in 7 x 7 patches, MD-TPE, blocks with one global scan each. Other mixers change recurrence
/// and traversal, and nothing else.
struct model_options : lightnet::image_classifier_options {
  static constexpr int width = 192;
  static constexpr int heads = 6;
  static constexpr int layers = 6;
  static constexpr int inner = 512;
  static constexpr double initial_gain = 1;  // a width of 192 needs larger initial weights than 0.02
  static constexpr int patch = 4;
  static constexpr int modes = 16;
};
#else
/// The network: 28 x 28 pixels in 7 x 7 patches, MD-TPE, blocks with one global scan each. Other mixers change recurrence
/// and traversal, and nothing else.
struct model_options : lightnet::image_classifier_options {
  static constexpr int width = 64;
  static constexpr int heads = 2;
  static constexpr int layers = 2;
  static constexpr int inner = 128;
  static constexpr double initial_gain = 1;  // a width of 64 needs larger initial weights than 0.02
  static constexpr int patch = 4;
  static constexpr int modes = 16;
};
#endif

/// What a checkpoint must say of the network beside the shapes of the parameters.
inline std::string network_description() {
  return "image_classifier width=" + std::to_string(model_options::width) +
         " heads=" + std::to_string(model_options::heads) + " layers=" + std::to_string(model_options::layers) +
         " inner=" + std::to_string(model_options::inner) + " patch=" + std::to_string(model_options::patch) +
         " modes=" + std::to_string(model_options::modes) + " mean=" + std::to_string(pixel_mean) +
         " deviation=" + std::to_string(pixel_deviation);
}

template <class Device = lightnet::cpu>
using network = lightnet::image_classifier<model_options, 2, float, Device>;

/// The parameters in a checkpoint of the demonstration with the mixer additive. Throws lightnet::file_error for another's.
template <class Device = lightnet::cpu>
lightnet::parameter_block<float, Device> load_network(const std::string& path) {
  const lightnet::safetensors_file file{path};
  auto parameters = lightnet::parameter_block<float, Device>::of(network<Device>{});
  lightnet::load_parameters(file, parameters);
  const auto says = [&](const char* name, std::string_view expected) {  // of what the shapes do not tell
    const auto found = file.metadata().find(name);
    return found != file.metadata().end() && found->second.starts_with(expected);
  };
  if (!says("extra.mixer", "additive") || !says("extra.description", network_description())) {
    throw lightnet::file_error(path,
                               "was not made by the demonstration with the mixer additive and this program's network");
  }
  return parameters;
}

}  // namespace fashion_mnist
