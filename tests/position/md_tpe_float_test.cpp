// SPDX-License-Identifier: Apache-2.0
// MD-TPE in float: how far it is from the direct long convolution; in bfloat16: that it is the one in float, rounded.
#include "md_tpe.hpp"

#include <doctest/doctest.h>

#include "../oracle/tolerance.hpp"

namespace {

namespace ln = lightnet;

template <class Question>
double error_of(const Question& question) {
  const oracle::tpe_answer answer = oracle::md_tpe(question.p);
  return oracle::error_in_units(question.forward(), answer.y, answer.unit, oracle::float_epsilon);
}

template <int Width, int Modes, bool BothWays, int Dims>
void check_rounded(const tpe::question<Width, Modes, BothWays, Dims, ln::bfloat16>& narrow,
                   tpe::question<Width, Modes, BothWays, Dims, float> wide) {
  using numbers::cast, numbers::same_bits;
  wide.p = narrow.p;
  const auto dy = cast<double>(cast<ln::bfloat16>(numbers::normal(static_cast<std::int64_t>(wide.p.x.size()), 7)));
  const auto start = cast<ln::bfloat16>(dy);
  CHECK(same_bits(narrow.forward(), cast<ln::bfloat16>(wide.forward())));
  const auto d = narrow.backward(dy), added = narrow.template backward<ln::write::add>(dy, start);
  const auto exact = wide.backward(dy), sum = wide.template backward<ln::write::add>(dy, cast<float>(start));
  CHECK(same_bits(d.x, cast<ln::bfloat16>(exact.x)));
  CHECK(same_bits(d.parameters, cast<ln::bfloat16>(exact.parameters)));
  CHECK(same_bits(added.x, cast<ln::bfloat16>(sum.x)));
}

}  // namespace

TEST_CASE("MD-TPE in float is the direct long convolution within 32 units") {
  double worst = 0;
  for (const bool masked : {false, true}) {
    for (const std::int64_t prefix : {0, 2}) {
      const double errors[] = {
          error_of(tpe::question<37, 3, true, 1, float>({41}, 2, prefix, masked)),
          error_of(tpe::question<19, 16, false, 2, float>({{7, 12}}, 2, prefix, masked)),
          error_of(tpe::question<3, 1, true, 3, float>({{3, 5, 4}}, 2, prefix, masked)),
      };
      for (const double error : errors) {
        CHECK(error <= 32);
        worst = std::max(worst, error);
      }
    }
  }
  MESSAGE("MD-TPE in float: at most " << worst << " units");
}

TEST_CASE("MD-TPE in float keeps its digits over long lines and with slow decays") {
  for (const double gamma : {-6.0, -9.0}) {
    tpe::question<1, 1, false, 1, float> question({1201}, 1, 0, false);
    question.p.x.assign(question.p.x.size(), 1);
    question.p.gamma = {gamma};
    CHECK(error_of(question) <= 32 + 1201.0 / 32);
  }
}

TEST_CASE("MD-TPE in bfloat16 is that in float, every number rounded once") {
  check_rounded<37, 3, true, 1>({{41}, 2, 0, true}, {{41}, 2, 0, true});
  check_rounded<19, 16, false, 2>({{7, 12}, 19, 2, false}, {{7, 12}, 19, 2, false});
}
