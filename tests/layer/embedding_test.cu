// SPDX-License-Identifier: Apache-2.0
// The embedding on the GPU: the CPU's rows, its sums, the same bits every time, and what it says of ids that are none.
#include <lightnet/layer/embedding.hpp>

#include "device_numbers.cuh"

namespace {

namespace ln = lightnet;
using ln::cpu, ln::cuda;
using numbers::array, numbers::list, numbers::outcomes;

// Some tokens come often, some never, and token 2 makes up a whole tile of the kernel and more.
list<std::int32_t> some_ids(std::int64_t rows, int vocabulary) {
  list<std::int32_t> ids;
  for (std::int64_t r = 0; r < rows; ++r) {
    ids.push_back(static_cast<std::int32_t>(r > 300 && r < 900 ? 2 : r * r % (vocabulary - 1)));
  }
  return ids;
}

template <int Vocabulary, int Width, class T, class Device>
outcomes<T> ask(std::int64_t rows) {
  using layer = ln::embedding<Vocabulary, Width, T, Device>;
  ln::execution<Device> on;
  const list<T> table = numbers::cast<T>(numbers::normal(layer::parameter_count, 1));
  const array<std::int32_t, Device> ids(some_ids(rows, Vocabulary));
  array<T, Device> params(table), x(numbers::unwritten<T>(rows * (Width + 3))),
      dx(numbers::cast<T>(numbers::normal(rows * (Width + 3), 2))),
      overwritten(numbers::unwritten<T>(layer::parameter_count)), added(table);
  const ln::dynamic_view<1, const std::int32_t, Device> ids_view{ids.data(), {{rows}}};
  const auto spread = [rows](array<T, Device>& memory) {
    return ln::dynamic_view<2, T, Device>{memory.data(), {{rows, Width}}, {Width + 3, 1}};
  };
  layer{}.forward(on, {params.data(), {}}, ids_view, spread(x));
  layer{}.backward(on, ids_view, spread(dx), {overwritten.data(), {}});
  layer{}.template backward<ln::write::add>(on, ids_view, spread(dx), {added.data(), {}});
  on.check();
  list<T> written = x.read(on);
  for (std::size_t i = 0; i < written.size(); ++i) {
    if (static_cast<std::int64_t>(i) % (Width + 3) < Width) continue;
    CHECK(std::isnan(static_cast<double>(written[i])));
    written[i] = T(0.0F);
  }
  return {{"x", written}, {"dparams", overwritten.read(on)}, {"dparams, added", added.read(on)}};
}

template <int Vocabulary, int Width, class T>
void check(std::int64_t rows, double tolerance) {
  CAPTURE(rows);
  const auto got = ask<Vocabulary, Width, T, cuda>(rows), expected = ask<Vocabulary, Width, T, cpu>(rows);
  CHECK(numbers::same_bits(got[0].values, expected[0].values));
  numbers::check_close(got, expected, tolerance);
  numbers::check_same_bits(ask<Vocabulary, Width, T, cuda>(rows), got);
}

}  // namespace

TEST_CASE("embedding on the GPU is the CPU's") {
  check<13, 69, double>(1037, 1e-14);
  check<13, 69, float>(1037, 1e-5);
  check<301, 1301, float>(53, 1e-5);  // more columns than a block takes
  check<13, 69, ln::bfloat16>(1037, 1e-2);
  check<13, 69, float>(0, 0);
}

TEST_CASE("embedding on the GPU tells of ids that are none") {
  using layer = ln::embedding<13, 5, float, cuda>;
  ln::execution<cuda> on;
  array<float, cuda> params(list<float>(65, 1)), x(numbers::unwritten<float>(15));
  const array<std::int32_t, cuda> ids(list<std::int32_t>{3, 13, -1});
  const ln::dynamic_view<1, const std::int32_t, cuda> ids_view{ids.data(), {{3}}};
  layer{}.forward(on, {params.data(), {}}, ids_view, x.view<2>({3, 5}));
  CHECK_THROWS_AS(on.check(), ln::value_error);
  CHECK(x.read(on) == list<float>{1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0});
  CHECK_NOTHROW(on.check());
}
