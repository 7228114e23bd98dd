// SPDX-License-Identifier: Apache-2.0
// Products that make their left rows and go on with what they give, against the same one after the other.
#pragma once

#include <lightnet/layer/gate.hpp>
#include <lightnet/layer/linear.hpp>

#include "device_numbers.cuh"

namespace products {

namespace ln = lightnet;
using numbers::array, numbers::list;

template <class T>
struct gate {
  LIGHTNET_HOST_DEVICE void operator()(T& to, const T& x) const noexcept {
    to = static_cast<T>(ln::silu<ln::accumulator<T>>(x));
  }
  LIGHTNET_HOST_DEVICE void operator()(T& to, const T& x, const T& y) const noexcept {
    to = static_cast<T>(ln::silu<ln::accumulator<T>>(x) * y);
  }
};

// Out and Width are those of the weights, which begin `offset` numbers after an address that is even.
template <class Device, class T, int Width, int Groups, int Out>
struct question {
  using norm = ln::rms_norm<Width, Groups, T, Device>;
  using norm_gate = ln::norm_gate<ln::gate_form::norm_then_gate, Width, Groups, T, Device>;
  using matrix = ln::dynamic_view<2, T, Device>;
  using constant = ln::dynamic_view<2, const T, Device>;

  ln::execution<Device>& on;
  std::int64_t rows, offset;
  array<T, Device> x{random(rows * Width, 1)}, u{random(rows * Width, 2)}, g{random(Width, 3)};
  array<T, Device> w{random(std::int64_t{Out} * Width + offset, 4)}, sum{random(rows * Out, 5)};
  array<T, Device> made{numbers::unwritten<T>(rows * Width)}, c{numbers::unwritten<T>(rows * Out)};

  static list<T> random(std::int64_t count, std::uint64_t seed) {
    return numbers::cast<T>(numbers::normal(count, seed));
  }
  matrix left(array<T, Device>& of) const { return of.template view<2>({rows, Width}); }
  matrix right(array<T, Device>& of) const { return of.template view<2>({rows, Out}); }
  constant weights() const { return {w.data() + offset, {{Width, Out}}, {1, Width}}; }

  // C of a product that does `then`, and whether one kernel did all.
  template <class Rows, class Then>
  list<T> ask(const Rows& a, const Then& then, bool in_one) {
    CHECK(ln::detail::one_kernel_product(on, a, weights(), right(c), then) == in_one);
    ln::detail::product_of(on, a, weights(), right(c), then);
    return c.read(on);
  }

  // Rows that are made against those in memory; also with numbers that are added.
  template <class Rows>
  void check_rows(const Rows& a, bool in_one) {
    const ln::detail::plus_matrix<T, Device> none, plus{right(sum)};
    const list<T> got = ask(a, none, in_one), got_sum = ask(a, plus, in_one), start = sum.read(on);
    const constant in_memory = ln::detail::write_rows(on, a);
    for (const T& number : made.read(on)) REQUIRE(std::isfinite(static_cast<double>(number)));
    ln::detail::gemm<T>(on, in_memory, weights(), right(c), false);
    same(c.read(on), got);
    if (in_one) {
      c.write(start);
      ln::detail::gemm<T>(on, in_memory, weights(), right(c), true);
    } else {
      ln::detail::map(on, rows, Out, ln::detail::add_number{}, right(c), constant{right(sum)});
    }
    same(c.read(on), got_sum);
  }

  template <int Parts>
  void check_map(bool in_one) {
    constexpr std::int64_t width = Parts == 1 ? (Out + 1) / 2 : Out / 2;
    array<T, Device> of_one{numbers::unwritten<T>(rows * width)}, apart{numbers::unwritten<T>(rows * width)};
    const auto view = [&](array<T, Device>& of) { return of.template view<2>({rows, width}); };
    const constant from = left(x);
    const list<T> got = ask(from, ln::detail::then_map<Parts>(gate<T>{}, view(of_one)), in_one);
    const constant product = right(c);
    if constexpr (Parts == 1) {
      ln::detail::map(on, rows, width, gate<T>{}, view(apart), product.slice(1, 0, width));
    } else {
      ln::detail::map(on, rows, width, gate<T>{}, view(apart), product.slice(1, 0, width),
                      product.slice(1, width, width));
    }
    same(of_one.read(on), apart.read(on));
    ln::detail::gemm<T>(on, from, weights(), right(c), false);
    same(c.read(on), got);
  }

  void check(bool in_one) {
    CAPTURE(Width);
    CAPTURE(Out);
    CAPTURE(rows);
    CAPTURE(offset);
    check_rows(norm{}.rows({g.data(), {}}, left(x), left(made)), in_one);
    check_rows(norm_gate{}.rows(on, {g.data(), {}}, left(x), left(u), left(made)), in_one);
    check_map<1>(in_one);
    if constexpr (Out % 2 == 0) check_map<2>(in_one && Out % 4 == 0);
  }

  // Bits, but that the squares of numbers of four bytes may be rounded before they are added, or not.
  static void same(const list<T>& got, const list<T>& expected) {
    if constexpr (sizeof(T) == 2) {
      CHECK(numbers::same_bits(got, expected));
    } else {
      const double most = 64 * static_cast<double>(std::numeric_limits<T>::epsilon()) * std::sqrt(double{Width});
      CHECK(numbers::largest_difference(numbers::cast<double>(got), numbers::cast<double>(expected)) <= most);
    }
  }
};

template <int Width, int Groups, int Out, class T, class Device>
void check(ln::execution<Device>& on, std::int64_t rows, bool in_one, std::int64_t offset = 0) {
  question<Device, T, Width, Groups, Out>{on, rows, offset}.check(in_one);
}

}  // namespace products
