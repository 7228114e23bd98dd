// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/for_each.hpp>
#include <lightnet/backend/letter.hpp>
#include <lightnet/core/decimal.hpp>
#include <lightnet/core/random.hpp>
#include <lightnet/model/diffusion.hpp>
#include <lightnet/model/image_generator.hpp>

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

LIGHTNET_BEGIN_NAMESPACE

/// How images become what a generator learns from.
struct noisy_options {
  diffusion_options noising{};
  double label_dropout = 0.1;  ///< share of the images whose class is not told, so that guidance knows both
  std::int32_t classes = 10;   ///< the label that says: of no class
  std::uint64_t seed = 1;      ///< of what is random

  /// Throws value_error for numbers that make no batches.
  void check() const {
    noising.check();
    if (!(label_dropout >= 0 && label_dropout <= 1)) {
      throw value_error("noisy_batches", "label_dropout", "0 to 1", detail::decimal(label_dropout));
    }
  }
};

/// A source of batches for a trainer of an image generator (DDPM, arXiv 2006.11239), made of one of labelled images, such as
/// image_batches: every image gets a time step and the noise that belongs to it, which is what is to be predicted. What is
/// random is a function of the seed, the epoch and the image. The images have a variance of 1 or so.
template <class Images, int Dims = 2, class T = float, class Device = cpu>
class noisy_batches {
 public:
  using image_view = dynamic_view<Dims + 2, const T, Device>;
  struct batch {
    noisy_images<Dims, T, Device> inputs;
    image_view labels;  // [B, s_1..s_M, channels]: the noise
  };

  /// Throws value_error for options that make no batches.
  noisy_batches(Images images, const noisy_options& options) : images_{std::move(images)}, options_{options} {
    options.check();
    const diffusion noising{options.noising};
    std::vector<number> shares;
    for (std::int64_t t = 0; t < noising.steps(); ++t) {
      shares.push_back(static_cast<number>(noising[t].image));
      shares.push_back(static_cast<number>(noising[t].noise));
    }
    shares_.resize({{static_cast<std::int64_t>(shares.size())}});
    Device::copy(shares_.data(), shares.data(), shares.size() * sizeof shares[0]);
  }

  std::int64_t size() const noexcept { return images_.size(); }

  /// Chooses the images of the next batch, which `fill` puts where these views are; the same ones for the same number of
  /// images. Calls of `fill` before it have been done. Throws what the images throw.
  batch load(std::span<const std::int64_t> items, std::int64_t epoch) {
    const auto clean = images_.load(items, epoch);
    pixels_ = clean.inputs;
    labels_of_images_ = clean.labels;
    if (noisy_.extents() != pixels_.extents()) {
      noisy_.resize({pixels_.extents()});
      noise_.resize({pixels_.extents()});
      times_.resize({{pixels_.extent(0)}});
      labels_.resize({{pixels_.extent(0)}});
    }
    const auto count = static_cast<std::int64_t>(items.size());
    request_.resize(count + 1);
    request_.data()[0] = epoch;
    std::copy(items.begin(), items.end(), request_.data() + 1);
    return {{std::as_const(noisy_).view(), std::as_const(times_).view(), std::as_const(labels_).view()},
            std::as_const(noise_).view()};
  }

  /// Makes the batch that was chosen last. A graph that captured this call makes the one chosen before its launch, of as many
  /// images.
  void fill(execution<Device>& on) {
    if constexpr (requires { images_.fill(on); }) images_.fill(on);
    const std::int64_t count = times_.extent(0), size_of_image = count > 0 ? noisy_.size() / count : 0;
    add_noise body{};
    body.request = request_.send(on, count + 1);
    body.shares = shares_.data();
    body.pixels = pixels_.data();
    body.labels = labels_of_images_.data();
    body.noisy = noisy_.data();
    body.noise = noise_.data();
    body.times = times_.data();
    body.labels_here = labels_.data();
    body.size_of_image = size_of_image;
    body.steps = static_cast<std::uint32_t>(options_.noising.steps);
    body.seed = options_.seed;
    body.label_dropout = options_.label_dropout;
    body.classes = options_.classes;
    detail::for_each_row(on, "noisy_batches::fill", count, size_of_image, body);
  }

  // Elements [first, last) of image i of the batch, and its time step and label. What the backend calls is public, for nvcc
  // makes no kernel of a private type.
  struct add_noise {
    const std::int64_t* request;        // epoch, then items
    const accumulator<T>* shares;       // of image and noise after each step
    const T* pixels;                    // [B, size_of_image]
    const std::int32_t* labels;         // [B]
    T *noisy, *noise;                   // [B, size_of_image]
    std::int32_t *times, *labels_here;  // [B]
    std::int64_t size_of_image;
    std::uint32_t steps;
    std::uint64_t seed;
    double label_dropout;
    std::int32_t classes;

    LIGHTNET_HOST_DEVICE void operator()(std::int64_t i, std::int64_t first, std::int64_t last) const noexcept {
      const auto item = static_cast<std::uint64_t>(request[1 + i]);
      const random_stream random = stream_for(stream_purpose::noise, seed, static_cast<std::uint32_t>(request[0]));
      const std::uint32_t t = random.below(steps, 2 * item);
      const auto image = shares[2 * t], share = shares[2 * t + 1];
      for (std::int64_t j = first; j < last; ++j) {
        const auto place = static_cast<std::uint64_t>(size_of_image) * item + static_cast<std::uint64_t>(j);
        const T drawn = static_cast<T>(static_cast<accumulator<T>>(random.normal(place)));
        noise[i * size_of_image + j] = drawn;
        noisy[i * size_of_image + j] = static_cast<T>(image * pixels[i * size_of_image + j] + share * drawn);
      }
      if (first > 0) return;
      times[i] = static_cast<std::int32_t>(t);
      labels_here[i] = random.uniform(2 * item + 1) < label_dropout ? classes : labels[i];
    }
  };

 private:
  using number = accumulator<T>;

  Images images_;
  noisy_options options_;
  tensor<rank<1>, number, Device> shares_;  // [2 steps]
  detail::letter<std::int64_t, Device> request_;
  image_view pixels_;                                             // of the images, where they put them
  dynamic_view<1, const std::int32_t, Device> labels_of_images_;  // [B]
  tensor<rank<Dims + 2>, T, Device> noisy_, noise_;               // [B, s_1..s_M, channels]
  tensor<rank<1>, std::int32_t, Device> times_, labels_;          // [B]
};

LIGHTNET_END_NAMESPACE
