// SPDX-License-Identifier: Apache-2.0
// The layers that only move and average numbers: patches and mean pooling.
#include <lightnet/layer/mean_pooling.hpp>
#include <lightnet/layer/patches.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <memory>

#include "../oracle/gradient.hpp"
#include "numbers.hpp"

namespace {

namespace ln = lightnet;
using numbers::list;

// Images with the axes of memory in the opposite order of the extents, the second one backwards, with room between.
template <int Dims>
struct images {
  static constexpr std::size_t axes = Dims + 2;
  std::array<std::int64_t, axes> extents{}, strides{};
  std::int64_t origin = 0;
  list<double> memory;

  images(const std::array<std::int64_t, axes>& shape, double first) : extents{shape} {
    std::int64_t size = 1;
    for (std::size_t axis = 0; axis < axes; ++axis) {
      strides[axis] = axis == 1 ? -size : size;
      if (axis == 1) origin = (extents[axis] - 1) * size;
      size *= extents[axis] + 1;
    }
    for (std::int64_t i = 0; i < size; ++i) memory.push_back(first + static_cast<double>(i));
  }
  ln::dynamic_view<Dims + 2, const double> view() const { return {memory.data() + origin, extents, strides}; }
  ln::dynamic_view<Dims + 2, double> view() { return {memory.data() + origin, extents, strides}; }

  // Calls visit(pixel, row, column) for each pixel and where it has to be.
  template <class View, class Visit>
  void each(const View& view, int side, const Visit& visit) const {
    std::int64_t pixels = 1;
    for (const std::int64_t n : extents) pixels *= n;
    for (std::int64_t i = 0; i < pixels; ++i) {
      std::array<std::int64_t, axes> at{};
      std::int64_t rest = i, offset = 0;
      for (std::size_t axis = axes; axis-- > 0; rest /= extents[axis]) {
        at[axis] = rest % extents[axis];
        offset += at[axis] * strides[axis];
      }
      std::int64_t row = at[0], column = 0;
      for (std::size_t axis = 1; axis <= Dims; ++axis) {
        row = row * (extents[axis] / side) + at[axis] / side;
        column = column * side + at[axis] % side;
      }
      visit(view.data()[offset], row, column * extents[Dims + 1] + at[Dims + 1]);
    }
  }
};

template <int Side, int Dims>
void check_patches(const std::array<std::int64_t, Dims + 2>& shape, std::int64_t rows) {
  using layer = ln::patches<Side, Dims, double>;
  ln::execution<ln::cpu> on(2);
  const images<Dims> from(shape, 1);
  const std::int64_t columns = layer::width(shape[Dims + 1]), gap = 2;
  list<double> y = numbers::unwritten(rows * (columns + gap));
  layer{}.forward(on, from.view(), {y.data(), {{rows, columns}}, {columns + gap, 1}});
  std::int64_t found = 0;
  from.each(from.view(), Side, [&](double pixel, std::int64_t row, std::int64_t column) {
    found += y[static_cast<std::size_t>(row * (columns + gap) + column)] == pixel ? 1 : 0;
  });
  CHECK(found == rows * columns);

  // Backward is the way back, and leaves what lies between the pixels alone.
  const list<double> dy = numbers::normal(rows * columns, 1);
  for (const bool adds : {false, true}) {
    images<Dims> to(shape, 1000), expected = to;
    if (adds) {
      layer{}.template backward<ln::write::add>(on, to.view(), {dy.data(), {{rows, columns}}});
    } else {
      layer{}.backward(on, to.view(), {dy.data(), {{rows, columns}}});
    }
    expected.each(expected.view(), Side, [&](double& pixel, std::int64_t row, std::int64_t column) {
      pixel = (adds ? pixel : 0) + dy[static_cast<std::size_t>(row * columns + column)];
    });
    CHECK(numbers::same_bits(to.memory, expected.memory));
  }
}

}  // namespace

TEST_CASE("patches cuts images of any strides and number of dimensions") {
  check_patches<4, 1>({3, 20, 2}, 3 * 5);
  check_patches<2, 2>({3, 6, 10, 5}, 3 * 3 * 5);
  check_patches<1, 2>({2, 3, 5, 1}, 2 * 3 * 5);
  check_patches<3, 3>({2, 3, 6, 9, 2}, 2 * 1 * 2 * 3);
  CHECK(ln::patches<2, 3>::width(5) == 40);
}

TEST_CASE("patches names what does not fit and writes nothing") {
  ln::execution<ln::cpu> on(1);
  const list<double> x(2 * 8 * 6 * 3);
  list<double> y = numbers::unwritten(2 * 2 * 3 * 24);
  const auto to = numbers::view_of<2>(y, {12, 24});
  CHECK(numbers::message_of<ln::shape_error>([&] {
          ln::patches<4, 2, double>{}.forward(on, numbers::view_of<4>(x, {2, 8, 6, 3}), to);
        }) == "lightnet: patches::forward: images: expected extents that are multiples of 4, got [2, 8, 6, 3]");
  CHECK(numbers::message_of<ln::shape_error>([&] {
          ln::patches<2, 2, double>{}.forward(on, numbers::view_of<4>(x, {2, 8, 6, 3}), to);
        }) == "lightnet: patches::forward: y: expected [24, 12] with dense rows, got [12, 24]");
  CHECK(numbers::message_of<ln::device_error>([&] {
          ln::patches<2, 2, double>{}.backward(on, {}, {x.data(), {{24, 12}}});
        }) == "lightnet: patches::backward: images: expected a view of memory, got a null pointer");
  for (const double a : y) CHECK(std::isnan(a));
}

TEST_CASE("mean_pooling is the mean of the tokens that are not masked") {
  const std::int64_t batch = 3, tokens = 7, width = 5;
  std::array<bool, 21> keep{};
  keep.fill(true);
  for (const std::size_t i : {1U, 4U, 9U}) keep[i] = false;
  std::fill(keep.begin() + 14, keep.end(), false);  // nothing is left of the last sequence
  list<double> x = numbers::normal(batch * tokens * width, 1);
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (!keep[i / 5]) x[i] = numbers::not_a_number;
  }
  const ln::grid<1> where{{tokens}};
  const ln::mean_pooling<1, double> layer;
  const auto forward = [&](const list<double>& from, bool masked, int threads) {
    ln::execution<ln::cpu> on(threads);
    list<double> y = numbers::unwritten(batch * width);
    ln::sequence<1, const double> s{numbers::view_of<3>(from, {batch, tokens, width}), where};
    if (masked) s.mask = {keep.data(), {{batch, tokens}}};
    layer.forward(on, s, numbers::view_of<2>(y, {batch, width}));
    return y;
  };
  const list<double> y = forward(x, true, 1);
  CHECK(numbers::same_bits(forward(x, true, 2), y));
  for (std::size_t b = 0; b < 3; ++b) {
    for (std::size_t i = 0; i < 5; ++i) {
      double sum = 0, count = 0;
      for (std::size_t t = 0; t < 7; ++t) {
        if (keep[b * 7 + t]) sum += x[(b * 7 + t) * 5 + i], count += 1;
      }
      CHECK(y[b * 5 + i] == doctest::Approx(count > 0 ? sum / count : 0).epsilon(1e-14));
    }
  }
  const list<double> all = numbers::normal(batch * tokens * width, 2);
  CHECK(forward(all, false, 1)[7] ==
        doctest::Approx((all[37] + all[42] + all[47] + all[52] + all[57] + all[62] + all[67]) / 7));

  ln::execution<ln::cpu> on(2);
  const list<double> dy = numbers::normal(batch * width, 3);
  list<double> dx = numbers::unwritten(batch * tokens * width);
  ln::sequence<1, double> to{numbers::view_of<3>(dx, {batch, tokens, width}), where, {keep.data(), {{batch, tokens}}}};
  layer.backward(on, numbers::view_of<2>(dy, {batch, width}), to);
  CHECK(oracle::check_gradient(
            "mean_pooling", [&](const list<double>& from) { return numbers::weighted_sum(forward(from, true, 1), dy); },
            x, dx) <= 1e-7);
  CHECK(numbers::message_of<ln::shape_error>([&] {
          layer.backward(on, numbers::view_of<2>(dy, {width, batch}), to);
        }) == "lightnet: mean_pooling::backward: dy: expected [3, 5] with dense rows, got [5, 3]");
  MESSAGE(oracle::gradient_report());
}
