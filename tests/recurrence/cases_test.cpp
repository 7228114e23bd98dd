// SPDX-License-Identifier: Apache-2.0
#include "cases.hpp"

#include <utility>

#include "cases_cpu.hpp"

namespace cases {

const std::vector<operation>& operations() {
  static const std::vector<operation> all = [] {
    std::vector<operation> list;
    for (auto* part : {additive_double, additive_float, global_double, global_float, gated_double, plain_double,
                       gated_and_plain_float, constant_double, scalar_double, constant_and_scalar_float, vector_double,
                       vector_float, bfloat16_cases, float16_cases}) {
      for (operation& one : part()) list.push_back(std::move(one));
    }
    return list;
  }();
  return all;
}

}  // namespace cases
