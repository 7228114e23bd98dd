// SPDX-License-Identifier: Apache-2.0
// The random numbers of the GPU are those of the CPU: uniform ones bit for bit, normal ones within 2 ulp.
#include <lightnet/backend/random.hpp>

#include "layer/device_numbers.cuh"

namespace {

namespace ln = lightnet;
using ln::cpu, ln::cuda;
using numbers::array, numbers::list;

template <class T, class Device>
list<T> drawn(bool normal, std::uint64_t first, std::int64_t count, std::int64_t stride) {
  ln::execution<Device> on;
  array<T, Device> to{numbers::unwritten<T>(count * stride)};
  const ln::dynamic_view<1, T, Device> places{to.data(), {{count}}, {stride}};
  const ln::random_stream stream{0x123456789ABCDEF, 0xFFFFFFFF00000002};
  if (normal) {
    ln::fill_normal(on, stream, first, places);
  } else {
    ln::fill_uniform(on, stream, first, places);
  }
  return to.read(on);
}

template <class T>
double ulps(const list<T>& got, const list<T>& expected) {
  double worst = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (std::isnan(got[i]) && std::isnan(expected[i])) continue;
    const T magnitude = std::abs(expected[i]);
    const auto step = static_cast<double>(std::nextafter(magnitude, std::numeric_limits<T>::infinity()) - magnitude);
    const double error = std::abs(static_cast<double>(got[i]) - static_cast<double>(expected[i])) / step;
    worst = std::isnan(error) ? std::numeric_limits<double>::infinity() : std::max(worst, error);
  }
  return worst;
}

template <class T>
void check() {
  for (const std::uint64_t first : {std::uint64_t{0}, std::uint64_t{0x3FFFFFFFD}, ~std::uint64_t{0} - 1000}) {
    for (const std::int64_t stride : {1, 3}) {
      CAPTURE(first);
      CAPTURE(stride);
      CHECK(
          numbers::same_bits(drawn<T, cuda>(false, first, 50021, stride), drawn<T, cpu>(false, first, 50021, stride)));
      const double worst = ulps(drawn<T, cuda>(true, first, 50021, stride), drawn<T, cpu>(true, first, 50021, stride));
      CAPTURE(worst);
      CHECK(worst <= 2);
    }
  }
}

}  // namespace

TEST_CASE("cuda random: float") { check<float>(); }
TEST_CASE("cuda random: double") { check<double>(); }

namespace {
struct draw_bits {
  std::uint32_t* to;
  __device__ void operator()(std::int64_t i) const {
    const ln::random_stream stream{42, 1};
    to[2 * i] = stream.bits(static_cast<std::uint64_t>(i));
    to[2 * i + 1] = stream.below(12345, static_cast<std::uint64_t>(i));
  }
};
}  // namespace

TEST_CASE("cuda random: integers, bit for bit") {
  ln::execution<cuda> on;
  array<std::uint32_t, cuda> to{list<std::uint32_t>(2 * 5003)};
  ln::detail::for_each(on, "test", 5003, draw_bits{to.data()});
  const list<std::uint32_t> got = to.read(on);
  const ln::random_stream stream{42, 1};
  for (std::uint64_t i = 0; i < 5003; ++i) {
    REQUIRE(got[2 * i] == stream.bits(i));
    REQUIRE(got[2 * i + 1] == stream.below(12345, i));
  }
}
