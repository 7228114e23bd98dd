// SPDX-License-Identifier: Apache-2.0
// One token of many heads, whose kernel lies otherwise over the GPU than that of a few: the same bits.
#include <lightnet/backend/cuda/graph.cuh>
#include <lightnet/position/md_lrpe.hpp>
#include <lightnet/recurrence/additive.hpp>
#include <lightnet/recurrence/scan.hpp>
#include <lightnet/recurrence/vector_decay.hpp>

#include "layer/device_numbers.cuh"

namespace {

namespace ln = lightnet;
using ln::cuda;
using numbers::array, numbers::list;
constexpr std::int64_t heads = 2;

struct shape {
  std::int64_t keys, values;
};

// The outputs of the first sequence of `batch` equal ones, token after token, and its state.
template <class Recurrence, class T>
list<double> outputs(const shape& of, std::int64_t batch) {
  ln::execution<cuda> on;
  using number = ln::accumulator<T>;
  ln::state_tensors<Recurrence, T, cuda> state(batch, heads, of.keys, ln::state_keys<ln::md_lrpe>(of.keys), of.values);
  list<double> all;
  for (std::uint64_t token = 0; token < 5; ++token) {
    const auto sequences = [&](std::int64_t channels, std::uint64_t seed, double most) {
      const list<double> one = numbers::normal(heads * channels, seed + 10 * token);
      list<T> every;
      for (std::int64_t b = 0; b < batch; ++b) {
        for (const double x : one) every.push_back(static_cast<T>(std::min(x, most)));
      }
      return array<T, cuda>{every};
    };
    array<T, cuda> q = sequences(of.keys, 1, 9), k = sequences(of.keys, 2, 9), v = sequences(of.values, 3, 9);
    array<T, cuda> log_decay = sequences(of.keys, 4, 0), o{numbers::unwritten<T>(batch * heads * of.values)};
    ln::scan_inputs<Recurrence, 1, T, cuda> in{.q = q.template view<4>({batch, 1, heads, of.keys}),
                                               .v = v.template view<4>({batch, 1, heads, of.values})};
    if constexpr (Recurrence::kappa != ln::kappa_of::complement) in.k = k.template view<4>({batch, 1, heads, of.keys});
    if constexpr (Recurrence::logits == ln::logits_from::tokens) {
      in.log_decay = log_decay.template view<4>({batch, 1, heads, of.keys});
    }
    ln::scan_step<Recurrence, ln::md_lrpe, 1, T>(
        on, in, {.o = o.template view<4>({batch, 1, heads, of.values}), .state = state.view()});
    const list<T> got = o.read(on);
    for (std::int64_t i = 0; i < heads * of.values; ++i) {
      all.push_back(static_cast<double>(got[static_cast<std::size_t>(i)]));
      REQUIRE(std::isfinite(all.back()));
    }
  }
  on.check();
  const auto sum = state.view().sum;
  list<number> kept(static_cast<std::size_t>(sum.extent(1) * sum.extent(2) * sum.extent(3)));
  cuda::copy(kept.data(), sum.data(), kept.size() * sizeof(number));
  all.insert(all.end(), kept.begin(), kept.end());
  return all;
}

}  // namespace

TEST_CASE("cuda step: one sequence has the same bits as in a batch") {
  for (const shape& of : {shape{128, 128}, {20, 36}, {64, 200}, {130, 16}, {3, 4}}) {
    CAPTURE(of.keys);
    CAPTURE(of.values);
    CHECK(numbers::same_bits(outputs<ln::additive, ln::bfloat16>(of, 1), outputs<ln::additive, ln::bfloat16>(of, 150)));
    CHECK(numbers::same_bits(outputs<ln::hgrn2, float>(of, 1), outputs<ln::hgrn2, float>(of, 150)));
  }
}
