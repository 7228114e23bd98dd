// SPDX-License-Identifier: Apache-2.0
// encode on either device against its definition in long double.
#pragma once

#include <lightnet/core/tensor.hpp>
#include <lightnet/position/encode.hpp>

#include <doctest/doctest.h>

#include <cmath>

#include "../layer/device_numbers.cuh"

namespace encoding {

namespace ln = lightnet;
using numbers::list;
using neighbours = ln::basic_md_lrpe<ln::lrpe_form::rotate, ln::lrpe_pairs::neighbours>;

// Where the numbers of a sequence [B, N, H, d] lie: `room` more after each token.
struct layout {
  std::array<std::int64_t, 4> extents, strides;

  layout(const std::array<std::int64_t, 4>& shape, std::int64_t room, bool channels_last)
      : extents{shape}, strides{0, 0, channels_last ? shape[3] : 1, channels_last ? 1 : shape[2]} {
    strides[1] = shape[2] * shape[3] + room;
    strides[0] = shape[1] * strides[1];
  }
  std::int64_t size() const { return extents[0] * strides[0]; }
  std::size_t at(std::int64_t b, std::int64_t t, std::int64_t h, std::int64_t i) const {
    return static_cast<std::size_t>(b * strides[0] + t * strides[1] + h * strides[2] + i * strides[3]);
  }
};

// The encoding of heads of `keys` channels, with theta of its own for each head or the policy's for all.
template <class Position, int Dims, class T, class Device>
void check(const ln::grid<Dims>& where, std::int64_t heads, std::int64_t keys, bool own_theta, std::int64_t room = 0,
           bool channels_last = true) {
  using A = ln::accumulator<T>;
  constexpr std::int64_t batch = 2;
  CAPTURE(Position::name);
  CAPTURE(Dims);
  CAPTURE(keys);
  const std::int64_t share = Position::share(keys, Dims), angles = Position::angles(keys, Dims), tokens = where.size();
  const layout from({batch, tokens, heads, keys}, room, channels_last);
  const layout to({batch, tokens, heads, Position::width(keys)}, room, channels_last);
  const list<double> x = numbers::cast<double>(numbers::cast<T>(numbers::normal(from.size(), 1)));
  list<double> theta = numbers::cast<double>(numbers::cast<A>(numbers::normal(heads * share, 2)));
  numbers::array<T, Device> given(numbers::cast<T>(x)), made(numbers::unwritten<T>(to.size()));
  numbers::array<A, Device> rates(numbers::cast<A>(theta));
  ln::execution<Device> on;
  ln::encode_inputs<Dims, T, Device> in{.x = ln::dynamic_view<4, T, Device>{given.data(), from.extents, from.strides},
                                        .grid = where};
  if (own_theta) in.theta = rates.template view<2>({heads, share});
  ln::encode<Position, Dims, T>(on, in, {.y = ln::dynamic_view<4, T, Device>{made.data(), to.extents, to.strides}});
  const list<T> y = made.read(on);

  const double rounding = sizeof(T) == 8 ? 0x1p-47 : sizeof(T) == 4 ? 0x1p-21 : 0x1p-8;
  double worst = 0;
  const auto compare = [&](std::int64_t b, std::int64_t t, std::int64_t h, std::int64_t i, long double expected,
                           double size) {
    const auto difference = static_cast<double>(std::abs(static_cast<long double>(y[to.at(b, t, h, i)]) - expected));
    worst = std::isnan(difference) ? difference : std::max(worst, difference / (rounding * size + 1e-30));
  };
  for (std::int64_t item = 0; item < batch * tokens * heads; ++item) {
    const std::int64_t b = item / heads / tokens, t = item / heads % tokens, h = item % heads;
    const auto number = [&](std::int64_t i) { return x[from.at(b, t, h, i)]; };
    for (std::int64_t j = angles; Position::mixes_channels && j < keys - angles; ++j) {  // what does not turn
      const std::int64_t i = Position::turns_neighbours ? j + angles : j < keys / 2 ? j : j + angles;
      compare(b, t, h, i, number(i), 0);
    }
    for (std::int64_t j = 0; j < angles; ++j) {
      const auto axis = static_cast<std::size_t>(j / share);
      const long double rate =
          own_theta ? theta[static_cast<std::size_t>(h * share + j % share)] : Position::theta(j, keys, Dims);
      const long double angle =
          t < where.prefix ? 0 : static_cast<long double>(where.coordinates(t)[axis]) * static_cast<double>(rate);
      const long double c = std::cos(angle), s = std::sin(angle);
      if (!Position::mixes_channels) {
        compare(b, t, h, j, number(j) * c, std::abs(number(j)));
        compare(b, t, h, keys + j, number(j) * s, std::abs(number(j)));
      } else {
        const std::int64_t one = Position::turns_neighbours ? 2 * j : j;
        const std::int64_t two = Position::turns_neighbours ? 2 * j + 1 : j + keys / 2;
        const double size = std::abs(number(one)) + std::abs(number(two));
        compare(b, t, h, one, number(one) * c - number(two) * s, size);
        compare(b, t, h, two, number(one) * s + number(two) * c, size);
      }
    }
  }
  CHECK(worst <= 1);
}

template <class Position, class T, class Device>
void check_all() {
  // Whole words, and heads more than a thread takes.
  check<Position, 1, T, Device>({{23}}, 11, 32, false);
  check<Position, 2, T, Device>({{5, 7}}, 3, 48, true);
  check<Position, 2, T, Device>({{5, 7}, 2, {3, -4}}, 3, 64, false, 16);
  check<Position, 3, T, Device>({{3, 2, 5}}, 9, 32, false);
  // And what lies otherwise.
  check<Position, 2, T, Device>({{3, 5}}, 3, 13, true);
  check<Position, 3, T, Device>({{3, 2, 5}}, 2, 32, false, 3);
  check<Position, 1, T, Device>({{17}}, 3, 32, false, 0, false);
  check<Position, 2, T, Device>({{0, 5}}, 3, 32, false);
}

}  // namespace encoding
