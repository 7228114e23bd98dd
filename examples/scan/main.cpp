// SPDX-License-Identifier: Apache-2.0

// The operator by itself, on memory of your own: the short form, the full form with named arguments, and a state that is
// handed from one call to the next.

#include <lightnet/core/random.hpp>
#include <lightnet/recurrence.hpp>

#include <cmath>
#include <cstdio>
#include <vector>

namespace ln = lightnet;

int main() {
  const std::int64_t batch = 2, tokens = 6, heads = 3, keys = 4, values = 5;
  std::vector<float> memory_q(batch * tokens * heads * keys), memory_k(memory_q.size());
  std::vector<float> memory_v(batch * tokens * heads * values), memory_o(memory_v.size());
  const ln::random_stream random{7};
  for (std::size_t i = 0; i < memory_q.size(); ++i) {
    memory_q[i] = static_cast<float>(random.uniform(i));
    memory_k[i] = static_cast<float>(random.normal(i));
  }
  for (std::size_t i = 0; i < memory_v.size(); ++i) memory_v[i] = static_cast<float>(random.normal(1000 + i));

  // Views on that memory, [B, N, H, d]; nothing is copied.
  const ln::dynamic_view<4, const float> q{memory_q.data(), {{batch, tokens, heads, keys}}};
  const ln::dynamic_view<4, const float> k{memory_k.data(), {{batch, tokens, heads, keys}}};
  const ln::dynamic_view<4, const float> v{memory_v.data(), {{batch, tokens, heads, values}}};
  const ln::dynamic_view<4, float> o{memory_o.data(), {{batch, tokens, heads, values}}};

  ln::scan<ln::additive, ln::causal>(q, k, v, o);
  const float whole = o(1, tokens - 1, 2, 0);
  std::printf("causal, whole:      o[1, 5, 2, 0] = %.6f\n", static_cast<double>(whole));

  // The same in two calls, the state of the first handed to the second.
  ln::execution<ln::cpu> execution;
  ln::state_tensors<ln::additive, float> first(batch, heads, keys, keys, values);
  ln::scan<ln::additive, ln::causal>(execution, {.q = q.slice(1, 0, 4), .k = k.slice(1, 0, 4), .v = v.slice(1, 0, 4)},
                                     {.o = o.slice(1, 0, 4), .state = first.view()});
  ln::scan<ln::additive, ln::causal>(
      execution,
      {.q = q.slice(1, 4, 2), .k = k.slice(1, 4, 2), .v = v.slice(1, 4, 2), .state = std::as_const(first).view()},
      {.o = o.slice(1, 4, 2)});
  const float split = o(1, tokens - 1, 2, 0);
  std::printf("causal, in two:     o[1, 5, 2, 0] = %.6f\n", static_cast<double>(split));

  // Every token sees all others, with positions, a mask and the final state: named, in any number.
  ln::tensor<ln::rank<2>, bool> keep({{batch, tokens}});
  for (std::int64_t t = 0; t < tokens; ++t) {
    for (std::int64_t b = 0; b < batch; ++b) keep.view()(b, t) = t != 3;
  }
  const ln::dynamic_view<2, const bool> mask = keep.view();
  ln::state_tensors<ln::additive, float> state(batch, heads, keys, ln::state_keys<ln::md_lrpe>(keys), values);
  const auto s = state.view();
  ln::scan<ln::additive, ln::global, ln::md_lrpe>(execution, {.q = q, .k = k, .v = v, .mask = mask},
                                                  {.o = o, .state = s});
  std::printf("global, masked:     o[1, 3, 2, 0] = %.6f\n", static_cast<double>(o(1, 3, 2, 0)));

  // What is wrong is said before anything is written.
  try {
    ln::scan<ln::additive, ln::causal>(q, k, v.slice(1, 0, 5), o);
  } catch (const ln::shape_error& error) {
    std::printf("%s\n", error.what());
    return std::abs(whole - split) < 1e-5F ? 0 : 1;
  }
  return 1;
}
