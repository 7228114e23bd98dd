// SPDX-License-Identifier: Apache-2.0
// Sums of many ones in bfloat16, which stay at 256 where the sum itself is in bfloat16.
#pragma once

#include <lightnet/backend/pooling.hpp>
#include <lightnet/backend/reduce.hpp>
#include <lightnet/backend/shards.hpp>

#include "device_numbers.cuh"

namespace numbers {

struct same_in_float {
  LIGHTNET_HOST_DEVICE float operator()(const ln::bfloat16& x) const noexcept { return x; }
};

template <class Device>
void check_sums_of_ones() {
  constexpr std::int64_t rows = 4096, columns = 5, few = 300;
  ln::execution<Device> on;
  const list<ln::bfloat16> all(rows * columns, ln::bfloat16(1.0F));
  array<ln::bfloat16, Device> ones{all}, summed{unwritten<ln::bfloat16>(columns)}, mean{summed}, parts{all},
      of_parts{summed};
  array<float, Device> total{unwritten<float>(columns)};
  const ln::dynamic_view<3, const ln::bfloat16, Device> tokens{ones.data(), {{1, rows, columns}}};
  ln::detail::reduce_columns(on, rows, columns, summed.data(), 1, same_in_float{},
                             ln::dynamic_view<2, const ln::bfloat16, Device>{ones.data(), {{rows, columns}}});
  ln::detail::pool_tokens<ln::bfloat16>(on, tokens, {}, mean.template view<2>({1, columns}));
  constexpr ln::bfloat16* nothing = nullptr;
  ln::detail::add_parts(on, parts.data(), few - 7, columns, false, total.data(), nothing);
  ln::detail::add_parts(on, parts.data(), 7, columns, true, total.data(), of_parts.data());
  CHECK(summed.read(on) == list<ln::bfloat16>(columns, ln::bfloat16(4096.0F)));
  CHECK(mean.read(on) == list<ln::bfloat16>(columns, ln::bfloat16(1.0F)));
  CHECK(of_parts.read(on) == list<ln::bfloat16>(columns, ln::bfloat16(300.0F)));
}

}  // namespace numbers
