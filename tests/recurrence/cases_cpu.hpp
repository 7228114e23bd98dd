// SPDX-License-Identifier: Apache-2.0
// The list of cases on the CPU.
#pragma once

#include <vector>

#include "question.hpp"

namespace cases {

// Each is made in a file of its own, cases_*_test.cpp, so that all cores share the work.
std::vector<operation> additive_double();
std::vector<operation> additive_float();
std::vector<operation> global_double();
std::vector<operation> global_float();
std::vector<operation> gated_double();
std::vector<operation> plain_double();
std::vector<operation> gated_and_plain_float();
std::vector<operation> constant_double();
std::vector<operation> scalar_double();
std::vector<operation> constant_and_scalar_float();
std::vector<operation> vector_double();
std::vector<operation> vector_float();
std::vector<operation> bfloat16_cases();
std::vector<operation> float16_cases();

}  // namespace cases
