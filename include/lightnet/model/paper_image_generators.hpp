// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/model/image_generator.hpp>

LIGHTNET_BEGIN_NAMESPACE

// The image generators of the paper (arXiv 2405.21022, appendix) by their sizes, as options: latent images of ImageNet-1k
// with four channels, in patches of two by two. paper_image_generation() of train/presets.hpp says how they are trained.

/// Layers, width and heads.
template <int Layers, int Width, int Heads>
struct paper_image_generator_options : image_generator_options {
  static constexpr int layers = Layers, width = Width, heads = Heads;
  static constexpr int channels = 4, patch = 2, classes = 1000;
};

using image_generator_s = paper_image_generator_options<18, 384, 6>;
using image_generator_b = paper_image_generator_options<18, 768, 6>;
using image_generator_l = paper_image_generator_options<36, 1024, 16>;
using image_generator_xl = paper_image_generator_options<42, 1152, 16>;

namespace detail {
/// Whether an image generator has the number of parameters that the paper says, in millions, within 3 %.
template <class Options>
constexpr bool generator_sized(double millions) noexcept {
  const double ratio = static_cast<double>(image_generator<Options, 2>::parameter_count) / (millions * 1e6);
  return ratio >= 0.97 && ratio <= 1.03;
}
static_assert(generator_sized<image_generator_s>(33));
static_assert(generator_sized<image_generator_b>(131));
static_assert(generator_sized<image_generator_l>(470));
static_assert(generator_sized<image_generator_xl>(680));
}  // namespace detail

LIGHTNET_END_NAMESPACE
