// SPDX-License-Identifier: Apache-2.0
#pragma once

// The network of the demonstration, and what it takes: all that a program needs which uses what it learnt.

#include <array>
#include <lightnet/core/decimal.hpp>
#include <lightnet/io/load_parameters.hpp>
#include <lightnet/model/image_classifier.hpp>
#include <string>

namespace fashion_mnist {

inline constexpr const char* program = "fashion_mnist";  // as checkpoints call it

/// The ten classes, in the order of the labels.
inline constexpr std::array<const char*, 10> class_names{"T-shirt", "Trouser", "Pullover", "Dress", "Coat",
                                                         "Sandal",  "Shirt",   "Sneaker",  "Bag",   "Boot"};

inline constexpr int image_side = 28;
inline constexpr double pixel_mean = 0.2860;  // of the training images, whose pixels lie in [0, 1]
inline constexpr double pixel_deviation = 0.3530;

/// The network of the program for a CPU: 28 x 28 pixels in 7 x 7 patches, MD-TPE, blocks with one global scan each. Other
/// mixers change recurrence and traversal, and nothing else.
struct small_options : lightnet::image_classifier_options {
  static constexpr int width = 64;
  static constexpr int heads = 2;
  static constexpr int layers = 2;
  static constexpr int inner = 128;
  static constexpr double initial_gain = 1;  // a width of 64 or 192 needs larger initial weights than 0.02
  static constexpr int patch = 4;
  static constexpr int modes = 16;
};

/// The network of the program for a GPU, which is larger.
struct large_options : small_options {
  static constexpr int width = 192;
  static constexpr int heads = 6;
  static constexpr int layers = 6;
  static constexpr int inner = 512;
};

#if defined(LIGHTNET_HAS_CUDA)
using model_options = large_options;
#else
using model_options = small_options;
#endif

template <class Options, class Device = lightnet::cpu>
using network = lightnet::image_classifier<Options, 2, float, Device>;

/// What a checkpoint must say of the network beside the shapes of the parameters.
template <class Options>
std::string network_description() {
  std::string labels;
  for (const char* const name : class_names) labels.append(labels.empty() ? "" : ",").append(name);
  return "image_classifier width=" + std::to_string(Options::width) + " heads=" + std::to_string(Options::heads) +
         " layers=" + std::to_string(Options::layers) + " inner=" + std::to_string(Options::inner) +
         " patch=" + std::to_string(Options::patch) + " modes=" + std::to_string(Options::modes) +
         " mean=" + lightnet::detail::decimal(pixel_mean) + " deviation=" + lightnet::detail::decimal(pixel_deviation) +
         " labels=" + labels;
}

/// What a checkpoint says of itself; of a description what the network is, without what else the program did.
inline std::string said(const lightnet::safetensors_file& file, const char* what) {
  const auto found = file.metadata().find(std::string{"extra."} + what);
  return found == file.metadata().end() ? "" : found->second.substr(0, found->second.find(" flip="));
}

/// The parameters of a network in a checkpoint of the demonstration with the mixer additive. Throws lightnet::file_error for
/// another's.
template <class Options, class Device = lightnet::cpu>
lightnet::parameter_block<float, Device> load_network(const lightnet::safetensors_file& file) {
  const auto need = [&](const char* what, const std::string& expected) {
    const std::string came = said(file, what);
    if (came == expected) return;
    throw lightnet::file_error(file.path().string(), std::string{"has as its "} + what + " " +
                                                         lightnet::io_detail::printable(came, 400) + ", expected '" +
                                                         expected + "'");
  };
  need("program", program);
  need("mixer", "additive");
  need("description", network_description<Options>());
  auto parameters = lightnet::parameter_block<float, Device>::of(network<Options, Device>{});
  lightnet::load_parameters(file, parameters);
  return parameters;
}

}  // namespace fashion_mnist
