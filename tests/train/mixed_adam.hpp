// SPDX-License-Identifier: Apache-2.0
// The optimiser with gradients of bfloat16 and parameters of float, on either device.
#pragma once

#include <lightnet/train/adam.hpp>

#include "layer/device_numbers.cuh"

namespace mixed {

namespace ln = lightnet;
using numbers::list;

/// Parts that decay and parts that do not, longer and shorter than a run, and one that nobody describes.
struct layer {
  static constexpr std::int64_t weights = std::int64_t{13} * 4001, parameter_count = 1001 + weights + 7;
  void describe(const std::string&, std::int64_t offset, std::vector<ln::parameter>& index) const {
    const auto start = ln::initial_value::truncated_normal(0.5);
    index.push_back({"bias", {1001}, offset, start, false});
    index.push_back({"weight", {13, 4001}, offset + 1001, start, true});
  }
};

template <class T, class Device>
list<T> values(ln::execution<Device>& on, const ln::parameter_block<T, Device>& block) {
  on.synchronize();
  list<T> to(static_cast<std::size_t>(block.size()));
  Device::copy(to.data(), block.view().data(), to.size() * sizeof(T));
  return to;
}

template <class T, class Device>
void fill(ln::parameter_block<T, Device>& block, const list<T>& from) {
  Device::copy(block.view().data(), from.data(), from.size() * sizeof(T));
}

/// Five updates, of which the third is skipped, against those with the same gradients in float.
template <class Device>
void check_against_float(bool decoupled_weight_decay) {
  CAPTURE(decoupled_weight_decay);
  ln::execution<Device> on;
  const ln::adam_options options{
      .weight_decay = 0.1, .decoupled_weight_decay = decoupled_weight_decay, .clip_norm = 1.5};
  ln::master_parameters<ln::bfloat16, Device> parameters{layer{}, 7};
  auto exact = parameters.master();
  auto gradients = ln::parameter_block<ln::bfloat16, Device>::of(layer{});
  auto wide = exact.like();
  ln::adam<ln::bfloat16, Device> optimiser{exact, options};
  ln::adam<float, Device> expected{exact, options};
  const list<float> start = values(on, exact);
  CHECK(start[1001] != 0);
  for (std::uint64_t update = 0; update < 5; ++update) {
    CAPTURE(update);
    auto drawn = numbers::cast<ln::bfloat16>(numbers::normal(layer::parameter_count, 10 + update, 0.1));
    if (update == 2) drawn[40001] = std::numeric_limits<ln::bfloat16>::quiet_NaN();
    fill(gradients, drawn);
    fill(wide, numbers::cast<float>(drawn));
    optimiser.set_learning_rate(0.01);
    expected.set_learning_rate(0.01);
    optimiser.step(on, parameters, gradients);
    expected.step(on, exact, wide);
    const list<float> master = values(on, parameters.master());
    CHECK(numbers::same_bits(master, values(on, exact)));
    CHECK(numbers::same_bits(values(on, optimiser.first_moment()), values(on, expected.first_moment())));
    CHECK(numbers::same_bits(values(on, optimiser.second_moment()), values(on, expected.second_moment())));
    CHECK(numbers::same_bits(values(on, parameters.rounded()), numbers::cast<ln::bfloat16>(master)));
  }
  CHECK_FALSE(numbers::same_bits(values(on, parameters.master()), start));
  CHECK(optimiser.state().skipped == 1);
  CHECK(optimiser.state().updates == 4);
  CHECK(optimiser.state().gradient_norm == expected.state().gradient_norm);
}

/// Updates of 1e-4 of numbers near 1, whose neighbours in bfloat16 are 2^-8 below: a hundred of them are 1 %.
template <class Device>
void check_small_updates() {
  ln::execution<Device> on;
  ln::master_parameters<ln::bfloat16, Device> parameters{layer{}, 7};
  auto ones = parameters.master();
  const auto size = static_cast<std::size_t>(ones.size());
  fill(ones, list<float>(size, 1.0F));
  parameters.set(std::move(ones));
  CHECK(numbers::same_bits(values(on, parameters.rounded()), list<ln::bfloat16>(size, ln::bfloat16(1.0F))));
  auto gradients = ln::parameter_block<ln::bfloat16, Device>::of(layer{});
  fill(gradients, list<ln::bfloat16>(size, ln::bfloat16(0.25F)));
  ln::adam<ln::bfloat16, Device> optimiser{parameters.master(), {.weight_decay = 0}};
  optimiser.set_learning_rate(1e-4);
  optimiser.step(on, parameters, gradients);
  CHECK(numbers::same_bits(values(on, parameters.rounded()), list<ln::bfloat16>(size, ln::bfloat16(1.0F))));
  for (int update = 1; update < 100; ++update) optimiser.step(on, parameters, gradients);
  const list<float> expected(size, 0.99F);
  CHECK(numbers::largest_difference(numbers::cast<double>(values(on, parameters.master())),
                                    numbers::cast<double>(expected)) <= 1e-5);
  CHECK(numbers::same_bits(values(on, parameters.rounded()), numbers::cast<ln::bfloat16>(expected)));
}

template <class Device>
void check_refusals() {
  ln::execution<Device> on;
  ln::master_parameters<ln::bfloat16, Device> parameters{layer{}, 7};
  const list<float> before = values(on, parameters.master());
  CHECK_THROWS_AS(parameters.set({}), ln::shape_error);
  ln::adam<ln::bfloat16, Device> optimiser{parameters.master()};
  optimiser.set_learning_rate(0.1);
  CHECK_THROWS_AS(optimiser.step(on, parameters, {}), ln::shape_error);
  CHECK(numbers::same_bits(values(on, parameters.master()), before));
}

}  // namespace mixed
