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

#include "../few.hpp"
#include "../oracle/recurrence.hpp"
#include "cases.hpp"
#include "cases_cpu.hpp"
#include "random_question.hpp"

namespace {

using namespace cases;

// Of a tensor against the right one, in units of the largest number in that, question after question: the root mean square,
// and the worst.
class errors {
 public:
  double worst = 0;

  double mean() const { return count_ == 0 ? 0 : std::sqrt(squares_ / static_cast<double>(count_)); }

  template <class Expected>
  void add(const numbers& got, const std::vector<Expected>& expected) {
    REQUIRE(got.size() == expected.size());
    double unit = 0;
    for (const auto& right : expected) unit = std::max(unit, std::abs(static_cast<double>(right)));
    for (std::size_t n = 0; n < got.size(); ++n) {
      const double apart = std::abs(got[n] - static_cast<double>(expected[n])), error = apart == 0 ? 0 : apart / unit;
      worst = std::max(worst, std::isnan(error) ? inf : error);
      squares_ += error * error;
    }
    count_ += got.size();
  }

 private:
  double squares_ = 0;
  std::size_t count_ = 0;
};

struct pair_of_errors {
  errors cuda, cpu;
};

// How many times as large as on the CPU, at worst.
struct ratios {
  double mean = 0, worst = 0;

  void add(const pair_of_errors& of) {
    CHECK(of.cuda.mean() <= 2 * of.cpu.mean());
    CHECK(of.cuda.worst <= 2 * of.cpu.worst);
    if (of.cpu.worst == 0) return;
    mean = std::max(mean, of.cuda.mean() / of.cpu.mean());
    worst = std::max(worst, of.cuda.worst / of.cpu.worst);
  }
};
std::ostream& operator<<(std::ostream& to, const ratios& of) { return to << of.mean << " (worst " << of.worst << ")"; }

}  // namespace

TEST_CASE("scan: types of two bytes are no worse than twice what they are on the CPU") {
  generator without_encoding(71), with_encoding(72);  // so that a case does not change the questions of the others
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
      INFO(ours->name);
      generator& random = cpu.like.position == oracle::encoding::none ? without_encoding : with_encoding;
      pair_of_errors o;
      std::map<std::string, pair_of_errors> of_inputs;
      for (int round = 0; round < often(16); ++round) {
        question x = random_question(cpu, random,
                                     {.logits = 3,
                                      .log_decays = -1,
                                      .keys = 64,
                                      .values = 64,
                                      .batch = 1,
                                      .heads = 2,
                                      .grid = grid,
                                      .prefix = 0});
        const auto expected = oracle::naive_recurrence(x.p);
        o.cuda.add(ours->forward(x).o, expected.o_long);
        o.cpu.add(cpu.forward(x).o, expected.o_long);

        incoming to = random_incoming(cpu, x, random);
        for (double& d : to.o) d = cpu.rounded(d);
        to.s.clear();
        to.z.clear();
        const gradients exact = wide.backward(x, to), gpu = ours->backward(x, to), of_cpu = cpu.backward(x, to);
        const auto compare = [&](const char* name, numbers gradients::*part) {
          of_inputs[name].cuda.add(gpu.*part, exact.*part);
          of_inputs[name].cpu.add(of_cpu.*part, exact.*part);
        };
        compare("q", &gradients::q);
        compare("k", &gradients::k);
        compare("v", &gradients::v);
        if (logit_width(x.p) > 0)
          compare("logits", &gradients::logits);  // else they are of heads, and not of two bytes
      }
      of_o[cpu.type].add(o);
      for (const auto& [name, of] : of_inputs) {
        INFO(name);
        of_gradients[cpu.type].add(of);
      }
    }
  }
  MESSAGE("errors over the CPU's, at worst: bfloat16 o ", of_o[dtype::bfloat16], ", gradients ",
          of_gradients[dtype::bfloat16], "; float16 o ", of_o[dtype::float16], ", gradients ",
          of_gradients[dtype::float16]);
}
