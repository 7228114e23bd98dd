// SPDX-License-Identifier: Apache-2.0
// The cosines and sines of MD-LRPE on the GPU, against angles in long double, and the bits they keep.
#include <lightnet/backend/angles.hpp>
#include <lightnet/position/md_lrpe.hpp>

#include "../layer/device_numbers.cuh"

namespace {

namespace ln = lightnet;
using ln::cpu, ln::cuda;
using numbers::array, numbers::list, numbers::outcomes;

template <int Dims>
struct angles_question {
  ln::grid<Dims> where;
  std::int64_t keys;
  std::int64_t heads;  // that have theta of their own; 0: theta is the encoding's
};

template <class Position, int Dims>
double rate(const angles_question<Dims>& q, std::int64_t h, std::int64_t j) {
  const std::int64_t share = Position::share(q.keys, Dims);
  return q.heads > 0 ? 0.7 + 0.01 * static_cast<double>(h * share + j % share) : Position::theta(j, q.keys, Dims);
}

template <class Position, int Dims, class T, class Device>
outcomes<T> angles_of(const angles_question<Dims>& q) {
  ln::execution<Device> on;
  const std::int64_t heads = std::max<std::int64_t>(q.heads, 1), tokens = q.where.size();
  const std::int64_t angles = Position::angles(q.keys, Dims), share = Position::share(q.keys, Dims);
  list<T> given(static_cast<std::size_t>(q.heads * share));
  for (std::size_t i = 0; i < given.size(); ++i) {
    const auto at = static_cast<std::int64_t>(i);
    given[i] = static_cast<T>(rate<Position>(q, at / share, at % share));
  }
  array<T, Device> theta(given), cosine(numbers::unwritten<T>(heads * tokens * angles)),
      sine(numbers::unwritten<T>(heads * tokens * angles)), coordinate(numbers::unwritten<T>(tokens * angles));
  ln::dynamic_view<2, const T, Device> rates;
  if (q.heads > 0) rates = theta.template view<2>({heads, share});
  ln::detail::encode_angles<Position, Dims, T>(
      on, q.where, q.keys, rates, cosine.template view<3>({heads, tokens, angles}),
      sine.template view<3>({heads, tokens, angles}), coordinate.template view<2>({tokens, angles}));
  return {{"cosine", cosine.read(on)}, {"sine", sine.read(on)}, {"coordinate", coordinate.read(on)}};
}

template <class Position, int Dims, class T>
void check_angles(const std::string& name, const angles_question<Dims>& q) {
  CAPTURE(name);
  CAPTURE(q.heads);
  const auto got = angles_of<Position, Dims, T, cuda>(q);
  numbers::check_same_bits(angles_of<Position, Dims, T, cuda>(q), got);
  const auto on_cpu = angles_of<Position, Dims, T, cpu>(q);
  CHECK(numbers::same_bits(got[2].values, on_cpu[2].values));
  const std::int64_t heads = std::max<std::int64_t>(q.heads, 1), tokens = q.where.size();
  const std::int64_t angles = Position::angles(q.keys, Dims), share = Position::share(q.keys, Dims);
  long double worst = 0;
  for (std::int64_t h = 0; h < heads; ++h) {
    for (std::int64_t t = 0; t < tokens; ++t) {
      for (std::int64_t j = 0; j < angles; ++j) {
        long double angle = 0;
        if (t >= q.where.prefix) {
          const double by = rate<Position>(q, h, j);
          angle = static_cast<long double>(q.where.coordinates(t)[static_cast<std::size_t>(j / share)]) *
                  static_cast<long double>(q.heads > 0 ? static_cast<double>(static_cast<T>(by)) : by);
        }
        const auto at = static_cast<std::size_t>((h * tokens + t) * angles + j);
        worst = std::max({worst, std::abs(std::cos(angle) - static_cast<long double>(got[0].values[at])),
                          std::abs(std::sin(angle) - static_cast<long double>(got[1].values[at]))});
      }
    }
  }
  CHECK(static_cast<double>(worst) <= (std::is_same_v<T, float> ? 4e-8 : 8e-12));
}

}  // namespace

TEST_CASE_TEMPLATE("the angles of MD-LRPE on the GPU are right far from the origin", T, float, double) {
  for (const std::int64_t heads : {0, 3}) {
    check_angles<ln::md_lrpe, 1, T>("1-D", {{{37}, 0, {65536 - 37}}, 13, heads});
    check_angles<ln::md_lrpe, 2, T>("2-D", {{{3, 5}, 2, {65530, -4}}, 7, heads});
    check_angles<ln::md_lrpe_rotate, 3, T>("3-D, rotated", {{{3, 5, 2}, 1, {7, 300, 65531}}, 23, heads});
    check_angles<ln::md_lrpe, 1, T>("more rates than one launch carries", {{{5}, 1, {11}}, 531, heads});
  }
}

TEST_CASE("the angles of no token are none") {
  for (const auto& outcome : angles_of<ln::md_lrpe, 2, float, cuda>({{{0, 5}, 0, {}}, 7, 0})) {
    CHECK(outcome.values.empty());
  }
}
