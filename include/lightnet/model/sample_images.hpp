// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/for_each.hpp>
#include <lightnet/backend/map.hpp>
#include <lightnet/backend/shards.hpp>
#include <lightnet/core/decimal.hpp>
#include <lightnet/core/modes.hpp>
#include <lightnet/model/diffusion.hpp>
#include <lightnet/model/image_generator.hpp>

#include <algorithm>
#include <cmath>
#include <string>
#include <type_traits>

LIGHTNET_BEGIN_NAMESPACE

/// How images are drawn out of noise.
struct ddim_options {
  std::int64_t steps = 50;  ///< calls of the model, evenly spread over the steps of the diffusion
  double guidance = 1;      ///< towards the class: 1 takes the model as it is, and needs one call in place of two
  double limit = 0;         ///< the largest pixel, either sign, that images are known to have; 0: any
  std::int64_t shard = 16;  ///< images that a thread draws at a time, from the first step to the last; changes no bit

  /// Throws value_error for numbers that make no images.
  void check(std::int64_t steps_of_diffusion) const {
    const auto need = [](bool good, const char* argument, const std::string& expected, const std::string& came) {
      if (!good) throw value_error("sample_images", argument, expected, came);
    };
    need(steps >= 1 && steps <= steps_of_diffusion, "steps", "1 to " + std::to_string(steps_of_diffusion),
         std::to_string(steps));
    need(std::isfinite(guidance), "guidance", "a finite number", detail::decimal(guidance));
    need(std::isfinite(limit) && limit >= 0, "limit", "a finite number, zero or more", detail::decimal(limit));
    need(shard >= 1, "shard", "one or more", std::to_string(shard));
  }
};

namespace detail {

/// The same number everywhere in a row.
struct fill_numbers {
  std::int32_t* to;
  std::int32_t value;
  LIGHTNET_HOST_DEVICE void operator()(std::int64_t, std::int64_t first, std::int64_t last) const noexcept {
    for (std::int64_t i = first; i < last; ++i) to[i] = value;
  }
};

/// One step of DDIM without new noise: with the noise e that the model sees in x,
///   image = (x - n e) / i,   x = i' image + n' e,
/// i and n the shares of image and noise now, i' and n' those after the step.
template <class T>
struct ddim_step {
  using number = accumulator<T>;
  number image, noise, next_image, next_noise, guidance, limit;

  ddim_step(const diffusion::shares& now, const diffusion::shares& next, const ddim_options& options)
      : image(static_cast<number>(now.image)),
        noise(static_cast<number>(now.noise)),
        next_image(static_cast<number>(next.image)),
        next_noise(static_cast<number>(next.noise)),
        guidance(static_cast<number>(options.guidance)),
        limit(static_cast<number>(options.limit)) {}

  LIGHTNET_HOST_DEVICE T moved(number x, number e) const noexcept {
    number seen = (x - noise * e) / image;
    if (limit > 0 && !(seen >= -limit && seen <= limit)) {
      seen = seen > limit ? limit : seen < -limit ? -limit : seen;
      e = (x - image * seen) / noise;  // what is no noise is not to come back
    }
    return static_cast<T>(next_image * seen + next_noise * e);
  }
  LIGHTNET_HOST_DEVICE void operator()(T& x, const T& e) const noexcept { x = moved(x, e); }
  /// e without the class and with it.
  LIGHTNET_HOST_DEVICE void operator()(T& x, const T& without, const T& with) const noexcept {
    const number start = without;
    x = moved(x, start + guidance * (with - start));
  }
};

/// All steps of some images; arguments as those of sample_images, and checked.
template <int Dims, class Model, class T, class Device>
void draw_images(execution<Device>& on, const Model& model, const parameters_of<Model, const T, Device>& params,
                 const diffusion& noising, const dynamic_view<1, const std::int32_t, Device>& labels,
                 const dynamic_view<Dims + 2, T, Device>& images, const ddim_options& options) {
  const std::int64_t batch = images.extent(0), of_image = images.size() / batch;
  typename execution<Device>::scope scratch{on};
  const auto numbers = [&] {
    return dynamic_view<1, std::int32_t, Device>{scratch.template take<std::int32_t>(batch), {{batch}}};
  };
  const auto noise = [&] {
    return dynamic_view<Dims + 2, T, Device>{scratch.template take<T>(images.size()), images.extents()};
  };
  const auto rows = [&](const auto& of) { return dynamic_view<2, T, Device>{of.data(), {{batch, of_image}}}; };
  const auto fill = [&](const auto& to, std::int64_t value) {
    for_each_row(on, "sample_images", 1, batch, fill_numbers{to.data(), static_cast<std::int32_t>(value)});
  };
  const auto times = numbers(), none = numbers();
  const auto with = noise(), without = noise();
  const auto look = [&](const dynamic_view<1, const std::int32_t, Device>& classes, const auto& seen) {
    typename Model::template context<infer> nothing;
    model.forward(on, params, noisy_images<Dims, T, Device>{images, times, classes}, seen, nothing);
  };
  const auto time_after = [&](std::int64_t step) { return noising.steps() * step / options.steps - 1; };
  fill(none, Model::classes);
  for (std::int64_t step = options.steps; step > 0; --step) {
    const std::int64_t t = time_after(step);
    const ddim_step<T> move{noising[t], noising[time_after(step - 1)], options};
    fill(times, t);
    look(labels, with);
    if (options.guidance == 1) {
      map(on, batch, of_image, move, rows(images), rows(with));
    } else {
      look(none, without);
      map(on, batch, of_image, move, rows(images), rows(without), rows(with));
    }
  }
}

}  // namespace detail

/// Draws images of the given classes out of noise: DDIM (arXiv 2010.02502) without new noise, with classifier-free guidance
/// (arXiv 2207.12598). images [B, s_1..s_M, channels], dense: standard normal numbers, which become images; labels [B], 0 to
/// classes - 1, or `classes` for none. The Model is an image_generator, or a layer that is called like one. Throws
/// value_error for options that make no images, shape_error or device_error, before anything is written, and what the model
/// throws.
template <class Model, class T, class Device, class Shape>
void sample_images(execution<Device>& on, const Model& model,
                   const std::type_identity_t<parameters_of<Model, const T, Device>>& params, const diffusion& noising,
                   const dynamic_view<1, const std::int32_t, std::type_identity_t<Device>>& labels,
                   const view<Shape, T, Device>& images, const ddim_options& options = {}) {
  const detail::layer_checker check{"sample_images"};
  options.check(noising.steps());
  check.parameters("images", images);
  const std::int64_t batch = images.extent(0);
  check.numbers("labels", labels, batch);
  detail::shard_runner<Device> runner;
  runner.run(on, (batch + options.shard - 1) / options.shard, [&](execution<Device>& mine, std::int64_t index, int) {
    const std::int64_t first = index * options.shard, count = std::min(options.shard, batch - first);
    detail::draw_images<static_cast<int>(Shape::rank) - 2>(mine, model, params, noising, labels.slice(0, first, count),
                                                           images.slice(0, first, count), options);
  });
}

LIGHTNET_END_NAMESPACE
