// SPDX-License-Identifier: Apache-2.0
// A question to the segmenter, for images of any number of dimensions.
#pragma once

#include "check.hpp"

namespace check {

// images [B, extents..., channels]
template <class Options, int Dims, class Device = ln::cpu>
struct segmenter_question {
  using layer_type = ln::segmenter<Options, Dims, double, Device>;
  using extents = std::array<std::int64_t, static_cast<std::size_t>(Dims + 2)>;

  ln::parameter_block<double> parameters = random_parameters(layer_type{}, 10);
  extents shape, logits;
  list<double> x;
  int threads = 1;

  explicit segmenter_question(const extents& images) : shape{images}, logits{images} {
    logits.back() = Options::classes;
    std::int64_t size = 1;
    for (const std::int64_t n : shape) size *= n;
    x = numbers::normal(size, 1);
  }
  std::int64_t outputs() const { return static_cast<std::int64_t>(x.size()) / Options::channels * Options::classes; }
  list<double> expected() const {
    return reference::segmenter<Options>(parameters, x, shape[0], {shape.begin() + 1, shape.end() - 1});
  }
  auto params() const { return parameters.for_layer(layer_type{}); }
  auto images() const { return numbers::view_of<Dims + 2>(x, shape); }

  template <class Mode>
  void forward(ln::execution<ln::cpu>& on, list<double>& y,
               typename layer_type::template context<Mode>& context) const {
    layer_type{}.forward(on, params(), images(), numbers::view_of<Dims + 2>(y, logits), context);
  }
  template <ln::write Write>
  void backward(ln::execution<ln::cpu>& on, const list<double>& dy, list<double>& dx, list<double>& dparameters,
                const typename layer_type::template context<ln::train>& context) const {
    layer_type{}.template backward<Write>(on, params(), images(), numbers::view_of<Dims + 2>(dy, logits),
                                          numbers::view_of<Dims + 2>(dx, shape), {dparameters.data(), {}}, context);
  }
};

}  // namespace check
