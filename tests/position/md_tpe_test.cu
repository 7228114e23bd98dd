// SPDX-License-Identifier: Apache-2.0
// MD-TPE on the GPU: the values and gradients of the CPU in double, in every type, and the same bits.
#include "md_tpe.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <utility>

#include "../layer/device_numbers.cuh"

namespace {

namespace ln = lightnet;
using numbers::list;

template <class T>
struct answer {
  list<T> y, dx, dparameters;
};

// A question on the GPU in a type T: its numbers are those of `q`, which T must hold.
template <class T, ln::write Write = ln::write::overwrite, int Width, int Modes, bool BothWays, int Dims>
answer<T> ask(const tpe::question<Width, Modes, BothWays, Dims, double>& q, const list<double>& dy,
              const list<double>& start = {}) {
  using layer = ln::md_tpe<Width, Modes, BothWays, Dims, T, ln::cuda>;
  using device_array = numbers::array<T, ln::cuda>;
  ln::execution<ln::cuda> on;
  const std::int64_t size = q.p.batch * q.tokens() * Width;
  device_array x(numbers::cast<T>(q.p.x)), parameters(numbers::cast<T>(numbers::cast<double>(q.parameters())));
  device_array incoming(numbers::cast<T>(dy)), y(numbers::unwritten<T>(size));
  device_array dx(start.empty() ? numbers::unwritten<T>(size) : numbers::cast<T>(start));
  device_array dparameters(numbers::unwritten<T>(layer::parameter_count));
  const auto mask = numbers::mask_of<ln::cuda>(
      q.p.batch, q.tokens(), [&](std::int64_t i) { return !q.keep || q.keep[static_cast<std::size_t>(i)]; });
  const auto sequence_of = [&](device_array& values) -> ln::sequence<Dims, T, ln::cuda> {
    ln::dynamic_view<2, const bool, ln::cuda> keep;
    if (q.keep) keep = mask.view();
    return {values.template view<3>({q.p.batch, q.tokens(), Width}), q.where, keep};
  };
  layer{}.forward(on, {parameters.data(), {}}, sequence_of(x), sequence_of(y));
  layer{}.template backward<Write>(on, {parameters.data(), {}}, sequence_of(x), sequence_of(incoming), sequence_of(dx),
                                   {dparameters.data(), {}});
  return {y.read(on), dx.read(on), dparameters.read(on)};
}

// The largest difference, as a part of the largest number.
template <class T>
double relative(const list<T>& got, const list<double>& expected) {
  double largest = 1e-30;
  for (const double x : expected) largest = std::max(largest, std::abs(x));
  return numbers::largest_difference(numbers::cast<double>(got), expected) / largest;
}

// The numbers of a question and its gradients in T against those of the CPU in double.
template <class T, int Width, int Modes, bool BothWays, int Dims>
void check(tpe::question<Width, Modes, BothWays, Dims, double> q) {
  CAPTURE(Width);
  CAPTURE(Modes);
  CAPTURE(BothWays);
  CAPTURE(Dims);
  CAPTURE(q.tokens());
  for (list<double>* each : {&q.p.x, &q.p.gamma, &q.p.b}) *each = numbers::cast<double>(numbers::cast<T>(*each));
  const std::int64_t size = q.p.batch * q.tokens() * Width;
  list<double> dy = numbers::cast<double>(numbers::cast<T>(numbers::normal(size, 77)));
  for (std::size_t i = 0; i < dy.size(); ++i) {
    if (!q.p.mask.empty() && q.p.mask[i / static_cast<std::size_t>(Width)] == 0) dy[i] = numbers::not_a_number;
  }
  const list<double> start = numbers::cast<double>(numbers::cast<T>(numbers::normal(size, 78)));
  const double tolerance = std::is_same_v<T, double> ? 1e-11 : std::is_same_v<T, float> ? 1e-5 : 0x1p-8;
  const auto d = q.backward(dy);
  const auto got = ask<T>(q, dy);
  CHECK(relative(got.y, q.forward()) <= tolerance);
  CHECK(relative(got.dx, d.x) <= tolerance);
  const auto part = [](const auto& all, bool gains) {
    constexpr std::ptrdiff_t gammas = std::ptrdiff_t{Dims} * Modes;
    const auto parameters = numbers::cast<double>(all);
    return gains ? list<double>(parameters.begin() + gammas, parameters.end())
                 : list<double>(parameters.begin(), parameters.begin() + gammas);
  };
  CHECK(relative(part(got.dparameters, false), part(d.parameters, false)) <= 4 * tolerance);
  CHECK(relative(part(got.dparameters, true), part(d.parameters, true)) <= 4 * tolerance);

  const auto added = ask<T, ln::write::add>(q, dy, start);
  CHECK(relative(added.dx, q.template backward<ln::write::add>(dy, start).x) <= tolerance);
  CHECK(numbers::same_bits(added.dparameters, got.dparameters));
  const auto again = ask<T>(q, dy);
  CHECK(numbers::same_bits(again.y, got.y));
  CHECK(numbers::same_bits(again.dx, got.dx));
  CHECK(numbers::same_bits(again.dparameters, got.dparameters));
}

}  // namespace

TEST_CASE_TEMPLATE("MD-TPE on the GPU is that of the CPU", T, double, float, ln::bfloat16) {
  using one_mode = tpe::question<3, 1, true, 1, double>;
  check<T>(one_mode({23}, 2, 0, false));
  check<T>(one_mode({71}, 2, 3, true));
  using wide = tpe::question<37, 9, true, 2, double>;
  check<T>(wide({{37, 2}}, 2, 0, false));
  check<T>(wide({{3, 35}}, 19, 1, true));
  using three_modes = tpe::question<11, 3, false, 2, double>;
  check<T>(three_modes({{1, 1}}, 1, 0, false));
  check<T>(three_modes({{5, 9}}, 3, 2, true));
  using sixteen_modes = tpe::question<5, 16, true, 3, double>;
  check<T>(sixteen_modes({{4, 2, 3}}, 1, 1, true));
}

TEST_CASE("MD-TPE on the GPU of small images of bfloat16 is that of the CPU") {
  using image = tpe::question<16, 16, false, 2, double>;
  for (const auto& extents : {std::array<std::int64_t, 2>{64, 64}, {1, 1}, {1, 64}, {17, 1}, {16, 48}, {65, 3}}) {
    check<ln::bfloat16>(image(extents, 2, 0, false));
  }
  using three_groups = tpe::question<24, 5, false, 2, double>;
  check<ln::bfloat16>(three_groups({{37, 50}}, 3, 2, true));
  check<ln::bfloat16>(three_groups({{9, 33}}, 1, 1, false));
  image slow({{64, 61}}, 1, 0, false);
  for (double& gamma : slow.p.gamma) gamma = -7 - std::abs(gamma);
  check<ln::bfloat16>(std::move(slow));
}

TEST_CASE("MD-TPE on the GPU: what is not finite in an image reaches the tokens after it on its lines and no other") {
  constexpr std::int64_t rows = 20, columns = 40, width = 8, row = 7, column = 21;
  using image = tpe::question<width, 4, false, 2, double>;
  image q({{rows, columns}}, 2, 1, false);
  for (list<double>* each : {&q.p.x, &q.p.gamma, &q.p.b}) {
    *each = numbers::cast<double>(numbers::cast<ln::bfloat16>(*each));
  }
  const auto finite = numbers::cast<double>(ask<ln::bfloat16>(q, q.p.x).y);
  const auto back = numbers::cast<double>(ask<ln::bfloat16>(q, q.p.x).dx);
  for (const double bad : {static_cast<double>(numbers::not_a_number), HUGE_VAL}) {
    CAPTURE(bad);
    constexpr std::size_t at = (1 + row * columns + column) * width + 2;
    image other({{rows, columns}}, 2, 1, false);
    other.p = q.p;
    other.p.x[at] = bad;
    const auto got = ask<ln::bfloat16>(other, other.p.x);
    const auto y = numbers::cast<double>(got.y), dx = numbers::cast<double>(got.dx);
    double largest = 0;
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < y.size(); ++i) {
      const std::int64_t t = static_cast<std::int64_t>(i) / width % (1 + rows * columns) - 1;
      const std::int64_t r = t / columns, c = t % columns;
      const bool same_channel = i / width / (1 + rows * columns) == 0 && i % width == at % width && t >= 0;
      const bool after = same_channel && ((r == row && c >= column) || (c == column && r >= row));
      const bool before = same_channel && ((r == row && c <= column) || (c == column && r <= row));
      wrong += std::isfinite(y[i]) == after ? 1 : 0;
      wrong += std::isfinite(dx[i]) == before ? 1 : 0;
      if (!after) largest = std::max(largest, std::abs(y[i] - finite[i]) / (1 + std::abs(finite[i])));
      if (!before) largest = std::max(largest, std::abs(dx[i] - back[i]) / (1 + std::abs(back[i])));
    }
    CHECK(wrong == 0);
    CHECK(largest <= 0x1p-7);
  }
}

TEST_CASE_TEMPLATE("MD-TPE on the GPU carries its states along lines of several parts", T, double, float) {
  using line = tpe::question<5, 16, false, 1, double>;
  for (const std::int64_t tokens : {255, 256, 257, 512, 513, 1301}) check<T>(line({tokens}, 2, 0, false));
  check<T>(line({777}, 2, 3, true));
  using both_ways = tpe::question<3, 5, true, 2, double>;
  check<T>(both_ways({{3, 601}}, 2, 2, true));
  check<T>(both_ways({{601, 3}}, 1, 0, false));
  // Decays near one, which a long line shows.
  line slow({3001}, 1, 0, false);
  for (double& gamma : slow.p.gamma) gamma = -7 - std::abs(gamma);
  check<T>(std::move(slow));
}

TEST_CASE("MD-TPE on the GPU gives the same bits alone and in a batch") {
  const auto compare = [](const auto& q) {
    const std::int64_t size = q.tokens() * q.p.width;
    const list<double> dy = numbers::cast<double>(numbers::cast<float>(numbers::normal(q.p.batch * size, 9)));
    const auto all = ask<float>(q, dy);
    for (const std::int64_t b : {std::int64_t{0}, std::int64_t{17}}) {
      const auto one = ask<float>(q.alone(b), list<double>(dy.begin() + b * size, dy.begin() + (b + 1) * size));
      CHECK(numbers::same_bits(one.y, list<float>(all.y.begin() + b * size, all.y.begin() + (b + 1) * size)));
      CHECK(numbers::same_bits(one.dx, list<float>(all.dx.begin() + b * size, all.dx.begin() + (b + 1) * size)));
    }
  };
  compare(tpe::question<11, 3, false, 2, double>({{5, 9}}, 35, 2, true));
  compare(tpe::question<7, 16, true, 1, double>({601}, 19, 0, true));
}

TEST_CASE("MD-TPE on the GPU of nothing gives nothing, and gradients of zero") {
  const auto none = ask<float>(tpe::question<11, 3, true, 2, double>({{5, 9}}, 0, 0, false), {});
  CHECK(none.y.empty());
  CHECK(none.dparameters == list<float>(none.dparameters.size(), 0.0F));
  // Only a prefix.
  const tpe::question<11, 3, true, 2, double> prefix({{0, 9}}, 2, 3, false);
  const auto passed = ask<double>(prefix, prefix.p.x);
  CHECK(numbers::same_bits(passed.y, prefix.p.x));
  CHECK(numbers::same_bits(passed.dx, prefix.p.x));
  CHECK(passed.dparameters == list<double>(passed.dparameters.size(), 0.0));
}

TEST_CASE("MD-TPE on the GPU refuses host memory and other extents") {
  using layer = ln::md_tpe<3, 2, false, 1, float, ln::cuda>;
  ln::execution<ln::cuda> on;
  list<float> here(60);
  numbers::array<float, ln::cuda> there(here), parameters(list<float>(layer::parameter_count, 0.0F));
  const auto of = [](float* data, std::int64_t width) -> ln::sequence<1, float, ln::cuda> {
    return {ln::dynamic_view<3, float, ln::cuda>{data, {{2, 5, width}}}, {{5}, 0, {}}};
  };
  const layer::parameters given{parameters.data(), {}};
  CHECK_THROWS_AS(layer{}.forward(on, given, of(here.data(), 3), of(there.data(), 3)), ln::device_error);
  CHECK_THROWS_AS(layer{}.forward(on, given, of(there.data(), 3), of(there.data(), 4)), ln::shape_error);
  CHECK_THROWS_AS(layer{}.forward(on, {}, of(there.data(), 3), of(there.data(), 3)), ln::device_error);
}
