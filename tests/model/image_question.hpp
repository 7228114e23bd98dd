// SPDX-License-Identifier: Apache-2.0
// A question to the image classifier, for images of any number of dimensions.
#pragma once

#include "check.hpp"

namespace check {

// images [B, extents..., channels]
template <class Options, int Dims, class Device = ln::cpu>
struct image_question {
  using layer_type = ln::image_classifier<Options, Dims, double, Device>;
  using extents = std::array<std::int64_t, static_cast<std::size_t>(Dims + 2)>;

  ln::parameter_block<double> parameters = random_parameters(layer_type{}, 10);
  extents shape;
  list<double> x;
  int threads = 1;

  explicit image_question(const extents& images) : shape{images} {
    std::int64_t size = 1;
    for (const std::int64_t n : shape) size *= n;
    x = numbers::normal(size, 1);
  }
  std::int64_t outputs() const { return shape[0] * Options::classes; }
  list<double> expected() const {
    return reference::image_classifier<Options>(parameters, x, shape[0], {shape.begin() + 1, shape.end() - 1});
  }

  template <class Mode>
  void forward(ln::execution<ln::cpu>& on, list<double>& y,
               typename layer_type::template context<Mode>& context) const {
    layer_type{}.forward(on, parameters.for_layer(layer_type{}), numbers::view_of<Dims + 2>(x, shape),
                         numbers::view_of<2>(y, {shape[0], Options::classes}), context);
  }
  template <ln::write Write>
  void backward(ln::execution<ln::cpu>& on, const list<double>& dy, list<double>& dx, list<double>& dparameters,
                const typename layer_type::template context<ln::train>& context) const {
    layer_type{}.template backward<Write>(on, parameters.for_layer(layer_type{}), numbers::view_of<Dims + 2>(x, shape),
                                          numbers::view_of<2>(dy, {shape[0], Options::classes}),
                                          numbers::view_of<Dims + 2>(dx, shape), {dparameters.data(), {}}, context);
  }
};

}  // namespace check
