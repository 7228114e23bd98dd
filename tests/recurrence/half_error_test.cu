// SPDX-License-Identifier: Apache-2.0
// The largest errors of the types of two bytes on CUDA beside those on the CPU, for the same questions. A CPU without
// matrix units rounds outputs and gradients alone.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "../oracle/recurrence.hpp"
#include "cases.hpp"
#include "cases_cpu.hpp"
#include "random_question.hpp"

namespace {

using namespace cases;

// The largest error of an array.
template <class Expected>
double largest_error(const numbers& got, const std::vector<Expected>& expected) {
  REQUIRE(got.size() == expected.size());
  double largest = 0;
  for (std::size_t n = 0; n < got.size(); ++n) {
    const double error = std::abs(got[n] - static_cast<double>(expected[n]));
    largest = std::max(largest, std::isnan(error) ? inf : error);
  }
  return largest;
}

}  // namespace

TEST_CASE("scan: types of two bytes are no worse than twice what they are on the CPU") {
  generator random(71);
  std::map<dtype, double> worst_o, worst_gradient;
  for (const std::vector<operation>& list : {bfloat16_cases(), float16_cases()}) {
    for (const operation& cpu : list) {
      const auto ours = std::find_if(operations().begin(), operations().end(),
                                     [&](const operation& op) { return op.name == cpu.name; });
      if (ours == operations().end()) continue;  // LIGHTNET_TEST_CASES leaves it out
      const operation& wide = find(cpu.name.substr(0, cpu.name.rfind(' ')) + " double");
      std::vector<std::int64_t> grid = {200};
      if (cpu.dims == 2) grid = {13, 15};
      if (cpu.dims == 3) grid = {5, 6, 7};
      if (cpu.dims == 4) grid = {3, 4, 3, 5};
      question x = random_question(
          cpu, random,
          {.logits = 3, .log_decays = -1, .keys = 64, .values = 64, .batch = 1, .heads = 2, .grid = grid, .prefix = 0});
      INFO(describe(*ours, x));
      const auto expected = oracle::naive_recurrence(x.p);
      const double o = largest_error(ours->forward(x).o, expected.o_long);
      const double cpu_o = largest_error(cpu.forward(x).o, expected.o_long);
      worst_o[cpu.type] = std::max(worst_o[cpu.type], o / cpu_o);
      CHECK(o <= 2 * cpu_o);

      incoming to = random_incoming(cpu, x, random);
      for (double& d : to.o) d = cpu.rounded(d);
      to.s.clear();
      to.z.clear();
      const gradients exact = wide.backward(x, to), gpu = ours->backward(x, to), of_cpu = cpu.backward(x, to);
      std::vector<numbers gradients::*> parts = {&gradients::q, &gradients::k, &gradients::v};
      if (logit_width(x.p) > 0) parts.push_back(&gradients::logits);  // else they are of heads, and not of two bytes
      for (const auto part : parts) {
        const double gradient = largest_error(gpu.*part, exact.*part);
        const double cpu_gradient = largest_error(of_cpu.*part, exact.*part);
        worst_gradient[cpu.type] = std::max(worst_gradient[cpu.type], gradient / cpu_gradient);
        // Those of bfloat16 cancel after their operands were rounded; gradient_test has what is promised of them.
        if (cpu.type == dtype::float16) CHECK(gradient <= 2 * cpu_gradient);
      }
    }
  }
  MESSAGE("the largest errors over the CPU's, at worst: bfloat16 o ", worst_o[dtype::bfloat16], ", gradients ",
          worst_gradient[dtype::bfloat16], "; float16 o ", worst_o[dtype::float16], ", gradients ",
          worst_gradient[dtype::float16]);
}
