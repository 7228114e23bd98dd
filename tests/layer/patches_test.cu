// SPDX-License-Identifier: Apache-2.0
// The layers that only move and average numbers, on the GPU: as on the CPU.
#include <lightnet/layer/mean_pooling.hpp>
#include <lightnet/layer/patches.hpp>

#include "device_numbers.cuh"

namespace {

namespace ln = lightnet;
using ln::cpu, ln::cuda;
using numbers::array, numbers::list, numbers::outcomes;

// Images with the axes of memory in the opposite order of the extents, the second one backwards, with room between.
template <int Side, int Dims, class T, class Device>
outcomes<T> patches_of(const std::array<std::int64_t, Dims + 2>& shape, std::int64_t rows) {
  using layer = ln::patches<Side, Dims, T, Device>;
  ln::execution<Device> on;
  std::array<std::int64_t, Dims + 2> strides{};
  std::int64_t size = 1, origin = 0;
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    strides[axis] = axis == 1 ? -size : size;
    if (axis == 1) origin = (shape[axis] - 1) * size;
    size *= shape[axis] + 1;
  }
  const std::int64_t columns = layer::width(shape[Dims + 1]), gap = 2;
  const list<T> pixels = numbers::cast<T>(numbers::normal(size, 1));
  array<T, Device> images(pixels), overwritten(pixels), added(pixels), y(numbers::unwritten<T>(rows * (columns + gap))),
      dy(numbers::cast<T>(numbers::normal(rows * columns, 2)));
  const auto view_of = [&](array<T, Device>& memory) {
    return ln::dynamic_view<Dims + 2, T, Device>{memory.data() + origin, shape, strides};
  };
  layer{}.forward(on, view_of(images), {y.data(), {{rows, columns}}, {columns + gap, 1}});
  layer{}.backward(on, view_of(overwritten), dy.template view<2>({rows, columns}));
  layer{}.template backward<ln::write::add>(on, view_of(added), dy.template view<2>({rows, columns}));
  return {{"y", y.read(on)}, {"dimages", overwritten.read(on)}, {"dimages, added", added.read(on)}};
}

template <int Side, int Dims, class T>
void check_patches(const std::array<std::int64_t, Dims + 2>& shape, std::int64_t rows) {
  numbers::check_same_bits(patches_of<Side, Dims, T, cuda>(shape, rows), patches_of<Side, Dims, T, cpu>(shape, rows));
}

struct pooling_question {
  std::int64_t batch, tokens, width;
  bool masked;
  std::int64_t first = 0;  // of the sequences that are asked for
};

// Every third token is masked, and the last of several sequences altogether.
template <class T, class Device>
outcomes<T> pooling_of(const pooling_question& q, std::int64_t count) {
  const ln::mean_pooling<1, T, Device> layer;
  ln::execution<Device> on;
  const std::int64_t size = q.batch * q.tokens * q.width;
  const auto keep = [&](std::int64_t i) { return i % 3 != 1 && (q.batch == 1 || i / q.tokens != q.batch - 1); };
  list<T> values = numbers::cast<T>(numbers::normal(size, 1));
  for (std::int64_t i = 0; q.masked && i < size; ++i) {
    if (!keep(i / q.width)) values[static_cast<std::size_t>(i)] = std::numeric_limits<T>::quiet_NaN();
  }
  array<T, Device> x(values), y(numbers::unwritten<T>(count * q.width)),
      dy(numbers::cast<T>(numbers::normal(q.batch * q.width, 2))),
      dx(numbers::unwritten<T>(count * q.tokens * q.width));
  auto mask = numbers::mask_of<Device>(q.batch, q.tokens, keep);
  ln::dynamic_view<2, const bool, Device> kept;
  if (q.masked) kept = ln::dynamic_view<2, const bool, Device>{mask.view()}.slice(0, q.first, count);
  const ln::grid<1> where{{q.tokens}};
  const std::array<std::int64_t, 3> extents{count, q.tokens, q.width};
  const ln::sequence<1, T, Device> from{{x.data() + q.first * q.tokens * q.width, extents}, where, kept};
  const ln::sequence<1, T, Device> to{{dx.data(), extents}, where, kept};
  layer.forward(on, from, y.template view<2>({count, q.width}));
  layer.backward(on, ln::dynamic_view<2, const T, Device>{dy.data() + q.first * q.width, {{count, q.width}}}, to);
  return {{"y", y.read(on)}, {"dx", dx.read(on)}};
}

template <class T>
list<T> part(const list<T>& all, std::int64_t first, std::int64_t count) {
  return {all.begin() + first, all.begin() + first + count};
}

}  // namespace

TEST_CASE_TEMPLATE("patches on the GPU moves every number where the CPU does", T, float, double) {
  check_patches<4, 1, T>({3, 20, 2}, 3 * 5);
  check_patches<2, 2, T>({3, 6, 10, 5}, 3 * 3 * 5);
  check_patches<1, 2, T>({2, 3, 5, 1}, 2 * 3 * 5);
  check_patches<7, 2, T>({2, 14, 21, 7}, 2 * 2 * 3);  // a row of more columns than a block has threads
  check_patches<3, 3, T>({2, 3, 6, 9, 2}, 2 * 1 * 2 * 3);
  check_patches<2, 2, T>({0, 6, 10, 5}, 0);
}

TEST_CASE_TEMPLATE("mean_pooling on the GPU is the CPU's, alone and inside a batch", T, float, double) {
  const double tolerance = std::is_same_v<T, float> ? 1e-6 : 1e-14;
  for (const bool masked : {false, true}) {
    for (const pooling_question& q : {pooling_question{3, 7, 5, masked}, pooling_question{5, 49, 37, masked},
                                      pooling_question{2, 1031, 67, masked}, pooling_question{4, 1, 32, masked}}) {
      CAPTURE(masked);
      CAPTURE(q.tokens);
      const auto all = pooling_of<T, cuda>(q, q.batch);
      numbers::check_close(all, pooling_of<T, cpu>(q, q.batch), tolerance);
      numbers::check_same_bits(pooling_of<T, cuda>(q, q.batch), all);
      for (std::int64_t b = 0; b < q.batch; ++b) {
        pooling_question alone = q;
        alone.first = b;
        const auto one = pooling_of<T, cuda>(alone, 1);
        CHECK(numbers::same_bits(one[0].values, part(all[0].values, b * q.width, q.width)));
        CHECK(numbers::same_bits(one[1].values, part(all[1].values, b * q.tokens * q.width, q.tokens * q.width)));
      }
    }
  }
  pooling_of<T, cuda>({0, 3, 5, false}, 0);
  CHECK(numbers::same_bits(pooling_of<T, cuda>({2, 0, 3, false}, 2)[0].values, list<T>(6, T(0))));
}

TEST_CASE("layers without parameters name an argument in host memory") {
  ln::execution<cuda> on;
  list<float> on_host(3 * 6 * 10 * 2);
  array<float, cuda> there(on_host);
  using layer = ln::patches<2, 2, float, cuda>;
  const ln::dynamic_view<4, const float, cuda> images{there.data(), {{3, 6, 10, 2}}},
      wrong{on_host.data(), {{3, 6, 10, 2}}};
  CHECK(numbers::message_of<ln::device_error>([&] {
          layer{}.forward(on, wrong, there.view<2>({45, 8}));
        }).find("lightnet: patches::forward: images: ") == 0);
  CHECK(numbers::message_of<ln::device_error>([&] {
          layer{}.forward(on, images, {on_host.data(), {{45, 8}}});
        }).find("lightnet: patches::forward: y: ") == 0);
  using pooling = ln::mean_pooling<1, float, cuda>;
  const ln::sequence<1, float, cuda> x{{on_host.data(), {{3, 20, 6}}}, {{20}}};
  CHECK(numbers::message_of<ln::device_error>([&] {
          pooling{}.forward(on, x, there.view<2>({3, 6}));
        }).find("lightnet: mean_pooling::forward: x: ") == 0);
}
