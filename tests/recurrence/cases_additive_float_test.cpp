// SPDX-License-Identifier: Apache-2.0
#include "ask.hpp"
#include "cases.hpp"
#include "cases_cpu.hpp"

#define LIGHTNET_CASE(...) list.push_back(make<__VA_ARGS__, float>());
#define LIGHTNET_NO_CASE(...)

std::vector<cases::operation> cases::additive_float() {
  std::vector<operation> list;
  LIGHTNET_CASES_ADDITIVE(LIGHTNET_CASE, LIGHTNET_CASE, LIGHTNET_NO_CASE)
  return list;
}
