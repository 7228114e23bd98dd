// SPDX-License-Identifier: Apache-2.0
// A question to the image generator, for images of any number of dimensions.
#pragma once

#include "check.hpp"

namespace check {

// images [B, extents..., channels], each with a time step and a label of its own; the last label says: of no class
template <class Options, int Dims, class Device = ln::cpu>
struct generator_question {
  using layer_type = ln::image_generator<Options, Dims, double, Device>;
  using extents = std::array<std::int64_t, static_cast<std::size_t>(Dims + 2)>;

  ln::parameter_block<double> parameters = random_parameters(layer_type{}, 10);
  extents shape;
  list<double> x;
  std::vector<std::int32_t> times, labels;
  int threads = 1;

  explicit generator_question(const extents& images) : shape{images} {
    std::int64_t size = 1;
    for (const std::int64_t n : shape) size *= n;
    x = numbers::normal(size, 1);
    for (std::int64_t b = 0; b < shape[0]; ++b) {
      times.push_back(static_cast<std::int32_t>(999 - 331 * b));
      labels.push_back(static_cast<std::int32_t>(Options::classes - 2 * b));
    }
  }
  std::int64_t outputs() const { return static_cast<std::int64_t>(x.size()); }
  list<double> expected() const {
    return reference::image_generator<Options>(parameters, x, times, labels, {shape.begin() + 1, shape.end() - 1});
  }
  ln::noisy_images<Dims, double> input() const {
    return {numbers::view_of<Dims + 2>(x, shape), numbers::view_of<1>(times, {shape[0]}),
            numbers::view_of<1>(labels, {shape[0]})};
  }

  template <class Mode>
  void forward(ln::execution<ln::cpu>& on, list<double>& y,
               typename layer_type::template context<Mode>& context) const {
    layer_type{}.forward(on, parameters.for_layer(layer_type{}), input(), numbers::view_of<Dims + 2>(y, shape),
                         context);
  }
  template <ln::write Write>
  void backward(ln::execution<ln::cpu>& on, const list<double>& dy, list<double>& dx, list<double>& dparameters,
                const typename layer_type::template context<ln::train>& context) const {
    layer_type{}.template backward<Write>(on, parameters.for_layer(layer_type{}), input(),
                                          numbers::view_of<Dims + 2>(dy, shape), numbers::view_of<Dims + 2>(dx, shape),
                                          {dparameters.data(), {}}, context);
  }
};

}  // namespace check
