// SPDX-License-Identifier: Apache-2.0
// encode, MD-LRPE by itself, on the CPU.
#include "encode.hpp"

#include <doctest/doctest.h>

namespace ln = lightnet;

TEST_CASE_TEMPLATE("encode is MD-LRPE on the CPU", T, float, double, ln::bfloat16, ln::float16) {
  encoding::check_all<ln::md_lrpe, T, ln::cpu>();
  encoding::check_all<ln::md_lrpe_rotate, T, ln::cpu>();
  encoding::check_all<encoding::neighbours, T, ln::cpu>();
}
