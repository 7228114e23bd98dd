// SPDX-License-Identifier: Apache-2.0
// The image classifier for pictures; what its parameters are, what it allocates, what it refuses.
#include <lightnet/model/image_classifier.hpp>

#include <cstdlib>
#include <new>

#include "allocation.hpp"
#include "image_question.hpp"

namespace allocation {
std::int64_t count = 0;

static void* take(std::size_t bytes, std::size_t alignment) {
  ++count;
  void* const memory = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  if (!memory) throw std::bad_alloc();
  return memory;
}
}  // namespace allocation

void* operator new(std::size_t bytes) { return allocation::take(bytes, alignof(std::max_align_t)); }
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return allocation::take(bytes, static_cast<std::size_t>(alignment));
}
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  try {
    return operator new(bytes);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

namespace {

namespace ln = lightnet;
using numbers::list;

struct pictures : ln::image_classifier_options {
  static constexpr int width = 6, heads = 2, inner = 7, layers = 2, channels = 2, patch = 2, classes = 5, modes = 3;
};

using question = check::image_question<pictures, 2>;

}  // namespace

TEST_CASE("the image classifier is its formula, with the gradients of finite differences") {
  question flat({3, 6, 10, 2});
  check::model(flat, "image_classifier 2-D", flat.expected(), 6);
  MESSAGE(oracle::gradient_report());
}

TEST_CASE("the image classifier leaves out the gradient that nobody wants") {
  question q({3, 6, 10, 2});
  using layer = question::layer_type;
  const list<double> dy = numbers::normal(q.outputs(), 2);
  const check::gradients d = check::backward(q, dy, q.x);
  ln::execution<ln::cpu> on(1);
  layer::context<ln::train> context;
  list<double> y = numbers::unwritten(q.outputs()), dparameters = numbers::unwritten(layer::parameter_count);
  q.forward(on, y, context);
  layer{}.backward(on, std::as_const(q.parameters).for_layer(layer{}), numbers::view_of<4>(std::as_const(q.x), q.shape),
                   numbers::view_of<2>(dy, {3, 5}), {}, {dparameters.data(), {}}, context);
  CHECK(numbers::same_bits(dparameters, d.parameters));
}

TEST_CASE("after the first calls the image classifier allocates nothing") {
  const question large({19, 6, 10, 2}), small({3, 6, 10, 2});
  using layer = question::layer_type;
  for (const int threads : {1, 3}) {
    ln::execution<ln::cpu> on(threads);
    layer::context<ln::train> context;
    layer::context<ln::infer> nothing;
    list<double> y = numbers::unwritten(large.outputs()), dx = large.x, dparameters(layer::parameter_count);
    const list<double> dy = numbers::normal(large.outputs(), 2);
    const auto step = [&](const question& q) {
      q.forward(on, y, nothing);
      q.forward(on, y, context);
      q.backward<ln::write::overwrite>(on, dy, dx, dparameters, context);
    };
    step(large);
    step(large);  // here the workspace becomes one block
    const std::int64_t before = allocation::count;
    step(large);
    step(small);
    step(large);
    CHECK(allocation::count == before);
  }
}

TEST_CASE("the image classifier describes its parameters") {
  using layer = question::layer_type;
  auto all = ln::parameter_block<double>::of(layer{});
  CHECK(all.size() == layer::parameter_count);
  const std::int64_t of_block = 2 * 6 + (4 * 6 * 6 + 2 * 3 * 6 + 6) + 3 * 6 * 7;
  CHECK(all.size() == (8 * 6 + 6) + 2 * (3 + 6 * 3) + 2 * of_block + 6 + (6 * 5 + 5));
  CHECK(all.index().front().name == "embedding.weight");
  CHECK(all["embedding.weight"].size() == 48);
  CHECK(all["tpe.gamma"].size() == 6);
  CHECK(all["layers.1.attn.q_proj.weight"].size() == 36);
  CHECK(all["norm.weight"].size() == 6);
  CHECK(all.index().back().name == "head.bias");
  std::int64_t offset = 0;
  for (const ln::parameter& part : all.index()) {
    CHECK(part.offset == offset);
    offset += part.size();
  }
  CHECK(offset == layer::parameter_count);
}

TEST_CASE("the image classifier names what does not fit and writes nothing") {
  question q({3, 6, 10, 2});
  using layer = question::layer_type;
  ln::execution<ln::cpu> on(1);
  layer::context<ln::train> context;
  const auto params = std::as_const(q.parameters).for_layer(layer{});
  const list<double>& x = q.x;
  list<double> y = numbers::unwritten(q.outputs());
  const auto to = numbers::view_of<2>(y, {3, 5});
  const auto images = numbers::view_of<4>(x, q.shape);
  CHECK(numbers::message_of<ln::shape_error>([&] {
          layer{}.forward(on, params, numbers::view_of<4>(x, {3, 6, 20, 1}), to, context);
        }) == "lightnet: image_classifier::forward: images: expected 2 channels, got [3, 6, 20, 1]");
  CHECK(numbers::message_of<ln::shape_error>([&] {
          layer{}.forward(on, params, numbers::view_of<4>(x, {3, 5, 12, 2}), to, context);
        }) ==
        "lightnet: image_classifier::forward: images: expected extents that are multiples of 2, got [3, 5, 12, 2]");
  CHECK(numbers::message_of<ln::shape_error>([&] {
          layer{}.forward(on, params, images, numbers::view_of<2>(y, {5, 3}), context);
        }) == "lightnet: image_classifier::forward: logits: expected [3, 5] with dense rows, got [5, 3]");
  CHECK(numbers::message_of<ln::device_error>([&] { layer{}.forward(on, {}, images, to, context); }) ==
        "lightnet: image_classifier::forward: params: expected a view of memory, got a null pointer");
  CHECK(numbers::message_of<ln::device_error>([&] { layer{}.forward(on, params, {}, to, context); }) ==
        "lightnet: image_classifier::forward: images: expected a view of memory, got a null pointer");
  CHECK(
      numbers::message_of<ln::shape_error>([&] {
        list<double> d(layer::parameter_count);
        layer{}.backward(on, params, images, to, numbers::view_of<4>(q.x, {3, 10, 6, 2}), {d.data(), {}}, context);
      }) ==
      "lightnet: image_classifier::backward: dimages: expected the extents of images [3, 6, 10, 2], got [3, 10, 6, 2]");
  for (const double a : y) CHECK(std::isnan(a));
}
