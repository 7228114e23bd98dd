// SPDX-License-Identifier: Apache-2.0
// The segmenter, for pictures and for volumes; its two forms of logits; what it refuses.
#include <lightnet/model/segmenter.hpp>

#include "segmenter_question.hpp"

namespace {

namespace ln = lightnet;
using numbers::list;

struct pictures : ln::segmenter_options {
  static constexpr int width = 6, heads = 2, inner = 7, layers = 1, channels = 2, patch = 3, classes = 5, modes = 3;
};
struct volumes : ln::segmenter_options {
  static constexpr int width = 6, heads = 1, inner = 7, layers = 2, channels = 1, patch = 2, classes = 3, modes = 3;
};

template <class Options, int Dims>
using question = check::segmenter_question<Options, Dims>;

}  // namespace

TEST_CASE("the segmenter of pictures is its formula, with the gradients of finite differences") {
  question<pictures, 2> q({2, 6, 15, 2});
  check::model(q, "segmenter 2-D", q.expected(), 6);
  MESSAGE(oracle::gradient_report());
}

TEST_CASE("the segmenter of volumes is its formula, with the gradients of finite differences") {
  question<volumes, 3> q({3, 4, 2, 6, 1});
  check::model(q, "segmenter 3-D", q.expected(), 6);
  MESSAGE(oracle::gradient_report());
}

TEST_CASE("the segmenter gives and takes logits as rows, and leaves out the gradient that nobody wants") {
  const question<volumes, 3> q({3, 4, 2, 6, 1});
  using layer = decltype(q)::layer_type;
  const list<double> dy = numbers::normal(q.outputs(), 2);
  const check::gradients d = check::backward(q, dy, q.x);
  ln::execution<ln::cpu> on(1);
  layer::context<ln::train> context;
  list<double> y = numbers::unwritten(q.outputs()), dparameters = numbers::unwritten(layer::parameter_count);
  layer{}.forward(on, q.params(), q.images(), numbers::view_of<2>(y, {3 * 4 * 2 * 6, 3}), context);
  CHECK(numbers::same_bits(y, check::forward<ln::infer>(q)));
  layer{}.backward(on, q.params(), q.images(), numbers::view_of<2>(dy, {3 * 4 * 2 * 6, 3}), {},
                   {dparameters.data(), {}}, context);
  CHECK(numbers::same_bits(dparameters, d.parameters));

  // Classes outside: one volume of logits a class.
  list<double> apart = numbers::unwritten(q.outputs());
  const layer::logit_view strided{apart.data(), {{3, 4, 2, 6, 3}}, {48, 12, 6, 1, 144}};
  layer::context<ln::infer> nothing;
  layer{}.forward(on, q.params(), q.images(), strided, nothing);
  for (std::int64_t i = 0; i < 144; ++i) {
    for (std::int64_t c = 0; c < 3; ++c) {
      CHECK(apart[static_cast<std::size_t>(144 * c + i)] == y[static_cast<std::size_t>(3 * i + c)]);
    }
  }
}

TEST_CASE("the segmenter names what does not fit and writes nothing") {
  question<volumes, 3> q({3, 4, 2, 6, 1});
  using layer = decltype(q)::layer_type;
  ln::execution<ln::cpu> on(1);
  layer::context<ln::train> context;
  list<double> y = numbers::unwritten(q.outputs()), dparameters = numbers::unwritten(layer::parameter_count);
  const auto to = numbers::view_of<5>(y, q.logits);
  CHECK(numbers::message_of<ln::shape_error>([&] {
          layer{}.forward(on, q.params(), numbers::view_of<5>(std::as_const(q.x), {3, 4, 3, 4, 1}), to, context);
        }) == "lightnet: segmenter::forward: images: expected extents that are multiples of 2, got [3, 4, 3, 4, 1]");
  CHECK(numbers::message_of<ln::shape_error>([&] {
          layer{}.forward(on, q.params(), q.images(), numbers::view_of<5>(y, {3, 4, 6, 2, 3}), context);
        }) == "lightnet: segmenter::forward: logits: expected [3, 4, 2, 6, 3], got [3, 4, 6, 2, 3]");
  CHECK(numbers::message_of<ln::shape_error>([&] {
          layer{}.forward(on, q.params(), q.images(), numbers::view_of<2>(y, {3, 144}), context);
        }) == "lightnet: segmenter::forward: logits: expected [144, 3] with dense rows, got [3, 144]");
  CHECK(numbers::message_of<ln::device_error>([&] {
          layer{}.forward(on, q.params(), q.images(), layer::logit_view{}, context);
        }) == "lightnet: segmenter::forward: logits: expected a view of memory, got a null pointer");
  CHECK(numbers::message_of<ln::shape_error>([&] {
          layer{}.backward(on, q.params(), q.images(), to, {}, {dparameters.data(), {}}, context);
        }) == "lightnet: segmenter::backward: context: expected what forward keeps for x, [18, 8], got [0, 0]");
  for (const double a : y) CHECK(std::isnan(a));
  for (const double a : dparameters) CHECK(std::isnan(a));
}
