// SPDX-License-Identifier: Apache-2.0
// The errors of the types of two bytes on CUDA beside those on the CPU, for the same questions. A CPU without matrix units
// rounds outputs and gradients alone; CUDA's matrix units read operands that are rounded, too.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <ostream>
#include <string>
#include <vector>

#include "../oracle/recurrence.hpp"
#include "cases.hpp"
#include "cases_cpu.hpp"
#include "random_question.hpp"

namespace {

using namespace cases;

struct errors {
  double mean = 0, largest = 0;  // root mean square

  template <class Expected>
  errors(const numbers& got, const std::vector<Expected>& expected) {
    REQUIRE(got.size() == expected.size());
    for (std::size_t n = 0; n < got.size(); ++n) {
      const double error = std::abs(got[n] - static_cast<double>(expected[n]));
      largest = std::max(largest, std::isnan(error) ? inf : error);
      mean += error * error;
    }
    mean = got.empty() ? 0 : std::sqrt(mean / static_cast<double>(got.size()));
  }
};

// How many times as large as on the CPU, at worst.
struct ratios {
  double mean = 0, largest = 0;

  void add(const errors& cuda, const errors& cpu) {
    if (cpu.mean == 0) return;
    mean = std::max(mean, cuda.mean / cpu.mean);
    largest = std::max(largest, cuda.largest / cpu.largest);
  }
};
std::ostream& operator<<(std::ostream& to, const ratios& of) {
  return to << of.mean << " (largest " << of.largest << ")";
}

}  // namespace

TEST_CASE("scan: types of two bytes are no worse than twice what they are on the CPU") {
  generator random(71);
  std::map<dtype, ratios> of_o, of_gradients;
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
      const errors o{ours->forward(x).o, expected.o_long}, cpu_o{cpu.forward(x).o, expected.o_long};
      of_o[cpu.type].add(o, cpu_o);
      CHECK(o.mean <= 2 * cpu_o.mean);
      CHECK(o.largest <= 2 * cpu_o.largest);

      incoming to = random_incoming(cpu, x, random);
      for (double& d : to.o) d = cpu.rounded(d);
      to.s.clear();
      to.z.clear();
      const gradients exact = wide.backward(x, to), gpu = ours->backward(x, to), of_cpu = cpu.backward(x, to);
      std::vector<numbers gradients::*> parts = {&gradients::q, &gradients::k, &gradients::v};
      if (logit_width(x.p) > 0) parts.push_back(&gradients::logits);  // else they are of heads, and not of two bytes
      for (const auto part : parts) {
        const errors gradient{gpu.*part, exact.*part}, cpu_gradient{of_cpu.*part, exact.*part};
        of_gradients[cpu.type].add(gradient, cpu_gradient);
        CHECK(gradient.mean <= 2 * cpu_gradient.mean);
        // Those of bfloat16 cancel after their operands were rounded; gradient_test has what is promised of them.
        if (cpu.type == dtype::float16) CHECK(gradient.largest <= 2 * cpu_gradient.largest);
      }
    }
  }
  MESSAGE("errors over the CPU's, at worst: bfloat16 o ", of_o[dtype::bfloat16], ", gradients ",
          of_gradients[dtype::bfloat16], "; float16 o ", of_o[dtype::float16], ", gradients ",
          of_gradients[dtype::float16]);
}
