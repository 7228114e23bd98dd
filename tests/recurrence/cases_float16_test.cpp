// SPDX-License-Identifier: Apache-2.0
#include "ask.hpp"
#include "cases.hpp"
#include "cases_cpu.hpp"

#define LIGHTNET_CASE(...) list.push_back(make<__VA_ARGS__, ln::float16>());
#define LIGHTNET_NO_CASE(...)

std::vector<cases::operation> cases::float16_cases() {
  std::vector<operation> list;
  LIGHTNET_CASES_ALL(LIGHTNET_CASE, LIGHTNET_NO_CASE, LIGHTNET_NO_CASE)
  return list;
}
