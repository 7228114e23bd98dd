// SPDX-License-Identifier: Apache-2.0
#include "ask.hpp"
#include "cases.hpp"
#include "cases_cpu.hpp"

#define LIGHTNET_CASE(...) list.push_back(make<__VA_ARGS__, float>());
#define LIGHTNET_NO_CASE(...)

std::vector<cases::operation> cases::gated_and_plain_float() {
  std::vector<operation> list;
  LIGHTNET_CASES_GATED(LIGHTNET_CASE, LIGHTNET_CASE, LIGHTNET_NO_CASE)
  LIGHTNET_CASES_PLAIN(LIGHTNET_CASE, LIGHTNET_CASE, LIGHTNET_NO_CASE)
  return list;
}
