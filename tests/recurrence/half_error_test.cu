// SPDX-License-Identifier: Apache-2.0
// The errors of the types of two bytes on CUDA beside those on the CPU, for the same questions.
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

// Errors of an array, the largest and the root of their mean square.
struct errors {
  double largest = 0, squares = 0;
  std::size_t count = 0;

  template <class Expected>
  void add(const numbers& got, const std::vector<Expected>& expected) {
    REQUIRE(got.size() == expected.size());
    for (std::size_t n = 0; n < got.size(); ++n) {
      const double error = std::abs(got[n] - static_cast<double>(expected[n]));
      largest = std::max(largest, std::isnan(error) ? inf : error);
      squares += error * error;
    }
    count += got.size();
  }
  double mean() const { return count > 0 ? std::sqrt(squares / static_cast<double>(count)) : 0; }
};

// The worst ratios of both kinds of error.
struct ratios {
  double largest = 0, mean = 0;

  void keep(const errors& ours, const errors& of_cpu) {
    if (of_cpu.largest > 0) largest = std::max(largest, ours.largest / of_cpu.largest);
    if (of_cpu.mean() > 0) mean = std::max(mean, ours.mean() / of_cpu.mean());
  }
};

}  // namespace

TEST_CASE("scan: types of two bytes are no worse than twice what they are on the CPU") {
  generator random(71);
  std::map<dtype, ratios> forward, backward;
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
      errors gpu_o, cpu_o;
      gpu_o.add(ours->forward(x).o, expected.o_long);
      cpu_o.add(cpu.forward(x).o, expected.o_long);
      forward[cpu.type].keep(gpu_o, cpu_o);
      CHECK(gpu_o.mean() <= 2 * cpu_o.mean());
      CHECK(gpu_o.largest <= 2 * cpu_o.largest);

      incoming to = random_incoming(cpu, x, random);
      for (double& d : to.o) d = cpu.rounded(d);
      to.s.clear();
      to.z.clear();
      const gradients exact = wide.backward(x, to), gpu = ours->backward(x, to), of_cpu = cpu.backward(x, to);
      for (auto part : {&gradients::q, &gradients::k, &gradients::v, &gradients::logits}) {
        errors gpu_part, cpu_part;
        gpu_part.add(gpu.*part, exact.*part);
        cpu_part.add(of_cpu.*part, exact.*part);
        backward[cpu.type].keep(gpu_part, cpu_part);
        CHECK(gpu_part.mean() <= 2 * cpu_part.mean());
        CHECK(gpu_part.largest <= 2 * cpu_part.largest);
      }
    }
  }
  const auto text = [](const ratios& of) {
    return "largest error " + std::to_string(of.largest) + ", root mean square " + std::to_string(of.mean);
  };
  MESSAGE("errors over the CPU's: bfloat16 o ", text(forward[dtype::bfloat16]), ", gradients ",
          text(backward[dtype::bfloat16]), "; float16 o ", text(forward[dtype::float16]), ", gradients ",
          text(backward[dtype::float16]));
}
