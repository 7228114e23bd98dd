// SPDX-License-Identifier: Apache-2.0
// Sequences from one storage type to another on the GPU: the bits of the CPU, for any strides.
#include <lightnet/backend/convert.hpp>
#include <lightnet/core/head_sequence.hpp>

#include "../layer/device_numbers.cuh"

namespace {

namespace ln = lightnet;
using ln::cpu, ln::cuda;
using numbers::array, numbers::list;

// [B, n_1, n_2, H, d] whose target has the tokens of a grid scattered and the channels apart.
template <class To, class Device>
list<To> converted(bool dense) {
  ln::execution<Device> on;
  const std::array<std::int64_t, 5> extents{2, 3, 5, 7, 11};
  const std::int64_t size = 2 * 3 * 5 * 7 * 11, room = 2 * size;
  list<double> drawn = numbers::normal(size, 1, 3e3);
  drawn[3] = 1e9;  // more than float16 holds
  drawn[4] = 1e-7;
  drawn[5] = -std::numeric_limits<double>::infinity();
  drawn[6] = -0.0;
  array<float, Device> from(numbers::cast<float>(drawn));
  array<To, Device> to(list<To>(static_cast<std::size_t>(room), static_cast<To>(7.0F)));
  const std::array<std::int64_t, 5> apart{5 * 11 * 7 * 3 * 2, 5 * 7 * 11 * 2, 2, 5 * 11 * 2, 5 * 2};
  const ln::head_sequence<2, const float, Device> source = from.template view<5>(extents);
  const ln::head_sequence<2, To, Device> target =
      dense ? to.template view<5>(extents) : ln::dynamic_view<5, To, Device>{to.data(), extents, apart};
  ln::detail::convert_sequence<To, float>(on, source, target);
  return to.read(on);
}

}  // namespace

TEST_CASE_TEMPLATE("sequences change their type on the GPU as on the CPU", To, ln::bfloat16, ln::float16, float) {
  for (const bool dense : {false, true}) {
    CAPTURE(dense);
    const list<To> got = converted<To, cuda>(dense), expected = converted<To, cpu>(dense);
    CHECK(numbers::same_bits(got, expected));
    CHECK(numbers::same_bits(converted<To, cuda>(dense), got));
  }
}

TEST_CASE("a sequence of no tokens changes nothing") {
  ln::execution<cuda> on;
  ln::detail::convert_sequence<ln::bfloat16, float>(on, ln::head_sequence<1, const float, cuda>{},
                                                    ln::head_sequence<1, ln::bfloat16, cuda>{});
  on.synchronize();
}
