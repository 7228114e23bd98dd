// SPDX-License-Identifier: Apache-2.0
#include <lightnet/recurrence.hpp>

namespace ln = lightnet;

int main() {
  const ln::rank<4> keys({2, 5, 3, 4}), values({2, 5, 3, 6});  // [B, N, H, d] and [B, N, H, e]
  ln::tensor<ln::rank<4>, float> q(keys), k(keys), v(values), o(values);
  for (int i = 0; i < q.size(); ++i) q.data()[i] = 1;
  for (int i = 0; i < v.size(); ++i) v.data()[i] = 1;
  ln::scan<ln::additive, ln::causal>(q.view(), k.view(), v.view(), o.view());
  return o.data()[0] > 3.999F && o.data()[0] < 4.001F ? 0 : 1;  // 4 channels, each a mean of ones
}
