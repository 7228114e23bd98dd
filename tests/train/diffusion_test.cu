// SPDX-License-Identifier: Apache-2.0
// Diffusion on the GPU gives what it gives on the CPU: noisy batches, their loss, averages of weights, images out of noise.
#include <doctest/doctest.h>

#include <lightnet/backend/random.hpp>
#include <lightnet/loss/mean_squared_error.hpp>
#include <lightnet/model/sample_images.hpp>
#include <lightnet/train/noisy_batches.hpp>
#include <lightnet/train/weight_average.hpp>

#include "layer/device_numbers.cuh"
#include "train/images.hpp"

namespace {

namespace ln = lightnet;
using ln::cpu, ln::cuda;
using numbers::array, numbers::list, numbers::outcomes;

// A model that sees a third of every number as noise, or half of it without a class.
template <class Device>
struct shrinking {
  static constexpr std::int64_t parameter_count = 5000;
  static constexpr int classes = 7;
  template <class Mode>
  struct context {};

  void describe(const std::string& prefix, std::int64_t offset, std::vector<ln::parameter>& list) const {
    list.push_back({prefix + "weight", {5000}, offset, ln::initial_value::truncated_normal(1), true});
  }
  struct share {
    ln::noisy_images<2, float, Device> x;
    float* y;
    LIGHTNET_HOST_DEVICE void operator()(std::int64_t row, std::int64_t first, std::int64_t last) const noexcept {
      for (std::int64_t i = first; i < last; ++i) {
        const std::int64_t place = row * 36 + i;
        y[place] = x.images.data()[place] * (x.labels(row) == classes ? 0.5F : 0.33F);
      }
    }
  };
  template <class Mode>
  void forward(ln::execution<Device>& on, const ln::parameters_of<shrinking, const float, Device>&,
               const ln::noisy_images<2, float, Device>& x, const ln::dynamic_view<4, float, Device>& y,
               context<Mode>&) const {
    ln::detail::for_each_row(on, "shrinking", x.images.extent(0), 36, share{x, y.data()});
  }
};

template <class Device, class T, class Shape>
list<double> read(ln::execution<Device>& on, const ln::view<Shape, T, Device>& from) {
  on.synchronize();
  list<std::remove_const_t<T>> here(static_cast<std::size_t>(from.size()));
  Device::copy(here.data(), from.data(), here.size() * sizeof(T));
  return numbers::cast<double>(here);
}

template <class Device>
outcomes<double> batches() {
  ln::execution<Device> on;
  const pictures::images<Device> all{23, 3, 6, 2};
  ln::noisy_batches<ln::image_batches<float, Device>, 2, float, Device> source{
      all.batches({.mean = 0.5, .deviation = 0.25}), {.label_dropout = 0.3, .classes = 7, .seed = 3}};
  const auto batch = source.load(std::vector<std::int64_t>{4, 22, 0, 7, 11}, 2);
  source.fill(on);
  const auto rows = [](const auto& of) { return of.reshape(std::array<std::int64_t, 2>{5, 36}); };
  array<float, Device> loss(numbers::unwritten<float>(1)), dy(numbers::unwritten<float>(5 * 36));
  ln::mean_squared_error<float>(on, {rows(batch.inputs.images), rows(batch.labels)},
                                {.loss = {loss.data(), {{1}}}, .dy = {dy.data(), {{5, 36}}}});
  return {{"noisy", read(on, batch.inputs.images)},       {"noise", read(on, batch.labels)},
          {"times", read(on, batch.inputs.times)},        {"labels", read(on, batch.inputs.labels)},
          {"loss", numbers::cast<double>(loss.read(on))}, {"dy", numbers::cast<double>(dy.read(on))}};
}

template <class Device>
outcomes<double> images() {
  using model = shrinking<Device>;
  ln::execution<Device> on;
  auto weights = ln::parameter_block<float, Device>::of(model{});
  weights.initialise(1);
  ln::weight_average<float, Device> average{weights, 0.5};
  for (std::uint64_t seed = 2; seed < 6; ++seed) {
    weights.initialise(seed);
    average.update(on, weights);
  }
  CHECK(average.updates() == 4);
  ln::tensor<ln::rank<4>, float, Device> x{{{3, 3, 6, 2}}};
  ln::fill_normal(on, ln::random_stream{7}, 0, x.view().reshape(std::array{x.size()}));
  const array<std::int32_t, Device> labels(list<std::int32_t>{6, 0, 7});
  ln::sample_images(on, model{}, average.weights().for_layer(model{}), ln::diffusion{},
                    ln::dynamic_view<1, const std::int32_t, Device>{labels.data(), {{3}}}, x.view(),
                    {.steps = 3, .guidance = 1.5, .limit = 1, .shard = 2});
  return {{"average", read(on, average.weights().view())}, {"images", read(on, std::as_const(x).view())}};
}

}  // namespace

TEST_CASE("noisy batches and their loss on the GPU are those of the CPU") {
  numbers::check_close(batches<cuda>(), batches<cpu>(), 1e-5);
}

TEST_CASE("images that the GPU draws out of noise, with averaged weights, are those of the CPU") {
  numbers::check_close(images<cuda>(), images<cpu>(), 1e-5);
}
