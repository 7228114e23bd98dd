// SPDX-License-Identifier: Apache-2.0
// Kernels that begin before those ahead of them have ended: what they compute is what they compute one after the other.
#include <lightnet/backend/cuda/gemm.cuh>
#include <lightnet/backend/cuda/graph.cuh>
#include <lightnet/backend/cuda/reduce.cuh>

#include "../few.hpp"
#include "layer/device_numbers.cuh"

namespace {

namespace ln = lightnet;
using ln::cuda;
using numbers::array, numbers::list;
using T = ln::bfloat16;
constexpr std::int64_t width = 1032;

struct square {
  LIGHTNET_HOST_DEVICE ln::detail::sums<float, 1> operator()(const T&, const T& x) const noexcept { return {{x * x}}; }
};
struct same {
  LIGHTNET_HOST_DEVICE float operator()(std::int64_t, const ln::detail::sums<float, 1>& sum) const noexcept {
    return std::sqrt(sum.values[0] / float(width));
  }
};
struct divide {
  LIGHTNET_HOST_DEVICE void operator()(const float& by, T& y, const T& x) const noexcept { y = static_cast<T>(x / by); }
};
struct twist {
  T* x;
  __device__ void operator()(std::int64_t i) const noexcept {
    if (i % 3 == 0) x[i] = static_cast<T>(-static_cast<float>(x[i]));
  }
};

// Every kernel reads what the one before it has written, and writes what the one before that has read.
struct chain {
  std::int64_t rows;
  array<T, cuda> w{numbers::cast<T>(numbers::normal(width * width, 1))};
  array<T, cuda> x{numbers::cast<T>(numbers::normal(rows * width, 2))}, y{numbers::unwritten<T>(rows * width)};

  template <class Between>
  void run(ln::execution<cuda>& on, const Between& between) {
    const auto to = x.view<2>({rows, width}), middle = y.view<2>({rows, width});
    const ln::dynamic_view<2, const T, cuda> from = to, made = middle;
    for (int i = 0; i < 20; ++i) {
      ln::detail::gemm<T>(on, from, {w.data(), {{width, width}}, {1, width}}, middle, false);
      between();
      ln::detail::reduce_map<float, 1>(on, rows, width, square{}, same{}, divide{}, to, made);
      between();
      ln::detail::map(on, rows, width, ln::detail::add_number{}, to, made);
      between();
      ln::detail::for_each(on, "test", rows * width, twist{to.data()});
      between();
      ln::detail::reduce_map<float, 1>(on, rows, width, square{}, same{}, divide{}, to, from);
      between();
    }
  }
};

}  // namespace

TEST_CASE("cuda launch_ahead: a chain of kernels gives what the same kernels give one after the other") {
  for (const std::int64_t rows : {1, 3, 700}) {
    CAPTURE(rows);
    const ln::cuda_stream stream;
    ln::execution<cuda> on{stream.get()};
    chain apart{rows}, together{rows}, promised{rows}, recorded{rows};
    apart.run(on, [&] { on.synchronize(); });
    const list<T> expected = apart.x.read(on);
    for (const T& value : expected) REQUIRE(std::isfinite(static_cast<float>(value)));
    together.run(on, [] {});
    CHECK(numbers::same_bits(together.x.read(on), expected));
    ln::captured_call call;
    call.capture(on, [&] { recorded.run(on, [] {}); });
    call.replay(on);
    CHECK(numbers::same_bits(recorded.x.read(on), expected));
    const ln::execution<cuda>::constant_weights promise{on};
    promised.run(on, [] {});
    CHECK(numbers::same_bits(promised.x.read(on), expected));
  }
}
