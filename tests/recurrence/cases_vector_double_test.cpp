// SPDX-License-Identifier: Apache-2.0
#include "ask.hpp"
#include "cases.hpp"
#include "cases_cpu.hpp"

#define LIGHTNET_CASE(...) list.push_back(make<__VA_ARGS__, double>());

std::vector<cases::operation> cases::vector_double() {
  std::vector<operation> list;
  LIGHTNET_CASES_VECTOR(LIGHTNET_CASE, LIGHTNET_CASE, LIGHTNET_CASE)
  return list;
}
