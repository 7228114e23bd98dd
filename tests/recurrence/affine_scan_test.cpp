// SPDX-License-Identifier: Apache-2.0
// The element-wise affine scan against a plain loop: every axis of views of 1 to 4 dimensions, any strides.
#include <lightnet/recurrence/affine_scan.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <numeric>

#include "../layer/numbers.hpp"
#include "../oracle/gradient.hpp"

namespace {

namespace ln = lightnet;
using numbers::list;

enum class layout { dense, tangled };

// Elements of a view that are kept apart from what lies between them: dense, or with the axes in the opposite order,
// every second one walked backwards, and room after each row.
template <int Rank, class T = double>
struct array {
  using indices = std::array<std::int64_t, static_cast<std::size_t>(Rank)>;
  indices extents{};
  indices strides{};
  std::int64_t origin = 0;
  list<T> memory;

  array() = default;
  array(const indices& shape, layout how, const list<double>& values = {}) : extents{shape} {
    std::int64_t size = 1;
    for (std::size_t i = 0; i < Rank; ++i) {
      const std::size_t axis = how == layout::dense ? shape.size() - 1 - i : i;
      strides[axis] = size * (how == layout::tangled && i % 2 == 1 ? -1 : 1);
      if (strides[axis] < 0) origin += (shape[axis] - 1) * size;
      size *= shape[axis] + (how == layout::tangled ? 2 : 0);
    }
    origin = std::max<std::int64_t>(origin, 0);
    memory = numbers::unwritten<T>(size + origin + 1);
    for (std::size_t i = 0; i < values.size(); ++i)
      memory[place(static_cast<std::int64_t>(i))] = static_cast<T>(values[i]);
  }

  std::int64_t size() const {
    return std::accumulate(extents.begin(), extents.end(), std::int64_t{1}, [](auto a, auto b) { return a * b; });
  }
  // Where element `index`, counted in row-major order, lies.
  std::size_t place(std::int64_t index) const {
    std::int64_t at = origin;
    for (std::size_t axis = Rank; axis-- > 0;) {
      at += index % extents[axis] * strides[axis];
      index /= extents[axis];
    }
    return static_cast<std::size_t>(at);
  }
  list<double> values() const {
    list<double> all;
    for (std::int64_t i = 0; i < size(); ++i) all.push_back(static_cast<double>(memory[place(i)]));
    return all;
  }
  ln::dynamic_view<Rank, T> view() { return {memory.data() + origin, extents, strides}; }
  ln::dynamic_view<Rank, const T> view() const { return {memory.data() + origin, extents, strides}; }
};

template <int Rank>
struct question {
  using indices = std::array<std::int64_t, static_cast<std::size_t>(Rank)>;
  using ends = std::array<std::int64_t, static_cast<std::size_t>(Rank - 1)>;
  indices shape;
  std::size_t axis;
  layout how = layout::dense;
  bool shared = false;  // one decay for all places of the last axis that is not the scan's
  bool with_initial = true;
  int threads = 1;
  list<double> decay, x, initial;

  question(const indices& extents, std::size_t along, layout strides, bool share)
      : shape{extents}, axis{along}, how{strides}, shared{share} {
    std::int64_t size = 1;
    for (const std::int64_t n : shape) size *= n;
    decay = numbers::normal(size, 1, 0.8);  // signs of both kinds
    x = numbers::normal(size, 2);
    initial = numbers::normal(end_size(), 3);
    if (size > 2) decay[2] = 0;
    if (shared) {
      const std::int64_t step = stride(lane_axis());
      for (std::int64_t i = 0; i < size; ++i) {
        const std::int64_t first = i - i / step % shape[lane_axis()] * step;
        decay[static_cast<std::size_t>(i)] = decay[static_cast<std::size_t>(first)];
      }
    }
  }

  std::size_t lane_axis() const {
    const std::size_t last = shape.size() - 1;
    return axis == last && last > 0 ? last - 1 : last;
  }
  std::int64_t stride(std::size_t along) const {
    std::int64_t product = 1;
    for (std::size_t i = along + 1; i < Rank; ++i) product *= shape[i];
    return product;
  }
  ends end_shape() const {
    ends some{};
    for (std::size_t i = 0, j = 0; i < Rank; ++i) {
      if (i != axis) some[j++] = shape[i];
    }
    return some;
  }
  std::int64_t end_size() const {
    std::int64_t size = 1;
    for (const std::int64_t n : end_shape()) size *= n;
    return size;
  }

  // The arrays as the scan takes them.
  struct arrays {
    array<Rank> decay, x;
    array<Rank - 1> initial;
  };
  arrays inputs() const {
    arrays all{{shape, how, decay}, {shape, how, x}, {end_shape(), how, initial}};
    if (shared) all.decay.strides[lane_axis()] = 0;
    return all;
  }
  ln::affine_scan_inputs<Rank, double> views(const arrays& all) const {
    ln::affine_scan_inputs<Rank, double> in{.decay = all.decay.view(), .x = all.x.view(), .axis = axis};
    if (with_initial) in.initial = all.initial.view();
    return in;
  }

  struct result {
    list<double> h, last;
  };
  result naive() const {
    result to{numbers::unwritten(static_cast<std::int64_t>(x.size())),
              with_initial ? initial : list<double>(initial.size(), 0.0)};
    const std::int64_t step = stride(axis), length = shape[axis];
    for (std::int64_t line = 0; line < end_size(); ++line) {
      double& state = to.last[static_cast<std::size_t>(line)];
      for (std::int64_t i = 0; i < length; ++i) {
        const auto at = static_cast<std::size_t>((line / step * length + i) * step + line % step);
        state = decay[at] * state + x[at];
        to.h[at] = state;
      }
    }
    return to;
  }
  result forward() const {
    ln::execution<ln::cpu> on(threads);
    const arrays all = inputs();
    array<Rank> h{shape, how};
    array<Rank - 1> last{end_shape(), how};
    ln::affine_scan<Rank, double>(on, views(all), {.h = h.view(), .last = last.view()});
    return {h.values(), last.values()};
  }
  struct gradients {
    list<double> decay, x, initial;
  };
  gradients backward(const result& weights) const {
    ln::execution<ln::cpu> on(threads);
    const arrays all = inputs();
    const array<Rank> h{shape, how, forward().h}, dh{shape, how, weights.h};
    const array<Rank - 1> dlast{end_shape(), how, weights.last};
    array<Rank> ddecay{shape, how}, dx{shape, how};
    array<Rank - 1> dinitial{end_shape(), how};
    ln::affine_scan_backward<Rank, double>(on, views(all), h.view(), {.h = dh.view(), .last = dlast.view()},
                                           {.decay = ddecay.view(), .x = dx.view(), .initial = dinitial.view()});
    return {ddecay.values(), dx.values(), dinitial.values()};
  }
};

template <int Rank>
void check_values(const std::array<std::int64_t, static_cast<std::size_t>(Rank)>& shape) {
  for (std::size_t axis = 0; axis < Rank; ++axis) {
    for (const layout how : {layout::dense, layout::tangled}) {
      for (const bool shared : {false, Rank > 1}) {
        CAPTURE(axis);
        question<Rank> q(shape, axis, how, shared);
        for (const bool with_initial : {true, false}) {
          q.with_initial = with_initial;
          const auto got = q.forward(), expected = q.naive();
          CHECK(numbers::largest_difference(got.h, expected.h) <= 1e-13);
          CHECK(numbers::largest_difference(got.last, expected.last) <= 1e-13);
        }
      }
    }
  }
}

template <int Rank>
void check_gradients(const std::array<std::int64_t, static_cast<std::size_t>(Rank)>& shape) {
  for (std::size_t axis = 0; axis < Rank; ++axis) {
    question<Rank> q(shape, axis, axis % 2 == 0 ? layout::tangled : layout::dense, false);
    const typename question<Rank>::result weights{numbers::normal(static_cast<std::int64_t>(q.x.size()), 4),
                                                  numbers::normal(q.end_size(), 5)};
    const auto d = q.backward(weights);
    const auto loss = [&](list<double> question<Rank>::*input) {
      return [&, input](const list<double>& values) {
        question<Rank> other = q;
        other.*input = values;
        const auto got = other.forward();
        return numbers::weighted_sum(got.h, weights.h) + numbers::weighted_sum(got.last, weights.last);
      };
    };
    const std::string name = "affine_scan of rank " + std::to_string(Rank);
    const oracle::gradient_options some{.samples = 25};
    CHECK(oracle::check_gradient(name + " decay", loss(&question<Rank>::decay), q.decay, d.decay, some) <= 1e-7);
    CHECK(oracle::check_gradient(name + " x", loss(&question<Rank>::x), q.x, d.x, some) <= 1e-7);
    CHECK(oracle::check_gradient(name + " initial", loss(&question<Rank>::initial), q.initial, d.initial, some) <=
          1e-7);

    // A shared decay gives the gradients of its places, which the caller adds; threads change nothing.
    question<Rank> other(shape, axis, layout::dense, Rank > 1);
    const auto one = other.backward(weights);
    other.threads = 3;
    const auto three = other.backward(weights);
    CHECK(numbers::same_bits(one.decay, three.decay));
    CHECK(numbers::same_bits(one.x, three.x));
    CHECK(numbers::same_bits(one.initial, three.initial));
    question<Rank> apart = other;
    apart.shared = false;
    CHECK(numbers::largest_difference(one.decay, apart.backward(weights).decay) == 0);
  }
}

}  // namespace

TEST_CASE("affine_scan is the loop h = decay h + x along any axis of any view") {
  check_values<1>({7});
  check_values<2>({5, 19});
  check_values<3>({3, 5, 11});
  check_values<4>({2, 3, 13, 5});
}

TEST_CASE("affine_scan has the gradients of finite differences") {
  check_gradients<1>({7});
  check_gradients<2>({5, 11});
  check_gradients<3>({3, 4, 9});
  check_gradients<4>({2, 3, 5, 3});
  MESSAGE(oracle::gradient_report());
}

TEST_CASE("affine_scan of nothing gives the initial value and its gradient") {
  question<3> along({3, 0, 5}, 1, layout::dense, false);
  const auto got = along.forward();
  CHECK(got.h.empty());
  CHECK(numbers::same_bits(got.last, along.initial));
  const list<double> dlast = numbers::normal(15, 6);
  CHECK(numbers::same_bits(along.backward({{}, dlast}).initial, dlast));
  question<3> across({3, 4, 0}, 1, layout::dense, false);
  CHECK(across.forward().last.empty());
}

TEST_CASE("affine_scan in float may write over its input") {
  ln::execution<ln::cpu> on(2);
  const list<float> decay = numbers::cast<float>(numbers::normal(7 * 33, 1, 0.7));
  list<float> x = numbers::cast<float>(numbers::normal(7 * 33, 2)), h = numbers::unwritten<float>(7 * 33);
  const auto scan = [&](list<float>& to) {
    ln::affine_scan<2, float>(
        on, {.decay = numbers::view_of<2>(decay, {7, 33}), .x = numbers::view_of<2>(x, {7, 33}), .axis = 0},
        {.h = numbers::view_of<2>(to, {7, 33})});
  };
  scan(h);
  scan(x);
  CHECK(numbers::same_bits(x, h));
}

TEST_CASE("affine_scan names what does not fit and writes nothing") {
  ln::execution<ln::cpu> on(1);
  const list<double> a(12, 1.0);
  list<double> h = numbers::unwritten(12), last = numbers::unwritten(4);
  const auto four = numbers::view_of<2>(a, {3, 4}), other = numbers::view_of<2>(a, {4, 3});
  const ln::affine_scan_outputs<2, double> to{.h = numbers::view_of<2>(h, {3, 4}),
                                              .last = numbers::view_of<1>(last, {4})};
  const auto message = [&](const ln::affine_scan_inputs<2, double>& in, const ln::affine_scan_outputs<2, double>& out) {
    return numbers::message_of<ln::error>([&] { ln::affine_scan<2, double>(on, in, out); });
  };
  CHECK(message({.decay = other, .x = four}, to) ==
        "lightnet: affine_scan: decay: expected extents [3, 4], got [4, 3]");
  CHECK(message({.decay = four}, to) == "lightnet: affine_scan: x: expected a view of memory, got a null pointer");
  CHECK(message({.decay = four, .x = four, .axis = 2}, to) ==
        "lightnet: affine_scan: axis: expected less than 2, got 2");
  CHECK(message({.decay = four, .x = four, .axis = 1}, to) ==
        "lightnet: affine_scan: last: expected extents [3], got [4]");
  CHECK(message({.decay = four, .x = four, .initial = numbers::view_of<1>(a, {3})}, to) ==
        "lightnet: affine_scan: initial: expected extents [4], got [3]");
  CHECK(message({.decay = four, .x = four}, {}) ==
        "lightnet: affine_scan: h: expected a view of memory, got a null pointer");
  CHECK(numbers::message_of<ln::shape_error>([&] {
          ln::affine_scan_backward<2, double>(on, {.decay = four, .x = four}, four, {.h = four},
                                              {.x = numbers::view_of<2>(h, {4, 3})});
        }) == "lightnet: affine_scan_backward: gradients.x: expected extents [3, 4], got [4, 3]");
  for (const double value : h) CHECK(std::isnan(value));
  for (const double value : last) CHECK(std::isnan(value));
}
