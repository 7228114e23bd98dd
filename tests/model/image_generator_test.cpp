// SPDX-License-Identifier: Apache-2.0
// The image generator: its formula, what its tokens without a place are, what it refuses; the paper's sizes.
#include <lightnet/model/image_generator.hpp>
#include <lightnet/model/paper_image_generators.hpp>

#include "generator_question.hpp"

namespace {

namespace ln = lightnet;
using numbers::list;

struct pictures : ln::image_generator_options {
  static constexpr int width = 6, heads = 2, inner = 7, layers = 2, channels = 3, patch = 2, classes = 5, modes = 3,
                       time_features = 10;
};

using question = check::generator_question<pictures, 2>;
using layer = question::layer_type;

}  // namespace

TEST_CASE("the image generator is its formula, with the gradients of finite differences") {
  question q({3, 6, 10, 3});
  check::model(q, "image_generator", q.expected(), 6);
  MESSAGE(oracle::gradient_report());
}

TEST_CASE("the image generator leaves out the gradient that nobody wants") {
  question q({2, 4, 6, 3});
  const list<double> dy = numbers::normal(q.outputs(), 2);
  const check::gradients d = check::backward(q, dy, q.x);
  ln::execution<ln::cpu> on(1);
  layer::context<ln::train> context;
  list<double> y = numbers::unwritten(q.outputs()), dparameters = numbers::unwritten(layer::parameter_count);
  q.forward(on, y, context);
  layer{}.backward(on, std::as_const(q.parameters).for_layer(layer{}), q.input(), numbers::view_of<4>(dy, q.shape), {},
                   {dparameters.data(), {}}, context);
  CHECK(numbers::same_bits(dparameters, d.parameters));
}

TEST_CASE("the tokens of time and class have no place: they may change theirs") {
  question q({2, 4, 6, 3});
  const list<double> first = numbers::normal(6, 4), second = numbers::normal(6, 5);
  const auto noise_with = [&](const list<double>& time, const list<double>& label) {
    std::fill_n(q.parameters["time.1.weight"].data(), 36, 0.0);  // every time step is the bias
    std::copy(time.begin(), time.end(), q.parameters["time.1.bias"].data());
    for (int i = 0; i <= pictures::classes; ++i) {
      std::copy(label.begin(), label.end(), q.parameters["class.weight"].data() + 6 * i);
    }
    return check::forward<ln::infer>(q);
  };
  const list<double> y = noise_with(first, second);
  CHECK(numbers::largest_difference(noise_with(second, first), y) < 1e-13);
  CHECK(numbers::largest_difference(noise_with(first, first), y) > 1e-3);
}

TEST_CASE("the noise that the image generator sees depends on time and class") {
  question q({2, 4, 6, 3});
  const list<double> y = check::forward<ln::infer>(q);
  const auto half = static_cast<std::ptrdiff_t>(y.size() / 2);
  const auto differs = [&](const list<double>& other) {
    return std::pair{!std::equal(y.begin(), y.begin() + half, other.begin()),
                     !std::equal(y.begin() + half, y.end(), other.begin() + half)};
  };
  q.times[0] += 1;
  CHECK(differs(check::forward<ln::infer>(q)) == std::pair{true, false});
  q.times[0] -= 1;
  q.labels[1] = 0;
  CHECK(differs(check::forward<ln::infer>(q)) == std::pair{false, true});
}

TEST_CASE("the image generator describes its parameters") {
  const auto all = ln::parameter_block<double>::of(layer{});
  std::vector<std::string> names;
  std::int64_t offset = 0;
  for (const ln::parameter& part : all.index()) {
    if (!part.name.starts_with("layers.")) names.push_back(part.name);
    CHECK(part.offset == offset);
    offset += part.size();
  }
  CHECK(offset == layer::parameter_count);
  CHECK(names == std::vector<std::string>{"embedding.weight", "embedding.bias", "tpe.gamma", "tpe.b", "time.0.weight",
                                          "time.0.bias", "time.1.weight", "time.1.bias", "class.weight", "norm.weight",
                                          "head.weight", "head.bias"});
  CHECK(all["class.weight"].size() == 6 * 6);
  CHECK(all["time.0.weight"].size() == 10 * 6);
  CHECK(all["head.weight"].size() == 6 * 12);
  CHECK(ln::image_generator<ln::image_generator_s, 2>::parameter_count == 33'412'272);
  CHECK(ln::image_generator<ln::image_generator_xl, 2>::parameter_count == 678'826'416);
}

TEST_CASE("the image generator names what does not fit and writes nothing") {
  question q({3, 6, 10, 3});
  ln::execution<ln::cpu> on(1);
  layer::context<ln::train> context;
  const auto params = std::as_const(q.parameters).for_layer(layer{});
  list<double> y = numbers::unwritten(q.outputs());
  const auto to = numbers::view_of<4>(y, q.shape);
  const auto x = q.input();
  const auto message = [&](const ln::noisy_images<2, double>& input, const ln::dynamic_view<4, double>& output) {
    return numbers::message_of<ln::error>([&] { layer{}.forward(on, params, input, output, context); });
  };
  const std::string forward = "lightnet: image_generator::forward: ";
  CHECK(message({x.images.slice(3, 0, 2), x.times, x.labels}, to) ==
        forward + "images: expected 3 channels, got [3, 6, 10, 2] with strides [180, 30, 3, 1]");
  CHECK(message({x.images.slice(1, 0, 5), x.times, x.labels}, to) ==
        forward + "images: expected extents that are multiples of 2, got [3, 5, 10, 3] with strides [180, 30, 3, 1]");
  CHECK(message({x.images, x.times.slice(0, 0, 2), x.labels}, to) == forward + "times: expected [3], got [2]");
  CHECK(message({x.images, x.times, {}}, to) == forward + "labels: expected a view of memory, got a null pointer");
  CHECK(message(x, to.slice(0, 0, 2)) ==
        forward + "y: expected the extents of images [3, 6, 10, 3], got [2, 6, 10, 3]");
  q.labels[1] = 6;
  CHECK(message(x, to) == "lightnet: embedding::forward: ids: expected 0 to 5, got 6 at row 1");
  CHECK(numbers::message_of<ln::shape_error>([&] {
          list<double> d(layer::parameter_count);
          const auto dy = numbers::view_of<4>(std::as_const(q.x), {3, 10, 6, 3});
          layer{}.backward(on, params, x, dy, {}, {d.data(), {}}, context);
        }) ==
        "lightnet: image_generator::backward: dy: expected the extents of images [3, 6, 10, 3], got [3, 10, 6, 3]");
  for (const double a : y) CHECK(std::isnan(a));
}
