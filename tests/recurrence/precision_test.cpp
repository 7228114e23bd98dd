// SPDX-License-Identifier: Apache-2.0
// The worst error of each storage type against the long double oracle, as the table of the documentation.
#include <doctest/doctest.h>

#include <array>
#include <cstdio>
#include <sstream>
#include <vector>

#include "../oracle/recurrence.hpp"
#include "cases.hpp"
#include "random_question.hpp"

using namespace cases;

namespace {

constexpr std::array types = {dtype::float64, dtype::float32, dtype::bfloat16, dtype::float16};
constexpr const char* type_names[] = {"double", "float", "bfloat16", "float16"};

// The worst errors of an output, whole and token by token, in units of rounding.
struct errors {
  double whole = -1, steps = -1;
};

// 500 tokens of heads that are neither small nor a power of two.
errors measure(const operation& op, generator& random) {
  errors worst;
  for (const double logits : {3.0, 30.0}) {
    question x = random_question(op, random,
                                 {.logits = logits,
                                  .log_decays = -logits / 10,
                                  .keys = 67,
                                  .values = 35,
                                  .batch = 1,
                                  .heads = 1,
                                  .grid = {500},
                                  .prefix = 0});
    x.chunk = 32;
    INFO(describe(op, x));
    const auto expected = oracle::naive_recurrence(x.p);
    worst.whole = std::max(worst.whole, op.output_error(op.forward(x).o, expected.o_long, expected.unit));
    CHECK(worst.whole <= op.tolerance());
    if (!op.steps) continue;
    worst.steps = std::max(worst.steps, op.output_error(op.steps(x).o, expected.o_long, expected.unit));
    CHECK(worst.steps <= op.step_tolerance(x.p.tokens));
  }
  return worst;
}

std::string cell(const errors& worst) {
  const auto number = [](double error) {
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), "%.1f", error);
    return std::string(text.data());
  };
  if (worst.whole < 0) return "";
  return number(worst.whole) + (worst.steps < 0 ? "" : " / " + number(worst.steps));
}

}  // namespace

TEST_CASE("precision: the worst error of every storage type") {
  generator random(51);
  std::vector<std::string> names;
  for (const operation& op : operations()) {
    const bool one_way = op.causal() || !op.ordered();
    const std::string name = op.name.substr(0, op.name.rfind(' '));
    if (op.type == dtype::float32 && op.dims == 1 && one_way && op.like.position == oracle::encoding::none)
      names.push_back(name);
  }
  std::ostringstream table;
  table << "| whole / step by step |";
  for (const char* type : type_names) table << ' ' << type << " |";
  table << "\n|---|---|---|---|---|\n";
  for (const std::string& name : names) {
    table << "| " << name.substr(0, name.rfind(" none")) << " |";
    for (std::size_t n = 0; n < types.size(); ++n) {
      errors worst;
      for (const operation& op : operations()) {
        if (op.type == types[n] && op.name.substr(0, op.name.rfind(' ')) == name) worst = measure(op, random);
      }
      table << ' ' << cell(worst) << " |";
    }
    table << '\n';
  }
  MESSAGE(
      "the worst error of an output in its unit, u times the sum of the magnitudes of its terms; u is 2^-53 for "
      "double and 2^-24 else, for outputs of two bytes beside the rounding in which they are stored\n",
      table.str());
}
